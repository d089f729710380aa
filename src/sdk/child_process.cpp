#include "sdk/child_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "base/process.h"

namespace msb::sdk {

namespace {
constexpr std::chrono::milliseconds kPollInterval{10};  // only where there is no pidfd

// (glibc 2.36 declares pidfd_open() without extern "C".) -1 where the kernel has none.
int open_pidfd(pid_t pid) {
    return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}
}  // namespace

ChildProcess::ChildProcess(pid_t pid) : pid_(pid), pidfd_(open_pidfd(pid)) {}

ChildProcess::~ChildProcess() {
    if (poll()) return;
    try {
        std::thread([pid = pid_] {
            int status = 0;
            while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
            }
        }).detach();
    } catch (const std::system_error&) {
        // No thread to be had: the zombie stays until this process ends.
    }
}

std::optional<int> ChildProcess::poll() {
    std::scoped_lock lock(mutex_);
    if (status_) return status_;
    int status = 0;
    pid_t got = ::waitpid(pid_, &status, WNOHANG);
    if (got == pid_) status_ = status;
    // Somebody else reaped it (a program that waits for any child): how it ended is lost.
    if (got < 0 && errno == ECHILD) status_ = 0;
    return status_;
}

std::optional<int> ChildProcess::wait(const Deadline& deadline, const Cancel& cancel) {
    for (;;) {
        if (auto status = poll()) return status;
        if (pidfd_) {
            if (wait_for(pidfd_.get(), POLLIN, deadline, cancel) == Ready::kTimeout) return poll();
        } else {
            if (deadline && Clock::now() >= *deadline) return std::nullopt;
            sleep_for(kPollInterval, cancel);
        }
    }
}

void ChildProcess::send_signal(int signal) noexcept {
    std::scoped_lock lock(mutex_);
    if (!status_) ::kill(pid_, signal);  // unreaped, so the number is still this process's
}

bool wait_process_gone(pid_t pid, const Deadline& deadline, const Cancel& cancel) {
    UniqueFd pidfd(open_pidfd(pid));
    while (process_alive(pid)) {
        if (pidfd) {
            if (wait_for(pidfd.get(), POLLIN, deadline, cancel) == Ready::kTimeout)
                return !process_alive(pid);
        } else {
            if (deadline && Clock::now() >= *deadline) return false;
            sleep_for(kPollInterval, cancel);
        }
    }
    return true;
}

}  // namespace msb::sdk
