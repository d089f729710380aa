#include <microsandbox/sandbox.h>

#include <sys/wait.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "base/time.h"
#include "sdk/sandbox_impl.h"
#include "state/ipc_paths.h"
#include "state/reconcile.h"

namespace microsandbox {

namespace sdk = msb::sdk;
namespace state = msb::state;

namespace {

constexpr std::chrono::milliseconds kStatusPoll{50};

SandboxStatus status_of(state::SandboxStatus status) {
    return static_cast<SandboxStatus>(static_cast<std::uint8_t>(status));
}
static_assert(static_cast<int>(SandboxStatus::kCrashed) ==
              static_cast<int>(state::SandboxStatus::kCrashed));
static_assert(static_cast<int>(SandboxStatus::kDraining) ==
              static_cast<int>(state::SandboxStatus::kDraining));

std::optional<Timestamp> timestamp(std::optional<std::int64_t> unix_ns) {
    if (!unix_ns) return std::nullopt;
    return Timestamp(std::chrono::nanoseconds(*unix_ns));
}

}  // namespace

std::string_view to_string(SandboxStatus status) noexcept {
    return state::to_string(static_cast<state::SandboxStatus>(static_cast<std::uint8_t>(status)));
}

SandboxStatus parse_sandbox_status(std::string_view text) {
    for (int i = 0; i <= static_cast<int>(SandboxStatus::kCrashed); ++i) {
        auto status = static_cast<SandboxStatus>(i);
        if (msb::iequals(text, to_string(status))) return status;
    }
    throw Error(ErrorCode::kInvalidConfig, "invalid sandbox status " + msb::quoted(text));
}

SandboxHandle HandleAccess::make(const std::shared_ptr<sdk::LocalBackend>& backend,
                                 state::SandboxRow row) {
    auto impl = std::make_shared<SandboxHandle::Impl>();
    impl->backend = backend;
    impl->created_at = timestamp(row.created_at);
    impl->updated_at = timestamp(row.updated_at);
    impl->row = std::move(row);
    return SandboxHandle(std::move(impl));
}

SandboxHandle::SandboxHandle(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
SandboxHandle::SandboxHandle(const SandboxHandle&) = default;
SandboxHandle::SandboxHandle(SandboxHandle&&) noexcept = default;
SandboxHandle& SandboxHandle::operator=(const SandboxHandle&) = default;
SandboxHandle& SandboxHandle::operator=(SandboxHandle&&) noexcept = default;
SandboxHandle::~SandboxHandle() = default;

std::string SandboxHandle::id() const {
    return impl_->row.identity();
}
const std::string& SandboxHandle::name() const noexcept {
    return impl_->row.name;
}
SandboxStatus SandboxHandle::status() const noexcept {
    return status_of(impl_->row.status);
}
bool SandboxHandle::ephemeral() const noexcept {
    return impl_->row.ephemeral;
}
const std::string& SandboxHandle::config_json() const noexcept {
    return impl_->row.config;
}
const std::optional<std::string>& SandboxHandle::active_config_json() const noexcept {
    return impl_->row.active_config;
}
const std::optional<Timestamp>& SandboxHandle::created_at() const noexcept {
    return impl_->created_at;
}
const std::optional<Timestamp>& SandboxHandle::updated_at() const noexcept {
    return impl_->updated_at;
}

SandboxHandle SandboxHandle::refresh() const {
    return HandleAccess::make(impl_->backend, sdk::read_row(impl_->target()));
}

Sandbox SandboxHandle::start(std::stop_token stop) const {
    return SandboxAccess::start(impl_->target(), false, std::move(stop));
}
Sandbox SandboxHandle::start_detached(std::stop_token stop) const {
    return SandboxAccess::start(impl_->target(), true, std::move(stop));
}
Sandbox SandboxHandle::connect(std::chrono::milliseconds timeout, std::stop_token stop) const {
    return SandboxAccess::connect(impl_->target(), timeout, std::move(stop));
}

Sandbox SandboxHandle::connect_or_start(bool detached, std::stop_token stop) const {
    sdk::Cancel cancel(stop);
    for (;;) {
        const state::SandboxRow row = sdk::read_row(impl_->target());
        switch (row.status) {
            case state::SandboxStatus::kRunning:
                return connect(kDefaultConnectTimeout, stop);
            case state::SandboxStatus::kStarting:
                sdk::sleep_for(kStatusPoll, cancel);
                continue;
            case state::SandboxStatus::kCreated:
            case state::SandboxStatus::kStopped:
            case state::SandboxStatus::kCrashed:
                return SandboxAccess::start(impl_->target(), detached, stop);
            case state::SandboxStatus::kDraining:
                throw Error(ErrorCode::kSandboxStillRunning,
                            "cannot connect or start sandbox '" + row.name +
                                "': shutdown is already in progress");
            case state::SandboxStatus::kPaused:
                throw Error(ErrorCode::kSandboxNotRunning,
                            "'" + row.name +
                                "' is paused; resume support is required before it can "
                                "be connected");
        }
    }
}

PingResult ping_agent(sdk::AgentClient& client, const std::string& name,
                      const sdk::Cancel& cancel) {
    const auto start = sdk::Clock::now();
    client.request<msb::protocol::Pong>(msb::protocol::Ping{},
                                        sdk::deadline_in(sdk::kAgentConnectTimeout), cancel);
    return {name, sdk::Clock::now() - start};
}

TouchResult touch_agent(sdk::AgentClient& client, const std::string& name,
                        const sdk::Cancel& cancel) {
    auto reply = client.request<msb::protocol::Touched>(
        msb::protocol::Touch{}, sdk::deadline_in(sdk::kAgentConnectTimeout), cancel);
    return {name, reply.activity_seq};
}

PingResult SandboxHandle::ping(std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    sdk::require_running(sdk::read_row(impl_->target()), "; cannot ping");
    auto client = sdk::connect_agent(*impl_->backend, name(),
                                     sdk::deadline_in(sdk::kAgentConnectTimeout), cancel);
    return ping_agent(*client, name(), cancel);
}

TouchResult SandboxHandle::touch(std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    sdk::require_running(sdk::read_row(impl_->target()), "; cannot touch");
    auto client = sdk::connect_agent(*impl_->backend, name(),
                                     sdk::deadline_in(sdk::kAgentConnectTimeout), cancel);
    return touch_agent(*client, name(), cancel);
}

void SandboxHandle::stop(std::chrono::milliseconds timeout, std::stop_token cancel) const {
    sdk::stop(impl_->target(), timeout, sdk::Cancel(std::move(cancel)));
}
void SandboxHandle::request_stop() const {
    sdk::request_stop(impl_->target());
}
void SandboxHandle::kill(std::chrono::milliseconds timeout, std::stop_token cancel) const {
    sdk::kill(impl_->target(), timeout, sdk::Cancel(std::move(cancel)));
}
void SandboxHandle::drain() const {
    sdk::drain(impl_->target());
}

StopResult wait_until_stopped(const sdk::Target& target,
                              const std::shared_ptr<sdk::ChildProcess>& process,
                              const sdk::Cancel& cancel) {
    StopResult result;
    result.name = target.name;
    std::optional<int> status;
    if (process) status = process->wait(std::nullopt, cancel);
    bool in_time = true;
    std::optional<state::SandboxRow> row =
        sdk::wait_terminal(target, std::nullopt, cancel, in_time);
    if (row) {
        result.status = status_of(row->status);
        result.source = process ? "owned process wait" : "refreshed backend state";
        if (auto run = state::latest_run(target.backend->database(), row->id))
            result.exit_code = run->exit_code;
    } else {
        result.status = SandboxStatus::kStopped;
        result.source = "ephemeral cleanup removed persisted state";
    }
    if (status && WIFEXITED(*status)) result.exit_code = WEXITSTATUS(*status);
    if (status && WIFSIGNALED(*status)) result.signal = WTERMSIG(*status);
    result.observed_at = Timestamp(std::chrono::nanoseconds(msb::wall_clock_ns()));
    return result;
}

StopResult SandboxHandle::wait_until_stopped(std::stop_token stop) const {
    sdk::read_row(impl_->target());  // the identity check
    return microsandbox::wait_until_stopped(impl_->target(), nullptr, sdk::Cancel(std::move(stop)));
}

SandboxHandle SandboxHandle::wait_for_status(SandboxStatus wanted, std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    for (;;) {
        SandboxHandle now = refresh();
        if (now.status() == wanted) return now;
        sdk::sleep_for(kStatusPoll, cancel);
    }
}

void SandboxHandle::remove(std::stop_token stop) const {
    sdk::remove(impl_->target(), sdk::Cancel(std::move(stop)));
}

Sandbox SandboxHandle::restart(const RestartOptions& options, std::stop_token stop) const {
    const state::SandboxRow row = sdk::read_row(impl_->target());
    if (row.status == state::SandboxStatus::kPaused)
        throw Error(ErrorCode::kSandboxNotRunning, "cannot restart paused sandbox '" + row.name +
                                                       "': resume support is not available");
    if (row.status == state::SandboxStatus::kStarting)
        throw Error(ErrorCode::kSandboxStillRunning,
                    "sandbox '" + row.name + "' is already starting");
    {
        sdk::Cancel cancel(stop);
        if (options.force)
            sdk::kill(impl_->target(), sdk::kKillWait, cancel);
        else if (row.status != state::SandboxStatus::kCreated)
            sdk::stop(impl_->target(), options.timeout, cancel);
    }
    return SandboxAccess::start(impl_->target(), options.detached, std::move(stop));
}

void SandboxHandle::destroy(bool force, std::chrono::milliseconds timeout,
                            std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    if (force)
        sdk::kill(impl_->target(), sdk::kKillWait, cancel);
    else
        sdk::stop(impl_->target(), timeout, cancel);
    if (auto row = sdk::find_row(impl_->target())) sdk::remove(impl_->target(), cancel);
}

std::vector<LogEntry> SandboxHandle::logs(const LogQuery& query) const {
    return Sandbox::logs(name(), query);
}
LogStream SandboxHandle::log_stream(const LogStreamOptions& options) const {
    return Sandbox::log_stream(name(), options);
}

}  // namespace microsandbox
