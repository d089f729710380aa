#include "base/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace msb {

namespace {

std::vector<char*> c_strings(const std::vector<std::string>& strings) {
    std::vector<char*> pointers;
    pointers.reserve(strings.size() + 1);
    for (const std::string& s : strings)
        pointers.push_back(const_cast<char*>(s.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

// Everything the child does between fork and exec: only async-signal-safe calls. Returns the errno
// of what failed.
int prepare_child(const SpawnOptions& options, std::vector<std::pair<int, int>>& fds,
                  pid_t parent) {
    if (options.reset_signals) {
        for (int signal = 1; signal < NSIG; ++signal)
            ::signal(signal, SIG_DFL);
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
    }
    if (options.ignore_sighup) ::signal(SIGHUP, SIG_IGN);
    if (options.new_session && ::setsid() < 0) return errno;
    if (options.new_process_group && ::setpgid(0, 0) != 0) return errno;
    if (options.parent_death_signal != 0) {
        if (::prctl(PR_SET_PDEATHSIG, options.parent_death_signal) != 0) return errno;
        if (::getppid() != parent) return ESRCH;  // the parent died before the request took effect
    }
    if (options.no_new_privileges && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    if (options.cwd && ::chdir(options.cwd->c_str()) != 0) return errno;

    // Move the sources above every target first, so that no dup2 overwrites a source still needed.
    int floor = 3;
    for (const auto& [source, target] : fds)
        floor = std::max(floor, target + 1);
    for (auto& [source, target] : fds) {
        source = ::fcntl(source, F_DUPFD_CLOEXEC, floor);
        if (source < 0) return errno;
    }
    for (const auto& [source, target] : fds) {
        if (::dup2(source, target) < 0) return errno;
    }
    return 0;
}

}  // namespace

bool process_alive(pid_t pid) {
    if (pid <= 0) return false;
    if (::kill(pid, 0) != 0 && errno != EPERM) return false;
    std::string stat;
    try {
        stat = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
    } catch (const Error&) {
        return false;  // gone between the two looks
    }
    // "pid (comm) S ...": comm may hold anything, parentheses too.
    std::size_t close = stat.rfind(')');
    if (close == std::string::npos || close + 2 >= stat.size()) return true;
    return stat[close + 2] != 'Z' && stat[close + 2] != 'X';
}

std::string exit_status_text(int wait_status) {
    if (WIFEXITED(wait_status)) return "exit status: " + std::to_string(WEXITSTATUS(wait_status));
    if (WIFSIGNALED(wait_status)) {
        int signal = WTERMSIG(wait_status);
        const char* name = ::sigabbrev_np(signal);
        std::string text = "signal: " + std::to_string(signal);
        if (name != nullptr) text += " (SIG" + std::string(name) + ")";
        if (WCOREDUMP(wait_status)) text += " (core dumped)";
        return text;
    }
    return "wait status: " + std::to_string(wait_status);
}

std::vector<int> allowed_processors() {
    std::vector<int> processors;
    cpu_set_t allowed;
    if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return processors;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &allowed)) processors.push_back(cpu);
    return processors;
}

std::string self_executable() {
    std::array<char, 4096> buffer;
    ssize_t length = ::readlink("/proc/self/exe", buffer.data(), buffer.size());
    if (length < 0) throw_os_error(errno, "resolve /proc/self/exe");
    return {buffer.data(), static_cast<std::size_t>(length)};
}

pid_t spawn(const SpawnOptions& options) {
    if (options.argv.empty()) throw Error(ErrorCode::kRuntime, "spawn needs a program");
    std::vector<char*> argv = c_strings(options.argv);
    std::vector<char*> env = options.env ? c_strings(*options.env) : std::vector<char*>{};
    std::vector<std::pair<int, int>> fds = options.fds;
    // The exec's errno comes back through a close-on-exec pipe: EOF means that it succeeded.
    PipeFds failure = make_pipe();

    pid_t parent = ::getpid();
    pid_t pid = ::fork();
    if (pid < 0) throw_os_error(errno, "fork");
    if (pid == 0) {
        // Keep the report pipe clear of the numbers the caller asked for.
        int report = ::fcntl(failure.write.get(), F_DUPFD_CLOEXEC, 1000);
        if (report < 0) report = failure.write.get();
        int err = prepare_child(options, fds, parent);
        if (err == 0) {
            ::execve(argv[0], argv.data(), options.env ? env.data() : environ);
            err = errno;
        }
        [[maybe_unused]] ssize_t written = ::write(report, &err, sizeof err);
        ::_exit(127);
    }
    failure.write.reset();
    int err = 0;
    std::ptrdiff_t got =
        read_exactly(failure.read.get(), std::as_writable_bytes(std::span(&err, 1)));
    if (got == 0) return pid;
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    throw_os_error(got == sizeof err ? err : EIO, options.argv[0]);
}

}  // namespace msb
