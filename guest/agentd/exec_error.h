// How a process that could not be started is reported (spec/guest-agent.md section 9).
#pragma once

#include <string>
#include <string_view>

#include "protocol/messages.h"

namespace msb::agentd {

protocol::ExecFailedKind exec_failed_kind(int err);

// A system call failed: message `spawn "CMD": TEXT (os error N)`.
protocol::ExecFailed spawn_failure(int err, std::string_view command, std::string_view stage);
// Anything else: kind other, only the message (and perhaps the stage).
protocol::ExecFailed other_failure(std::string message);

// The failed write of one stdin frame.
protocol::ExecStdinError stdin_failure(int err);

}  // namespace msb::agentd
