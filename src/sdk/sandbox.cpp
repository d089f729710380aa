#include <microsandbox/sandbox.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>

#include "base/error.h"
#include "base/log.h"
#include "contract/boot_error.h"
#include "contract/process_args.h"
#include "sdk/launch_document.h"
#include "sdk/sandbox_impl.h"
#include "state/reconcile.h"
#include "state/validation.h"

namespace microsandbox {

namespace sdk = msb::sdk;
namespace state = msb::state;

namespace {

// The sandbox process may be gone already; a library must not let its caller die of SIGPIPE for that. Pipes have no
// MSG_NOSIGNAL. Returns 0 or the errno.
int write_without_sigpipe(int fd, char byte) {
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const int err = msb::write_all(fd, std::string_view(&byte, 1));
    if (err == EPIPE && !sigismember(&pending, SIGPIPE)) {
        const timespec now{};
        while (sigtimedwait(&pipe_signal, nullptr, &now) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return err;
}

}  // namespace

// --- Impl -------------------------------------------------------------------------------------------------------

Sandbox::Impl::~Impl() = default;  // closes the watchdog: the sandbox process sees it and stops

std::shared_ptr<sdk::AgentClient> Sandbox::Impl::take_client(const sdk::Deadline& deadline,
                                                             const sdk::Cancel& cancel,
                                                             std::string_view suffix) {
    std::shared_ptr<sdk::AgentClient> client;
    {
        std::scoped_lock lock(mutex);
        client = std::move(spare);
        spare.reset();
    }
    if (client && client->usable()) return client;
    try {
        return sdk::connect_agent(*backend, config.name, deadline, cancel);
    } catch (const Error& error) {
        if (error.code() == ErrorCode::kCancelled) throw;
        // Why there is nobody to talk to, if the rows know: stopped, replaced, removed.
        sdk::require_running(sdk::read_row(target()), suffix);
        throw;
    }
}

void Sandbox::Impl::return_client(std::shared_ptr<sdk::AgentClient> client) noexcept {
    std::scoped_lock lock(mutex);
    if (!spare) spare = std::move(client);
}

bool Sandbox::Impl::owns_lifecycle() const {
    std::scoped_lock lock(mutex);
    return static_cast<bool>(watchdog);
}

void Sandbox::Impl::detach() {
    std::scoped_lock lock(mutex);
    if (!watchdog) return;
    if (int err = write_without_sigpipe(watchdog.get(), msb::contract::kWatchdogDetach))
        msb::log(msb::LogLevel::kWarn, "sandbox", "detaching {}: {}", config.name,
                 msb::os_error_text(err));
    watchdog.reset();
}

// --- making one -------------------------------------------------------------------------------------------------

Sandbox SandboxAccess::make(const std::shared_ptr<sdk::LocalBackend>& backend,
                            sdk::Launched launched) {
    auto impl = std::make_shared<Sandbox::Impl>();
    impl->backend = backend;
    impl->id = launched.id;
    impl->config = std::move(launched.config);
    impl->config_json = state::write_sandbox_config(state::persisted_form(impl->config));
    impl->process = std::move(launched.process);
    impl->spare = std::move(launched.client);
    impl->watchdog = std::move(launched.watchdog);
    impl->init_owns_command = launched.init_owns_command;
    return Sandbox(std::move(impl));
}

Sandbox SandboxAccess::start(const sdk::Target& target, bool detached, std::stop_token stop) {
    sdk::Cancel cancel(std::move(stop));
    sdk::LaunchOptions options;
    options.detached = detached;
    return make(target.backend,
                sdk::start_sandbox(target.backend, target.name, target.id, options, cancel));
}

Sandbox SandboxAccess::connect(const sdk::Target& target, std::chrono::milliseconds timeout,
                               std::stop_token stop) {
    sdk::Cancel cancel(std::move(stop));
    const state::SandboxRow row = sdk::read_row(target);
    sdk::require_running(row);
    auto impl = std::make_shared<Sandbox::Impl>();
    impl->backend = target.backend;
    impl->id = row.id;
    impl->config_json = row.active_config.value_or(row.config);
    impl->config = state::parse_sandbox_config(impl->config_json);
    impl->config.name = row.name;  // the row's name rules, whatever the document says
    impl->spare = sdk::connect_agent(*target.backend, row.name, sdk::deadline_in(timeout), cancel);
    return Sandbox(std::move(impl));
}

SandboxBuilder Sandbox::builder(std::string name) {
    return SandboxBuilder(std::move(name));
}
Sandbox Sandbox::start(const std::string& name, std::stop_token stop) {
    return SandboxAccess::start({sdk::LocalBackend::current("Sandbox::start"), name, {}}, false,
                                std::move(stop));
}
Sandbox Sandbox::start_detached(const std::string& name, std::stop_token stop) {
    return SandboxAccess::start({sdk::LocalBackend::current("Sandbox::start_detached"), name, {}},
                                true, std::move(stop));
}
SandboxHandle Sandbox::get(const std::string& name) {
    auto backend = sdk::LocalBackend::current("Sandbox::get");
    return HandleAccess::make(backend, sdk::read_row({backend, name, {}}));
}
Sandbox Sandbox::connect(const std::string& name, std::chrono::milliseconds timeout,
                         std::stop_token stop) {
    return SandboxAccess::connect({sdk::LocalBackend::current("agent connections"), name, {}},
                                  timeout, std::move(stop));
}
void Sandbox::remove(const std::string& name, std::stop_token stop) {
    sdk::remove({sdk::LocalBackend::current("Sandbox::remove"), name, {}},
                sdk::Cancel(std::move(stop)));
}

SandboxPage Sandbox::list(const ListOptions& options) {
    auto backend = sdk::LocalBackend::current("Sandbox::list");
    state::SandboxQuery query;
    query.limit = options.limit.value_or(state::kDefaultPageSize);
    if (options.cursor) query.before_id = state::decode_cursor(*options.cursor);
    query.labels.insert(options.labels.begin(), options.labels.end());
    state::SandboxPage page = state::list_sandboxes(backend->database(), backend->roots, query);
    SandboxPage result;
    for (state::SandboxRow& row : page.sandboxes)
        result.sandboxes.push_back(HandleAccess::make(backend, std::move(row)));
    result.next_cursor = std::move(page.next_cursor);
    return result;
}

std::vector<SandboxHandle> Sandbox::list_all(
    const std::vector<std::pair<std::string, std::string>>& labels) {
    auto backend = sdk::LocalBackend::current("Sandbox::list");
    state::SandboxQuery query;
    query.labels.insert(labels.begin(), labels.end());
    state::SandboxPage page = state::list_sandboxes(backend->database(), backend->roots, query);
    std::vector<SandboxHandle> result;
    result.reserve(page.sandboxes.size());
    for (state::SandboxRow& row : page.sandboxes)
        result.push_back(HandleAccess::make(backend, std::move(row)));
    return result;
}

std::optional<BootError> Sandbox::boot_error(const std::string& name) {
    auto backend = sdk::LocalBackend::current("Sandbox::logs");
    state::validate_sandbox_name(name);
    auto record = msb::contract::read_boot_error(backend->paths.sandbox_logs(name));
    if (!record) return std::nullopt;
    return BootError{record->time, record->stage, record->errno_value, record->message};
}

// --- object -----------------------------------------------------------------------------------------------------

Sandbox::Sandbox(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sandbox::Sandbox(const Sandbox&) = default;
Sandbox::Sandbox(Sandbox&&) noexcept = default;
Sandbox& Sandbox::operator=(const Sandbox&) = default;
Sandbox& Sandbox::operator=(Sandbox&&) noexcept = default;
Sandbox::~Sandbox() = default;

std::string Sandbox::id() const {
    return "local:" + std::to_string(impl_->id);
}
const std::string& Sandbox::name() const noexcept {
    return impl_->config.name;
}
const std::string& Sandbox::config_json() const noexcept {
    return impl_->config_json;
}
SandboxHandle Sandbox::handle() const {
    return HandleAccess::make(impl_->backend, sdk::read_row(impl_->target()));
}
SandboxStatus Sandbox::status() const {
    return handle().status();
}
std::vector<std::string> Sandbox::default_command(
    const std::optional<std::vector<std::string>>& args) const {
    return sdk::default_command(impl_->config, args);
}
std::string Sandbox::shell_path() const {
    return impl_->config.runtime.shell.value_or("/bin/sh");
}

PingResult Sandbox::ping(std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    auto client =
        impl_->take_client(sdk::deadline_in(sdk::kAgentConnectTimeout), cancel, "; cannot ping");
    PingResult result = ping_agent(*client, name(), cancel);
    impl_->return_client(std::move(client));
    return result;
}

TouchResult Sandbox::touch(std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    auto client =
        impl_->take_client(sdk::deadline_in(sdk::kAgentConnectTimeout), cancel, "; cannot touch");
    TouchResult result = touch_agent(*client, name(), cancel);
    impl_->return_client(std::move(client));
    return result;
}

void Sandbox::stop(std::chrono::milliseconds timeout, std::stop_token cancel) const {
    sdk::stop(impl_->target(), timeout, sdk::Cancel(std::move(cancel)));
}
void Sandbox::request_stop() const {
    sdk::request_stop(impl_->target());
}
void Sandbox::kill(std::chrono::milliseconds timeout, std::stop_token cancel) const {
    sdk::kill(impl_->target(), timeout, sdk::Cancel(std::move(cancel)));
}
void Sandbox::drain() const {
    sdk::drain(impl_->target());
}

ProcessExit Sandbox::wait(std::stop_token stop) const {
    if (!impl_->process || !impl_->owns_lifecycle())
        throw Error(ErrorCode::kRuntime, "cannot wait: not the lifecycle owner");
    const std::optional<int> status =
        impl_->process->wait(std::nullopt, sdk::Cancel(std::move(stop)));
    ProcessExit result;
    if (status && WIFEXITED(*status)) result.exit_code = WEXITSTATUS(*status);
    if (status && WIFSIGNALED(*status)) result.signal = WTERMSIG(*status);
    return result;
}

ProcessExit Sandbox::stop_and_wait(std::chrono::milliseconds timeout,
                                   std::stop_token cancel) const {
    if (!impl_->process || !impl_->owns_lifecycle())
        throw Error(ErrorCode::kRuntime, "cannot wait: not the lifecycle owner");
    stop(timeout, cancel);
    return wait(std::move(cancel));
}

StopResult Sandbox::wait_until_stopped(std::stop_token stop) const {
    return microsandbox::wait_until_stopped(impl_->target(), impl_->process,
                                            sdk::Cancel(std::move(stop)));
}
Sandbox Sandbox::restart(const RestartOptions& options, std::stop_token stop) const {
    return handle().restart(options, std::move(stop));
}
void Sandbox::remove_persisted(std::stop_token stop) const {
    sdk::remove(impl_->target(), sdk::Cancel(std::move(stop)));
}

bool Sandbox::init_owns_command() const noexcept {
    return impl_->init_owns_command;
}
bool Sandbox::owns_lifecycle() const noexcept {
    return impl_->owns_lifecycle();
}
void Sandbox::detach() const {
    impl_->detach();
}

std::vector<LogEntry> Sandbox::logs(const LogQuery& query) const {
    return logs(name(), query);
}
LogStream Sandbox::log_stream(const LogStreamOptions& options) const {
    return log_stream(name(), options);
}

}  // namespace microsandbox
