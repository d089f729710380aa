#include "kill_point.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>

namespace msb::test {
namespace {

using SyscallInfo = struct __ptrace_syscall_info;

bool changes_files(std::uint64_t number, const std::uint64_t* args) {
    switch (number) {
        case SYS_write:
        case SYS_writev:
        case SYS_pwrite64:
        case SYS_pwritev:
        case SYS_copy_file_range:
        case SYS_truncate:
        case SYS_ftruncate:
        case SYS_fallocate:
        case SYS_rename:
        case SYS_renameat:
        case SYS_renameat2:
        case SYS_link:
        case SYS_linkat:
        case SYS_symlink:
        case SYS_symlinkat:
        case SYS_unlink:
        case SYS_unlinkat:
        case SYS_mkdir:
        case SYS_mkdirat:
        case SYS_rmdir:
        case SYS_chmod:
        case SYS_fchmod:
        case SYS_fchmodat:
            return true;
        case SYS_open:
            return (args[1] & O_CREAT) != 0;
        case SYS_openat:
            return (args[2] & O_CREAT) != 0;
        default:
            return false;
    }
}

[[noreturn]] void run_child(const std::function<void()>& body) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(2);
    ::raise(SIGSTOP);  // until the tracer has set its options
    try {
        body();
    } catch (...) {
        ::_exit(1);
    }
    ::_exit(0);
}

int wait_for(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
    return status;
}

void check(long result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
}

// Kills and reaps the child unless it has been reaped: also when tracing fails in the middle.
class TracedChild {
  public:
    explicit TracedChild(const std::function<void()>& body) : pid_(::fork()) {
        check(pid_, "fork");
        if (pid_ == 0) run_child(body);
    }
    ~TracedChild() {
        if (pid_ > 0) kill();
    }
    TracedChild(const TracedChild&) = delete;
    TracedChild& operator=(const TracedChild&) = delete;

    pid_t pid() const { return pid_; }

    // The next status; a status that ends the child is its last.
    int wait() {
        const int status = wait_for(pid_);
        if (!WIFSTOPPED(status)) pid_ = 0;
        return status;
    }

    void kill() {
        ::kill(pid_, SIGKILL);
        while (WIFSTOPPED(wait_for(pid_))) {
        }
        pid_ = 0;
    }

  private:
    pid_t pid_;
};

}  // namespace

bool killed_before_change(std::size_t n, const std::function<void()>& body) {
    TracedChild child(body);
    int status = child.wait();
    if (!WIFSTOPPED(status)) throw std::runtime_error("the child may not be traced");
    check(::ptrace(PTRACE_SETOPTIONS, child.pid(), nullptr,
                   PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL),
          "PTRACE_SETOPTIONS");
    long signal = 0;  // to pass on; the first stop's SIGSTOP is not
    for (std::size_t changes = 0;;) {
        check(::ptrace(PTRACE_SYSCALL, child.pid(), nullptr, signal), "PTRACE_SYSCALL");
        status = child.wait();
        if (!WIFSTOPPED(status)) {
            if (status != 0)
                throw std::runtime_error("the child failed, status " + std::to_string(status));
            return false;
        }
        signal = WSTOPSIG(status);
        if (signal != (SIGTRAP | 0x80)) continue;  // not a system call: a signal on its way
        signal = 0;
        SyscallInfo info{};
        check(::ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), &info),
              "PTRACE_GET_SYSCALL_INFO");
        if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !changes_files(info.entry.nr, info.entry.args))
            continue;
        if (++changes == n) {
            child.kill();
            return true;
        }
    }
}

}  // namespace msb::test
