// The agent loop as an ordinary process, for tests that need no VM: serves a socket until
// core.shutdown or the end of the stream.
//
// usage: agentd_host DESCRIPTOR PASSWD GROUP HEARTBEAT_DIRECTORY [restricted]
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "agentd/agent.h"
#include "agentd/runtime_channel.h"

int main(int argc, char** argv) {
    using namespace msb::agentd;
    if (argc < 5) return 2;
    // What this process ignores its children would ignore too; the kernel starts PID 1 with defaults.
    for (int signal = 1; signal < 32; ++signal)
        ::signal(signal, SIG_DFL);
    ::umask(022);
    if (::chdir("/") != 0) return 2;
    const char* words[] = {"HOME=/", "TERM=linux", nullptr};
    AgentConfig config;
    config.environment = agent_environment(Environment::from(words), {});
    config.user_files = {argv[2], argv[3]};
    config.restricted = argc > 5;
    try {
        msb::UniqueFd port(std::atoi(argv[1]));
        msb::set_cloexec(port.get(), true);
        msb::set_nonblocking(port.get(), true);
        Agent agent(std::move(port), {}, std::move(config));
        agent.send_ready(
            {.boot_time_ns = 1, .init_time_ns = 2, .ready_time_ns = 3, .agent_version = "test"});
        RuntimeChannel runtime(agent.activity(), {}, argv[4]);
        return agent.run() == Agent::End::kShutdown ? 0 : 3;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "agentd_host: %s\n", error.what());
        return 1;
    }
}
