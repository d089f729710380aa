#include "vmm/cpu_limit.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>

#include "base/process.h"

namespace msb::vmm {
namespace {

bool bind_thread(pid_t pid, std::int64_t thread, const cpu_set_t& set) {
    if (thread <= 0 || thread > std::numeric_limits<pid_t>::max()) return false;
    const std::string task = fmt::format("/proc/{}/task/{}", pid, thread);
    if (::access(task.c_str(), F_OK) != 0) return false;
    return ::sched_setaffinity(static_cast<pid_t>(thread), sizeof set, &set) == 0;
}

}  // namespace

void limit_threads(pid_t pid, const std::vector<std::int64_t>& threads, unsigned online) noexcept
    try {
    std::vector<int> processors = allowed_processors();
    if (processors.empty()) return;
    if (online != 0 && online < processors.size()) {
        std::ranges::rotate(processors,
                            processors.begin() + pid % static_cast<int>(processors.size()));
        processors.resize(online);
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int cpu : processors)
        CPU_SET(cpu, &set);
    for (const std::int64_t thread : threads)
        (void)bind_thread(pid, thread, set);
} catch (...) {  // out of memory: the limit stays as it was
}

std::vector<bool> bind_threads(pid_t pid, const std::vector<std::int64_t>& threads,
                               const std::vector<int>& processors, unsigned online) {
    std::vector<bool> bound(processors.size());
    if (online == 0) return bound;
    for (std::size_t i = 0; i < std::min(threads.size(), processors.size()); ++i) {
        const int processor = processors[i < online ? i : i % online];
        if (processor < 0 || processor >= CPU_SETSIZE) continue;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(processor, &set);
        bound[i] = bind_thread(pid, threads[i], set);
    }
    return bound;
}

}  // namespace msb::vmm
