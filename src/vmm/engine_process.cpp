#include "vmm/engine_process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/error.h"

namespace msb::vmm {
namespace {

// Everything the child needs, made before fork: after it only async-signal-safe calls are allowed.
struct ChildPlan {
    std::vector<char*> argv;
    std::vector<char*> envp;
    std::vector<std::pair<int, int>> fds;  // with 0, 1, 2
    std::vector<int> kept;                 // sorted numbers that stay open
    int first_free = 0;                    // above every target
    int error_pipe = -1;
    pid_t parent = -1;
    const char* executable = nullptr;
};

// The environment of the engine: nothing of the caller's that could be a secret.
std::vector<std::string> engine_environment() {
    std::vector<std::string> result;
    for (const char* name : {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "ASAN_OPTIONS"})
        if (const char* value = std::getenv(name))
            result.push_back(std::string(name) + "=" + value);
    result.emplace_back("LC_ALL=C");
    return result;
}

[[noreturn]] void fail(const ChildPlan& plan) {
    const int error = errno;
    (void)!::write(plan.error_pipe, &error, sizeof error);
    ::_exit(127);
}

void reset_signals() {
    for (int signal = 1; signal < NSIG; ++signal)
        ::signal(signal, SIG_DFL);  // fails for SIGKILL, SIGSTOP and libc's own: as it should
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

bool place_descriptors(ChildPlan& plan) {
    // First out of the way of every target, then onto it.
    for (auto& [source, target] : plan.fds) {
        source = ::fcntl(source, F_DUPFD_CLOEXEC, plan.first_free);
        if (source < 0) return false;
    }
    const int error_pipe = ::fcntl(plan.error_pipe, F_DUPFD_CLOEXEC, plan.first_free);
    if (error_pipe < 0) return false;
    plan.error_pipe = error_pipe;
    for (const auto& [source, target] : plan.fds)
        if (::dup2(source, target) < 0) return false;
    for (const int fd : plan.kept)
        if (::fcntl(fd, F_SETFD, 0) < 0) return false;
    // Close the gaps between what is kept. The error pipe has to survive until exec.
    unsigned next = 0;
    for (const int fd : plan.kept) {
        if (next < static_cast<unsigned>(fd)) ::close_range(next, static_cast<unsigned>(fd) - 1, 0);
        next = static_cast<unsigned>(fd) + 1;
    }
    return ::close_range(next, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

// The engine talks to nobody but us, through descriptors it is given: without a network and without
// System V IPC of the host, code a guest has smuggled into it cannot either. Best effort: hosts may
// forbid namespaces, and a machine without is better than none. (0.4 ms, docs/engine.md.)
void leave_host_network() {
    constexpr int kNamespaces = CLONE_NEWNET | CLONE_NEWIPC;
    // Root keeps its user namespace, and with it the right to open files of other users.
    if (::unshare(kNamespaces) != 0) (void)::unshare(kNamespaces | CLONE_NEWUSER);
}

[[noreturn]] void run_child(ChildPlan plan) {
    reset_signals();
    // A terminal's Ctrl-C is for the program in the guest, not for the engine.
    ::setsid();
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    leave_host_network();
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(plan);
    if (!place_descriptors(plan)) fail(plan);
    // After the change of namespaces, which clears it.
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail(plan);
    if (::getppid() != plan.parent) ::_exit(127);  // it died before the line above
    ::execve(plan.executable, plan.argv.data(), plan.envp.data());
    fail(plan);
}

}  // namespace

EngineProcess::EngineProcess(const EngineSpawn& spawn) {
    const std::string executable = spawn.executable.string();
    std::vector<std::string> environment = engine_environment();
    UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null) throw_os_error(errno, "/dev/null");
    PipeFds error_pipe = make_pipe();
    const int output = spawn.output >= 0 ? spawn.output : null.get();

    ChildPlan plan;
    plan.executable = executable.c_str();
    plan.argv.push_back(const_cast<char*>(executable.c_str()));
    for (const std::string& argument : spawn.arguments)
        plan.argv.push_back(const_cast<char*>(argument.c_str()));
    plan.argv.push_back(nullptr);
    for (std::string& variable : environment)
        plan.envp.push_back(variable.data());
    plan.envp.push_back(nullptr);
    plan.fds = {{null.get(), STDIN_FILENO}, {output, STDOUT_FILENO}, {output, STDERR_FILENO}};
    plan.fds.insert(plan.fds.end(), spawn.fds.begin(), spawn.fds.end());
    for (const auto& [source, target] : plan.fds)
        plan.kept.push_back(target);
    plan.kept.insert(plan.kept.end(), spawn.inherited_fds.begin(), spawn.inherited_fds.end());
    std::ranges::sort(plan.kept);
    plan.first_free = plan.kept.back() + 1;
    plan.error_pipe = error_pipe.write.get();
    plan.parent = ::getpid();

    pid_ = ::fork();
    if (pid_ < 0) throw_os_error(errno, "fork");
    if (pid_ == 0) run_child(std::move(plan));

    error_pipe.write.reset();
    int error = 0;
    const std::ptrdiff_t n =
        read_exactly(error_pipe.read.get(), std::as_writable_bytes(std::span(&error, 1)));
    if (n == static_cast<std::ptrdiff_t>(sizeof error)) {
        kill_and_reap();
        throw Error(ErrorCode::kCustom, executable + ": " + os_error_text(error));
    }
    // Nobody else reaps, so the pid is still ours.
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    if (!pidfd_) {
        const int pidfd_error = errno;
        kill_and_reap();
        throw_os_error(pidfd_error, "pidfd_open");
    }
    set_cloexec(pidfd_.get(), true);
}

EngineProcess::~EngineProcess() {
    kill_and_reap();
}

std::optional<int> EngineProcess::try_reap() noexcept {
    if (status_) return status_;
    int status = 0;
    pid_t got = 0;
    do {
        got = ::waitpid(pid_, &status, WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got == 0) return std::nullopt;
    // ECHILD: somebody else reaped it against the rules; it has ended all the same.
    status_ = got == pid_ ? status : 0;
    return status_;
}

int EngineProcess::kill_and_reap() noexcept {
    if (pid_ <= 0) return 0;
    if (const auto status = try_reap()) return *status;
    ::kill(pid_, SIGKILL);  // not reaped yet, so the number still names our child
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0) {
        if (errno != EINTR) break;
    }
    status_ = status;
    return status;
}

}  // namespace msb::vmm
