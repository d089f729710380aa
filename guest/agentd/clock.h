// core.clock.sync (spec/guest-agent.md section 13).
#pragma once

#include <cstdint>

namespace msb::agentd {

// Whether a clock that shows `now_ns` is too far off (more than 100 ms).
bool clock_needs_step(std::int64_t now_ns, std::uint64_t target_ns);

// Steps CLOCK_REALTIME when needed. Failures are only logged.
void sync_clock(std::uint64_t target_ns);

}  // namespace msb::agentd
