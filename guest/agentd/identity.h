// Who the guest is: hostname, /etc/hosts, and the world-writable directories every image needs
// (spec/guest-agent.md section 5.4).
#pragma once

#include <string>

#include "protocol/messages.h"

namespace msb::agentd {

// The whole content of /etc/hosts.
std::string hosts_file(const protocol::Bootstrap& bootstrap);

// Writes /etc/hosts, sets the hostname, makes /tmp and /var/tmp usable. Throws Failure.
void set_up_identity(const protocol::Bootstrap& bootstrap);

}  // namespace msb::agentd
