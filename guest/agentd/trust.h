// Certificate authorities the host hands in, and the shell profile block
// (spec/guest-agent.md sections 5.6 and 5.7).
#pragma once

#include <string>
#include <string_view>

#include "agentd/environment.h"

namespace msb::agentd {

// `bundle` with `pem` appended unless it is in there already (a persistent root boots many times).
std::string with_certificates(std::string_view bundle, std::string_view pem);

// Installs /.msb/tls/ca.pem and host-cas.pem where present; the interception CA also sets the usual
// variables in `environment`. Throws Failure when the bundle cannot be written.
void install_certificates(Environment& environment);

// `profile` with the block that puts /.msb/scripts on PATH, or unchanged when it has it.
std::string with_scripts_block(std::string_view profile);

// /etc/profile, /run and /run/microsandbox. Throws Failure.
void set_up_shell_and_run();

}  // namespace msb::agentd
