#include "agentd/handoff.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "agentd/teardown.h"
#include "base/error.h"
#include "base/fd.h"

namespace msb::agentd {

namespace {

constexpr std::array kAutoCandidates = {"/sbin/init", "/lib/systemd/systemd",
                                        "/usr/lib/systemd/systemd"};
constexpr const char* kLogFile = "/run/microsandbox/agentd.log";
constexpr timespec kInitGrace{5, 0};
constexpr timespec kTermGrace{1, 0};
// systemd's "power off" is SIGRTMIN+4 as glibc numbers it (SIGRTMIN is 34 there).
constexpr int kPowerOffSignal = 34 + 4;
constexpr mode_t kAnyExecute = S_IXUSR | S_IXGRP | S_IXOTH;
constexpr int kExitBadCwd = 126;
constexpr int kExitExecFailed = 127;

bool is_executable_file(const struct stat& info) {
    return S_ISREG(info.st_mode) && (info.st_mode & kAnyExecute) != 0;
}

std::string choose_init(const std::string& command) {
    if (command != "auto") return command;
    for (const char* candidate : kAutoCandidates) {
        struct stat info;
        if (::stat(candidate, &info) == 0 && is_executable_file(info)) return candidate;
    }
    throw init_error(
        "auto: no init binary found, checked: /sbin/init, /lib/systemd/systemd, "
        "/usr/lib/systemd/systemd");
}

void check_init(const std::string& path, const std::optional<std::string>& cwd) {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0)
        throw init_error("handoff init binary not found at " + path + ": " + os_error_text(errno));
    if (!S_ISREG(info.st_mode))
        throw init_error("handoff init path is not a regular file: " + path);
    if (!is_executable_file(info))
        throw init_error("handoff init binary is not executable: " + path);
    if (!cwd) return;
    if (::stat(cwd->c_str(), &info) != 0)
        throw init_error("handoff init cwd not found at " + *cwd + ": " + os_error_text(errno));
    if (!S_ISDIR(info.st_mode)) throw init_error("handoff init cwd is not a directory: " + *cwd);
}

[[noreturn]] void become_init(const std::string& path, const protocol::HandoffInit& init,
                              Environment environment) {
    for (int signal = 1; signal < 32; ++signal)
        ::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (init.cwd && ::chdir(init.cwd->c_str()) != 0) {
        log_line("chdir(" + *init.cwd + ") failed: " + os_error_text(errno));
        ::_exit(kExitBadCwd);
    }
    for (const protocol::EnvVar& variable : init.env)
        environment.set(variable.key, variable.value);
    std::vector<std::string> entries = environment.entries();
    std::vector<char*> env;
    for (std::string& entry : entries)
        env.push_back(entry.data());
    env.push_back(nullptr);
    std::vector<char*> argv{
        const_cast<char*>(init.cmd == "auto" ? path.c_str() : init.cmd.c_str())};
    for (const std::string& arg : init.args)
        argv.push_back(const_cast<char*>(arg.c_str()));
    argv.push_back(nullptr);
    ::execve(path.c_str(), argv.data(), env.data());
    log_line("execve(" + path + ") failed: " + os_error_text(errno));
    ::_exit(kExitExecFailed);
}

// Best effort: what cannot be opened leaves standard error as it is.
void log_to(const char* path, int flags) {
    UniqueFd file(::open(path, O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC | flags, 0644));
    if (file) ::dup2(file.get(), STDERR_FILENO);
}

}  // namespace

void hand_off(const protocol::HandoffInit& init, const Environment& environment) {
    std::string path = choose_init(init.cmd);
    check_init(path, init.cwd);
    pid_t child = ::fork();
    if (child < 0) throw init_error("handoff fork failed: " + os_error_text(errno));
    if (child > 0) become_init(path, init, environment);
    ::setsid();
    log_to(kLogFile, O_CREAT);
}

void shut_down_handed_off(int upper_fs) {
    // A log file open for writing would keep its file system from going read-only.
    log_to("/dev/console", 0);
    ::sync();
    ::kill(1, kPowerOffSignal);
    // The init's own power-off ends the machine, and this process with it, somewhere in here.
    ::nanosleep(&kInitGrace, nullptr);
    tear_down(upper_fs, false);
    ::kill(1, SIGTERM);
    ::nanosleep(&kTermGrace, nullptr);
    // An init that knows neither signal must not keep the machine: its disks are clean by now.
    reset_machine();
}

}  // namespace msb::agentd
