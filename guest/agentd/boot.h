// From the kernel's exec of PID 1 to a sandbox that can serve (spec/guest-agent.md section 2).
#pragma once

#include <cstdint>

#include "agentd/config.h"
#include "agentd/port.h"
#include "base/fd.h"

namespace msb::agentd {

struct Booted {
    UniqueFd port;
    UniqueFd runtime_port;  // empty when the host offers none
    protocol::FrameReader reader;
    UniqueFd upper_fs;  // below an overlay root
    AgentConfig config;
    std::uint64_t init_time_ns = 0;
};

// Runs steps 2 to 19. On a hand-off it returns only in the agent's process. Failures print their line
// ("agentd: init failed: ...") and end the process with status 1, which resets the VM.
Booted boot();

}  // namespace msb::agentd
