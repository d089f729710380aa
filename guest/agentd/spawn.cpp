#include "agentd/spawn.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace msb::agentd {

namespace {

constexpr std::size_t kChildStack = 64 * 1024;

// The child's stack, with the word it reports its error in at the low end: memory both processes see,
// shared or not.
class ChildStack {
  public:
    ChildStack()
        : base_(::mmap(nullptr, kChildStack, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
    ~ChildStack() {
        if (*this) ::munmap(base_, kChildStack);
    }
    ChildStack(const ChildStack&) = delete;
    ChildStack& operator=(const ChildStack&) = delete;

    explicit operator bool() const { return base_ != MAP_FAILED; }
    void* top() const { return static_cast<std::byte*>(base_) + kChildStack; }
    int& error() const { return *static_cast<int*>(base_); }

  private:
    void* base_;
};

// Everything the child touches, laid out before the clone.
struct ChildArguments {
    const SpawnPlan* plan;
    std::vector<char*> argv;
    std::vector<char*> env;
    int* error;  // written by the child
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> result;
    result.reserve(strings.size() + 1);
    for (const std::string& string : strings)
        result.push_back(const_cast<char*>(string.c_str()));
    result.push_back(nullptr);
    return result;
}

// --- in the child: async-signal-safe code only ----------------------------------------------------

// CAP_SYS_ADMIN leaves every set, and no exec can bring it back. Returns 0 or the errno.
int drop_privileges() {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
        return errno;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capget, &header, data) != 0) return errno;
    constexpr std::uint32_t kMask = CAP_TO_MASK(CAP_SYS_ADMIN);
    __user_cap_data_struct& word = data[CAP_TO_INDEX(CAP_SYS_ADMIN)];
    bool had_it = (word.permitted & kMask) != 0;
    word.effective &= ~kMask;
    word.permitted &= ~kMask;
    word.inheritable &= ~kMask;
    // The bounding set first: changing it needs CAP_SETPCAP, which stays, but not the dropped one.
    if (::prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) != 0 && errno != EINVAL &&
        !(errno == EPERM && !had_it))
        return errno;
    return ::syscall(SYS_capset, &header, data) != 0 ? errno : 0;
}

// Raw system calls: the libc wrappers of a threaded process interrupt every thread to do the same.
int switch_user(const Identity& identity) {
    if (!identity.switch_user) return 0;
    if (::syscall(SYS_setgroups, identity.groups.size(), identity.groups.data()) != 0) return errno;
    if (::syscall(SYS_setgid, identity.gid) != 0) return errno;
    return ::syscall(SYS_setuid, identity.uid) != 0 ? errno : 0;
}

int set_limit(int resource, const rlimit& value) {
    return ::syscall(SYS_prlimit64, 0, resource, &value, nullptr) != 0 ? errno : 0;
}

int set_limits(const SpawnPlan& plan) {
    for (const ResourceLimit& limit : plan.limits) {
        if (int err = set_limit(limit.resource, limit.value)) return err;
    }
    return 0;
}

void reset_signals() {
    struct sigaction action = {};
    action.sa_handler = SIG_DFL;
    ::sigaction(SIGPIPE, &action, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

int connect_stdio(const SpawnPlan& plan) {
    const std::array fds = {plan.stdin_fd, plan.stdout_fd, plan.stderr_fd};
    for (int target = 0; target < 3; ++target) {
        if (::dup2(fds[static_cast<std::size_t>(target)], target) < 0) return errno;
    }
    return 0;
}

int prepare_child(const SpawnPlan& plan) {
    if (int err = connect_stdio(plan)) return err;
    if (plan.nofile) {
        if (int err = set_limit(RLIMIT_NOFILE, *plan.nofile)) return err;
    }
    // A terminal session with a wrong directory runs in the agent's own, "/".
    if (plan.cwd && ::chdir(plan.cwd->c_str()) != 0 && !plan.tty) return errno;
    if (::setsid() < 0) return errno;
    if (plan.tty && ::ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0) return errno;
    if (plan.restricted) {
        if (int err = drop_privileges()) return err;
    }
    if (int err = switch_user(plan.identity)) return err;
    return set_limits(plan);
}

// execvp(3) without its /bin/sh fallback: what is missing is skipped, what may not be executed is
// remembered, everything else is final.
int exec_first(const ChildArguments& arguments) {
    int remembered = ENOENT;
    for (const std::string& candidate : arguments.plan->candidates) {
        ::execve(candidate.c_str(), arguments.argv.data(), arguments.env.data());
        const bool only_one = arguments.plan->candidates.size() == 1;
        if (errno == EACCES)
            remembered = EACCES;
        else if (only_one || (errno != ENOENT && errno != ENOTDIR))
            return errno;
    }
    return remembered;
}

int child_main(void* pointer) {
    auto& arguments = *static_cast<ChildArguments*>(pointer);
    reset_signals();
    int err = prepare_child(*arguments.plan);
    if (err != 0 && arguments.plan->tty) ::_exit(1);
    if (err == 0) err = exec_first(arguments);
    *arguments.error = err;
    ::_exit(127);
}

// Returns the child's pid when it has exec'ed or ended; -1 with errno set when there is none.
pid_t clone_child(const ChildStack& stack, ChildArguments& arguments) {
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
    // ThreadSanitizer cannot follow a child that runs in its parent's memory: here it gets a copy.
    auto pid = static_cast<pid_t>(::syscall(SYS_clone, CLONE_VFORK | SIGCHLD, nullptr));
    if (pid == 0) child_main(&arguments);
    return pid;
#endif
#endif
    return ::clone(child_main, stack.top(), CLONE_VM | CLONE_VFORK | SIGCHLD, &arguments);
}

}  // namespace

SpawnResult spawn_process(const SpawnPlan& plan) {
    ChildStack stack;
    if (!stack) return {-1, ENOMEM, false};
    ChildArguments arguments{&plan, pointers(plan.argv), pointers(plan.env), &stack.error()};
    // No handler of ours may run in the child: it would run on the agent's own memory.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = clone_child(stack, arguments);
    int clone_error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return {-1, clone_error, false};
    if (stack.error() == 0) return {pid, 0, true};
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return {-1, stack.error(), true};
}

}  // namespace msb::agentd
