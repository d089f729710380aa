// Bounds the host processors that vCPU threads may use.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace msb::vmm {

// Lets `threads` of process `pid` run on at most `online` of the host processors this process may
// use; on all of them when `online` is 0 or not fewer than there are. Which ones is spread by
// `pid`, so that many limited machines do not share processor 0. Thread ids come from the engine
// and may lie: those that are not threads of `pid` are passed over.
void limit_threads(pid_t pid, const std::vector<std::int64_t>& threads, unsigned online) noexcept;

// Binds the i-th thread to processors[i], those from `online` on to the first `online` processors in
// turn. `processors` must not be empty, `online` not 0. One flag per processor: bound.
std::vector<bool> bind_threads(pid_t pid, const std::vector<std::int64_t>& threads,
                               const std::vector<int>& processors, unsigned online);

}  // namespace msb::vmm
