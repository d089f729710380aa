// start, stop, restart, ping, touch, remove.
#include <microsandbox/sandbox.h>

#include <algorithm>

#include "cli/commands/commands.h"
#include "cli/commands/targets.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using microsandbox::Sandbox;
using microsandbox::SandboxStatus;

// 30 years: longer waits are the same as for ever, and the clock arithmetic cannot overflow.
constexpr std::uint64_t kLongestWaitSeconds = 30ull * 365 * 86400;

std::chrono::milliseconds stop_timeout(const Matches& matches) {
    const auto seconds = matches.number("timeout");
    if (!seconds) return microsandbox::kDefaultStopTimeout;
    return std::chrono::seconds(std::min(*seconds, kLongestWaitSeconds));
}

void stop_sandbox(const microsandbox::SandboxHandle& handle, const Matches& matches) {
    if (matches.has("force")) return handle.kill();
    handle.stop(stop_timeout(matches));
}

}  // namespace

int start_command(const Matches& matches) {
    return for_each_target(matches, {"Starting", "Started"}, [](const std::string& name, Spinner&) {
        (void)Sandbox::start_detached(name);
    });
}

int stop_command(const Matches& matches) {
    return for_each_target(
        matches, {.doing = "Stopping", .done = "Stopped", .always_report = true},
        [&](const std::string& name, Spinner&) { stop_sandbox(Sandbox::get(name), matches); });
}

int restart_command(const Matches& matches) {
    return for_each_target(
        matches, {"Stopping", ""}, [&](const std::string& name, Spinner& stopping) {
            const auto handle = Sandbox::get(name);
            if (handle.status() == SandboxStatus::kStarting)
                throw microsandbox::Error(microsandbox::ErrorCode::kCustom,
                                          "sandbox '" + name + "' is already starting");
            if (handle.status() == SandboxStatus::kRunning ||
                handle.status() == SandboxStatus::kDraining)
                stop_sandbox(handle, matches);
            stopping.finish("Stopped");
            Spinner starting("Starting", name, matches.has("quiet"));
            (void)handle.start_detached();
            starting.finish("Started");
        });
}

int ping_command(const Matches& matches) {
    return for_each_target(matches, {"Pinging", ""},
                           [&](const std::string& name, Spinner& spinner) {
                               const auto handle = Sandbox::get(name);
                               const auto result = handle.ping();
                               if (matches.has("touch")) (void)handle.touch();
                               spinner.finish("Reachable", format_latency(result.latency.count()));
                           });
}

int touch_command(const Matches& matches) {
    return for_each_target(matches, {"Touching", "Touched"}, [](const std::string& name, Spinner&) {
        (void)Sandbox::get(name).touch();
    });
}

int remove_command(const Matches& matches) {
    return for_each_target(matches, {"Removing", "Removed"},
                           [&](const std::string& name, Spinner&) {
                               const auto handle = Sandbox::get(name);
                               if (matches.has("force")) return handle.destroy(true);
                               handle.remove();
                           });
}

}  // namespace msb::cli
