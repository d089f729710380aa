// Handing PID 1 to the image's own init (spec/guest-agent.md section 7).
#pragma once

#include "agentd/environment.h"
#include "protocol/messages.h"

namespace msb::agentd {

// Forks. In the parent (PID 1) it becomes the init and never returns; in the child it returns, and the
// agent goes on as an ordinary process in its own session. Must run before threads exist.
// Throws Failure when the init is missing or unusable.
void hand_off(const protocol::HandoffInit& init, const Environment& environment);

// Shutdown in this mode: ask the init to power off, give it time, leave disks clean, end the VM.
[[noreturn]] void shut_down_handed_off(int upper_fs);

}  // namespace msb::agentd
