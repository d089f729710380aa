// Starting one process of an exec session.
//
// The child shares the agent's memory until it execs (clone with CLONE_VM | CLONE_VFORK), which costs
// no page-table copy however large the agent is. Between clone and exec it only makes system calls on
// data prepared here: no allocation, no locks, no libc wrapper that signals other threads.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "agentd/rlimits.h"
#include "agentd/users.h"

namespace msb::agentd {

struct SpawnPlan {
    std::vector<std::string> candidates;  // paths to try, from executable_candidates()
    std::vector<std::string> argv;
    std::vector<std::string> env;  // "K=V"
    std::optional<std::string> cwd;
    bool tty = false;  // the descriptors are one pty slave, to become the controlling terminal
    bool restricted = false;
    Identity identity;
    std::vector<ResourceLimit> limits;
    std::optional<rlimit> nofile;  // what the agent itself started with: its own limit is higher
    // Become 0, 1 and 2. All above 2 and close-on-exec.
    int stdin_fd = -1;
    int stdout_fd = -1;
    int stderr_fd = -1;
};

struct SpawnResult {
    pid_t pid = -1;
    int error = 0;        // errno of the step that failed; the child is reaped already
    bool forked = false;  // the failure, if any, came after the fork
};

// Only for the thread that reaps. In tty mode only a failing exec is an error: after any other
// failure the child exits with status 1, as the spec has it (section 9, the two columns).
SpawnResult spawn_process(const SpawnPlan& plan);

}  // namespace msb::agentd
