// Questions about processes, and spawning a child with an exact set of descriptors.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace msb {

// pid > 0, exists (EPERM counts) and is not a zombie: "alive" as state.md section 7 means it.
bool process_alive(pid_t pid);
// "exit status: 1" or "signal: 9 (SIGKILL)", the way Rust displays an ExitStatus.
std::string exit_status_text(int wait_status);
// The running executable (/proc/self/exe).
std::string self_executable();

// The host processors this process may run on, ascending; empty when the kernel does not say.
std::vector<int> allowed_processors();

struct SpawnOptions {
    std::vector<std::string> argv;  // argv[0] is the path that is executed; no PATH search
    std::optional<std::vector<std::string>> env;  // "K=V"; nullopt inherits
    // (source descriptor, number in the child). Everything else that is close-on-exec stays behind.
    std::vector<std::pair<int, int>> fds;
    std::optional<std::string> cwd;
    bool new_session = false;  // setsid()
    bool new_process_group =
        false;                    // setpgid(0, 0): signals of the terminal's keys do not reach it
    bool ignore_sighup = false;   // SIG_IGN, inherited through exec
    bool reset_signals = false;   // every handler to default and an empty mask
    int parent_death_signal = 0;  // PR_SET_PDEATHSIG; the spawning thread must outlive the child
    bool no_new_privileges = false;
};

// fork + exec. Throws Error{kIo} "<path>: No such file or directory (os error 2)" when the exec
// itself fails.
pid_t spawn(const SpawnOptions& options);

}  // namespace msb
