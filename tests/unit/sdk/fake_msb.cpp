// A stand-in for `msb sandbox` in launcher tests: keeps the launch contract, with a FakeAgent where the machine would be.
// FAKE_MSB_MODE chooses what goes wrong; FAKE_MSB_REPORT is a file that gets one line of what the process was given.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "base/fd.h"
#include "contract/boot_error.h"
#include "contract/launch_config.h"
#include "contract/process_args.h"
#include "fake_agent.h"
#include "state/database.h"
#include "state/ipc_paths.h"
#include "state/run_rows.h"

using namespace msb;

namespace {

std::string mode() {
    const char* value = std::getenv("FAKE_MSB_MODE");
    return value == nullptr ? "" : value;
}

void report(const contract::ProcessArgs& args, const contract::LaunchConfig& launch) {
    const char* path = std::getenv("FAKE_MSB_REPORT");
    if (path == nullptr) return;
    int locks = 0;
    for (int fd = 100; fd < 110; ++fd)
        locks += ::fcntl(fd, F_GETFD) >= 0;
    struct sigaction hangup{};
    ::sigaction(SIGHUP, nullptr, &hangup);
    std::ofstream(path) << "name=" << args.name << " vcpus=" << args.vcpus + 0
                        << " memory=" << args.memory_mib
                        << " watch=" << args.parent_watch_fd.value_or(-1)
                        << " startup=" << args.startup_fd.value_or(-1)
                        << " level=" << args.log_level.value_or("none")
                        << " slot=" << launch.sandbox_slot
                        << " hostname=" << launch.bootstrap.hostname.value_or("none")
                        << " locks=" << locks << " session_leader=" << (::getsid(0) == ::getpid())
                        << " group_leader=" << (::getpgrp() == ::getpid())
                        << " sighup_ignored=" << (hangup.sa_handler == SIG_IGN)
                        << " startup_cmd=" << (launch.startup ? launch.startup->cmd : "none");
}

// The watchdog pipe: true when the creator went away, false after the detach byte.
bool creator_gone(int fd) {
    char byte = 0;
    const ssize_t n = ::read(fd, &byte, 1);
    return n <= 0;
}

}  // namespace

int main(int argc, char** argv) {
    sigset_t signals;
    sigemptyset(&signals);
    for (int signal : {SIGTERM, SIGUSR1})
        sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    ::signal(SIGPIPE, SIG_IGN);

    const contract::ProcessArgs args = contract::parse_process_args({argv + 1, argv + argc});
    const contract::LaunchConfig launch =
        contract::parse_launch_config(read_to_end(*args.config_fd));
    report(args, launch);
    const std::string wanted = mode();
    const int startup = args.startup_fd.value_or(STDOUT_FILENO);
    if (wanted == "silent") {
        ::pause();
    } else if (wanted == "exit-early") {
        return 3;
    } else if (wanted == "nonsense") {
        (void)write_all(startup, std::string_view("hello\n"));
        ::pause();
    } else if (wanted == "wrong-pid") {
        (void)write_all(startup, contract::startup_line(1));
        ::pause();
    }
    (void)write_all(startup, contract::startup_line(::getpid()));
    if (wanted == "boot-error") {
        contract::write_boot_error(
            launch.log_dir,
            contract::make_boot_error("rootfs: No such file or directory (os error 2)"));
        return 1;
    }
    if (wanted == "die") return 9;

    state::Database database = state::Database::open_runtime(launch.db_path);
    const std::int64_t run = state::insert_run(database, args.sandbox_id, ::getpid());
    const auto ipc =
        state::IpcPaths::of({contract::effective_run_dir(launch), launch.sandboxes_dir}, args.name);
    state::create_socket_directory(ipc);

    PipeFds shutdown = make_pipe();
    test::FakeAgent agent;
    agent.directories["/work"] = true;
    agent.files["/file"] = "x";
    agent.on_shutdown = [&] { (void)write_all(shutdown.write.get(), std::string_view("s")); };
    auto reason = state::TerminationReason::kCompleted;
    {
        test::SocketServer server(ipc.agent, [&](UniqueFd socket, int number) {
            if (wanted == "never-ready") {
                ::pause();
                return;
            }
            if (wanted == "die-in-handshake") ::_exit(4);
            if (wanted == "drop-first" && number == 0) return;
            agent.serve(std::move(socket), static_cast<std::uint32_t>(number) % 128);
        });
        state::publish_link(ipc.run, ipc.legacy_agent_link, ipc.agent);
        UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC));
        int watch = args.parent_watch_fd.value_or(-1);
        for (;;) {
            pollfd fds[3] = {
                {signal_fd.get(), POLLIN, 0}, {watch, POLLIN, 0}, {shutdown.read.get(), POLLIN, 0}};
            if (::poll(fds, 3, -1) < 0) continue;
            if (fds[0].revents != 0) {
                signalfd_siginfo info{};
                (void)!::read(signal_fd.get(), &info, sizeof info);
                if (wanted == "stubborn" && info.ssi_signo == SIGTERM) continue;
                break;
            }
            if (fds[2].revents != 0) {
                char byte = 0;
                (void)!::read(shutdown.read.get(), &byte, 1);
                if (wanted == "stubborn") continue;
                reason = state::TerminationReason::kShutdownRequested;
                break;
            }
            if (fds[1].revents != 0) {
                if (creator_gone(watch)) {
                    reason = state::TerminationReason::kSignal;
                    break;
                }
                watch = -1;
            }
        }
    }
    state::remove_endpoints(ipc);
    state::finish_run(database, run, args.sandbox_id, reason, 0);
    return 0;
}
