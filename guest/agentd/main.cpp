// The guest agent: PID 1 of every sandbox.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <optional>

#include "agentd/agent.h"
#include "agentd/boot.h"
#include "agentd/failure.h"
#include "agentd/handoff.h"
#include "agentd/mounts.h"
#include "agentd/runtime_channel.h"
#include "agentd/teardown.h"
#include "base/time.h"

namespace {

using namespace msb::agentd;

// One descriptor per open file, three per session, one per connection.
constexpr rlim_t kAgentOpenFiles = 65536;

// Descriptors 0 to 2 must exist: everything opened later is above them.
void open_standard_descriptors() {
    while (true) {
        int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0) return;  // no /dev/null yet: the kernel opened the console then
        if (fd > STDERR_FILENO) {
            ::close(fd);
            return;
        }
        ::fcntl(fd, F_SETFD, 0);
    }
}

// Raises this process's own limit; children get the previous one back.
std::optional<rlimit> raise_open_files() {
    rlimit before;
    if (::getrlimit(RLIMIT_NOFILE, &before) != 0) return std::nullopt;
    rlimit raised{std::max(before.rlim_cur, kAgentOpenFiles),
                  std::max(before.rlim_max, kAgentOpenFiles)};
    if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) return std::nullopt;
    return before;
}

// Serves until the end and leaves the machine. The agent is never destroyed: workers may be blocked in
// a system call of the guest's making.
[[noreturn]] void serve(Booted& booted, std::int64_t boot_time_ns) {
    bool handed_off = booted.config.handed_off;
    std::optional<Agent> agent;
    std::optional<RuntimeChannel> runtime;
    try {
        booted.config.child_nofile = raise_open_files();
        agent.emplace(std::move(booted.port), std::move(booted.reader), std::move(booted.config));
        agent->send_ready({.boot_time_ns = static_cast<std::uint64_t>(boot_time_ns),
                           .init_time_ns = booted.init_time_ns,
                           .ready_time_ns = static_cast<std::uint64_t>(msb::boottime_ns()),
                           .agent_version = MSB_AGENT_VERSION});
        runtime.emplace(agent->activity(), std::move(booted.runtime_port), kRuntimeDirectory,
                        Cpus(), [&agent](const auto& flow) { agent->apply_flow(flow); });
        agent->run();
    } catch (const std::exception& error) {
        log_line(std::string("agent loop error: ") + error.what());
        ::_exit(1);
    }
    if (handed_off) shut_down_handed_off(booted.upper_fs.get());
    tear_down(booted.upper_fs.get(), true);
    reset_machine();
}

}  // namespace

int main() {
    std::int64_t boot_time_ns = msb::boottime_ns();
    open_standard_descriptors();
    ::umask(022);
    Booted booted = boot();
    serve(booted, boot_time_ns);
}
