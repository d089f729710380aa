// A sandbox process this process started: knowing when and how it ended, without leaving zombies.
#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>

#include "base/fd.h"
#include "sdk/wait.h"

namespace msb::sdk {

// Thread-safe. When the object goes away while the process still runs, a background thread reaps it later.
class ChildProcess {
  public:
    // Takes over a direct child nobody else waits for.
    explicit ChildProcess(pid_t pid);
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;
    ~ChildProcess();

    pid_t pid() const noexcept { return pid_; }
    // Readable once the process has ended; -1 where the kernel has no pidfd.
    int exit_fd() const noexcept { return pidfd_.get(); }
    // The wait status once it has ended, without waiting.
    std::optional<int> poll();
    // nullopt: the deadline passed.
    std::optional<int> wait(const Deadline& deadline, const Cancel& cancel);
    void send_signal(int signal) noexcept;  // nothing once it was reaped

  private:
    const pid_t pid_;
    UniqueFd pidfd_;
    std::mutex mutex_;
    std::optional<int> status_;
};

// Waits until process `pid` (not necessarily a child) is gone or a zombie. False: the deadline passed first.
bool wait_process_gone(pid_t pid, const Deadline& deadline, const Cancel& cancel);

}  // namespace msb::sdk
