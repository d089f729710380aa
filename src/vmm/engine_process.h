// The engine's process: spawned with exactly the descriptors it needs, dying with us, reaped by us.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace msb::vmm {

struct EngineSpawn {
    std::filesystem::path executable;  // absolute, or with a slash; no PATH search
    std::vector<std::string> arguments;
    // (our descriptor, its number in the engine); 0, 1 and 2 are set up by spawn itself.
    std::vector<std::pair<int, int>> fds;
    std::vector<int> inherited_fds;  // kept under their own numbers
    int output = -1;                 // standard output and error
};

class EngineProcess {
  public:
    // Throws Error{kCustom} "<executable>: <os error>" when the exec fails.
    explicit EngineProcess(const EngineSpawn& spawn);
    ~EngineProcess();  // kills and reaps
    EngineProcess(const EngineProcess&) = delete;
    EngineProcess& operator=(const EngineProcess&) = delete;

    pid_t pid() const noexcept { return pid_; }
    int pidfd() const noexcept { return pidfd_.get(); }  // readable once it has exited
    // The wait status once the process has ended (then reaped).
    std::optional<int> try_reap() noexcept;
    int
    kill_and_reap() noexcept;  // SIGKILL; the wait status, the old one when it was reaped before

  private:
    pid_t pid_ = -1;
    UniqueFd pidfd_;
    std::optional<int> status_;
};

}  // namespace msb::vmm
