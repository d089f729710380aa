#include <microsandbox/exec.h>
#include <microsandbox/sandbox.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "sdk/exec_impl.h"
#include "state/sandbox_config.h"

namespace microsandbox {

namespace protocol = msb::protocol;
namespace sdk = msb::sdk;
namespace state = msb::state;

namespace {

// Input up to this size is written before the first read; a Unix socket takes that much at once.
constexpr std::size_t kInlineStdin = 64u << 10;
// How long a command killed for its timeout may take to end.
constexpr std::chrono::seconds kTimeoutKillWait{5};

std::string host_term() {
    const char* term = std::getenv("TERM");
    const std::string_view text = term == nullptr ? std::string_view() : msb::trim(term);
    return text.empty() || text == "dumb" ? "xterm" : std::string(text);
}

// The sandbox's environment without the keys given for this command, then those (spec/sdk.md section 6.1).
std::vector<std::string> environment(const state::SandboxConfig& config,
                                     const ExecOptions& options) {
    std::vector<std::string> result;
    bool has_term = false;
    auto add = [&](const std::string& key, const std::string& value) {
        has_term = has_term || key == "TERM";
        result.push_back(key + "=" + value);
    };
    for (const state::EnvVar& entry : config.env) {
        const bool replaced = std::ranges::any_of(
            options.env, [&](const auto& own) { return own.first == entry.key; });
        if (!replaced) add(entry.key, entry.value);
    }
    for (const auto& [key, value] : options.env)
        add(key, value);
    if (options.tty && !has_term) add("TERM", host_term());
    return result;
}

std::vector<protocol::Rlimit> rlimits(const std::vector<Rlimit>& limits) {
    std::vector<protocol::Rlimit> result;
    for (const Rlimit& limit : limits) {
        const auto known = state::parse_rlimit_name(limit.resource);
        if (!known)
            throw Error(ErrorCode::kInvalidConfig, "unknown rlimit resource: " + limit.resource);
        const std::string name(state::rlimit_name(*known));
        if (limit.soft > limit.hard)
            throw Error(ErrorCode::kInvalidConfig,
                        "rlimit " + name + ": soft (" + std::to_string(limit.soft) +
                            ") must not exceed hard (" + std::to_string(limit.hard) + ")");
        result.push_back({name, limit.soft, limit.hard});
    }
    return result;
}

ExecFailure failure_of(protocol::ExecFailed& failed) {
    return {std::string(protocol::to_string(failed.kind)), failed.errno_value,
            std::move(failed.errno_name), std::move(failed.message), std::move(failed.stage)};
}

// The event a frame stands for; nullopt for frames that are skipped. Throws for core.error.
std::optional<ExecEvent> event_of(const sdk::AgentFrame& frame) {
    std::optional<sdk::TypedFrame> typed = sdk::decode_frame(frame);
    if (!typed) return std::nullopt;
    const protocol::ByteView payload = typed->payload.span();
    switch (typed->type) {
        case protocol::MessageType::kExecStarted:
            if (auto m = protocol::decode_payload<protocol::ExecStarted>(payload))
                return ExecStarted{m->pid};
            break;
        case protocol::MessageType::kExecStdout:
            if (auto m = protocol::decode_payload<protocol::ExecStdout>(payload))
                return ExecStdout{std::string(m->data.text())};
            break;
        case protocol::MessageType::kExecStderr:
            if (auto m = protocol::decode_payload<protocol::ExecStderr>(payload))
                return ExecStderr{std::string(m->data.text())};
            break;
        case protocol::MessageType::kExecExited:
            if (auto m = protocol::decode_payload<protocol::ExecExited>(payload))
                return ExecExited{m->code};
            break;
        case protocol::MessageType::kExecFailed:
            if (auto m = protocol::decode_payload<protocol::ExecFailed>(payload))
                return ExecFailed{failure_of(*m)};
            break;
        case protocol::MessageType::kExecStdinError:
            if (auto m = protocol::decode_payload<protocol::ExecStdinError>(payload))
                return ExecStdinError{m->errno_value, m->errno_name, m->message};
            break;
        case protocol::MessageType::kError:
            if (auto m = protocol::decode_payload<protocol::ErrorMessage>(payload))
                sdk::throw_agent_error(*m);
            break;
        default:
            break;
    }
    msb::log(msb::LogLevel::kWarn, "exec", "skipping a frame of type {} in session {}",
             protocol::message_info(typed->type).name, frame.id);
    return std::nullopt;
}

}  // namespace

// --- shared state -----------------------------------------------------------------------------------------------

void ExecControl::Impl::signal(int number) {
    if (!ended) client->send(id, protocol::ExecSignal{number});
}
void ExecControl::Impl::resize(std::uint16_t rows, std::uint16_t cols) {
    if (!ended) client->send(id, protocol::ExecResize{rows, cols});
}

void ExecControl::Impl::write_stdin(std::string_view data, const sdk::Cancel& cancel) {
    auto bytes = std::as_bytes(std::span(data.data(), data.size()));
    while (!bytes.empty() && !ended) {
        auto chunk = bytes.first(std::min(bytes.size(), sdk::AgentClient::kMaxDataBytes));
        client->send_data(id, protocol::MessageType::kExecStdin, chunk, cancel);
        bytes = bytes.subspan(chunk.size());
    }
}

void ExecControl::Impl::close_stdin(const sdk::Cancel& cancel) {
    if (!ended) client->send_data(id, protocol::MessageType::kExecStdin, {}, cancel);
}

ExecControl::ExecControl(std::weak_ptr<Impl> impl) : impl_(std::move(impl)) {}
void ExecControl::signal(int number) const {
    if (auto session = impl_.lock()) session->signal(number);
}
void ExecControl::kill() const {
    signal(SIGKILL);
}
void ExecControl::resize(std::uint16_t rows, std::uint16_t cols) const {
    if (auto session = impl_.lock()) session->resize(rows, cols);
}

ExecStdin::ExecStdin(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExecStdin::ExecStdin(ExecStdin&&) noexcept = default;
ExecStdin& ExecStdin::operator=(ExecStdin&&) noexcept = default;
ExecStdin::~ExecStdin() = default;
void ExecStdin::write(std::string_view data, std::stop_token stop) {
    if (!impl_->closed) impl_->session->write_stdin(data, sdk::Cancel(std::move(stop)));
}
void ExecStdin::close() {
    if (std::exchange(impl_->closed, true)) return;
    impl_->session->close_stdin({});
}

// --- handle -----------------------------------------------------------------------------------------------------

ExecHandle ExecAccess::start(const std::shared_ptr<Sandbox::Impl>& sandbox,
                             const std::string& command, const std::vector<std::string>& args,
                             const ExecOptions& options, const sdk::Cancel& cancel) {
    protocol::ExecRequest request;
    request.cmd = command;
    request.args = args;
    request.env = environment(sandbox->config, options);
    request.cwd = options.cwd ? options.cwd : sandbox->config.runtime.workdir;
    if (!request.cwd) request.cwd = "/";
    request.user = options.user ? options.user : sandbox->config.runtime.user;
    request.tty = options.tty;
    request.rows = options.rows;
    request.cols = options.cols;
    request.rlimits = rlimits(options.rlimits);

    auto impl = std::make_shared<ExecHandle::Impl>();
    impl->session = std::make_shared<ExecControl::Impl>();
    impl->session->tty = options.tty;
    impl->sandbox = sandbox;
    impl->stdin_pipe = options.stdin_mode == StdinMode::kPipe;
    impl->session->client =
        sandbox->take_client(sdk::deadline_in(sdk::kAgentConnectTimeout), cancel);
    impl->stream = impl->session->client->open();
    impl->session->id = impl->stream.id();
    impl->session->client->send(impl->session->id, request, cancel);
    if (options.stdin_mode == StdinMode::kBytes) {
        auto write = [session = impl->session, bytes = options.stdin_bytes] {
            session->write_stdin(bytes, {});
            session->close_stdin({});
        };
        if (options.stdin_bytes.size() <= kInlineStdin) {
            write();
        } else {
            // A process that fills its output while we fill its input must not stop both of us.
            impl->stdin_writer = std::jthread([write = std::move(write)] {
                try {
                    write();
                } catch (const std::exception& error) {
                    msb::log(msb::LogLevel::kDebug, "exec", "stdin: {}", error.what());
                }
            });
        }
    }
    return ExecHandle(std::move(impl));
}

ExecHandle::Impl::~Impl() {
    session->ended = true;
    stream = {};
    // An unfinished session ends with its connection: the relay has the guest kill it. Closing also frees a writer that
    // waits for a process that is gone.
    if (session->client && (!finished || stdin_writer.joinable())) session->client->close();
}

void ExecHandle::Impl::finish() {
    finished = true;
    session->ended = true;
    stream = {};
    if (stdin_writer.joinable()) return;  // still writing; the connection goes with the handle
    if (auto box = sandbox.lock()) box->return_client(session->client);
}

std::optional<ExecEvent> ExecHandle::Impl::next(const sdk::Deadline& deadline,
                                                const sdk::Cancel& cancel, bool& timed_out) {
    timed_out = false;
    while (!finished) {
        sdk::AgentFrame frame;
        switch (stream.recv(frame, deadline, cancel)) {
            case sdk::AgentClient::Stream::Result::kTimeout:
                timed_out = true;
                return std::nullopt;
            case sdk::AgentClient::Stream::Result::kFrame: {
                const bool last = frame.terminal();
                if (last) finish();
                if (std::optional<ExecEvent> event = event_of(frame)) return event;
                if (!last) continue;
                break;
            }
            case sdk::AgentClient::Stream::Result::kEnd:
                finish();
                break;
        }
        throw Error(ErrorCode::kRuntime, "exec session ended without exit event");
    }
    return std::nullopt;
}

ExecHandle::ExecHandle(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExecHandle::ExecHandle(ExecHandle&&) noexcept = default;
ExecHandle& ExecHandle::operator=(ExecHandle&&) noexcept = default;
ExecHandle::~ExecHandle() = default;

std::string ExecHandle::id() const {
    return std::to_string(impl_->session->id);
}

std::optional<ExecEvent> ExecHandle::recv(std::stop_token stop) {
    bool timed_out = false;
    return impl_->next(std::nullopt, sdk::Cancel(std::move(stop)), timed_out);
}

ExecPoll ExecHandle::recv_for(std::chrono::milliseconds limit, std::stop_token stop) {
    ExecPoll result;
    result.event =
        impl_->next(sdk::deadline_in(limit), sdk::Cancel(std::move(stop)), result.timed_out);
    return result;
}

std::optional<ExecStdin> ExecHandle::take_stdin() {
    if (!std::exchange(impl_->stdin_pipe, false)) return std::nullopt;
    auto input = std::make_shared<ExecStdin::Impl>();
    input->session = impl_->session;
    return ExecStdin(std::move(input));
}

ExecControl ExecHandle::control() const {
    return ExecControl(impl_->session);
}
void ExecHandle::signal(int number) {
    impl_->session->signal(number);
}
void ExecHandle::kill() {
    impl_->session->signal(SIGKILL);
}
void ExecHandle::resize(std::uint16_t rows, std::uint16_t cols) {
    impl_->session->resize(rows, cols);
}

std::optional<ExitStatus> ExecHandle::Impl::run_to_end(ExecOutput* output,
                                                       const sdk::Deadline& deadline,
                                                       const sdk::Cancel& cancel) {
    for (;;) {
        bool timed_out = false;
        std::optional<ExecEvent> event = next(deadline, cancel, timed_out);
        if (timed_out) return std::nullopt;
        if (!event) throw Error(ErrorCode::kRuntime, "exec session has already ended");
        if (auto* exited = std::get_if<ExecExited>(&*event)) return ExitStatus{exited->code};
        if (auto* failed = std::get_if<ExecFailed>(&*event))
            throw ExecFailedError(std::move(failed->failure));
        if (output == nullptr) continue;
        if (auto* out = std::get_if<ExecStdout>(&*event)) output->stdout_bytes += out->data;
        if (auto* err = std::get_if<ExecStderr>(&*event)) output->stderr_bytes += err->data;
    }
}

ExitStatus ExecHandle::wait(std::stop_token stop) {
    return *impl_->run_to_end(nullptr, std::nullopt, sdk::Cancel(std::move(stop)));
}

ExecOutput ExecHandle::collect(std::stop_token stop) {
    ExecOutput output;
    output.status = *impl_->run_to_end(&output, std::nullopt, sdk::Cancel(std::move(stop)));
    return output;
}

// --- Sandbox ----------------------------------------------------------------------------------------------------

ExecHandle Sandbox::exec_stream(const std::string& command, const std::vector<std::string>& args,
                                const ExecOptions& options, std::stop_token stop) const {
    return ExecAccess::start(impl_, command, args, options, sdk::Cancel(std::move(stop)));
}

ExecOutput Sandbox::exec(const std::string& command, const std::vector<std::string>& args,
                         const ExecOptions& options, std::stop_token stop) const {
    if (options.stdin_mode == StdinMode::kPipe)
        throw Error(ErrorCode::kInvalidConfig, "stdin_pipe needs a streaming exec");
    sdk::Cancel cancel(std::move(stop));
    const sdk::Deadline deadline =
        options.timeout ? sdk::deadline_in(*options.timeout) : sdk::Deadline{};
    ExecHandle handle = ExecAccess::start(impl_, command, args, options, cancel);
    ExecHandle::Impl& running = ExecAccess::impl(handle);
    ExecOutput output;
    if (auto status = running.run_to_end(&output, deadline, cancel)) {
        output.status = *status;
        return output;
    }
    handle.kill();
    running.run_to_end(nullptr, sdk::deadline_in(kTimeoutKillWait), cancel);
    throw ExecTimeoutError(options.timeout->count());
}

ExecOutput Sandbox::shell(const std::string& script, const ExecOptions& options,
                          std::stop_token stop) const {
    return exec(shell_path(), {"-c", script}, options, std::move(stop));
}
ExecHandle Sandbox::shell_stream(const std::string& script, const ExecOptions& options,
                                 std::stop_token stop) const {
    return exec_stream(shell_path(), {"-c", script}, options, std::move(stop));
}

ExecOutput Sandbox::exec_default(const std::optional<std::vector<std::string>>& args,
                                 const ExecOptions& options, std::stop_token stop) const {
    std::vector<std::string> argv = default_command(args);
    return exec(argv.front(), {argv.begin() + 1, argv.end()}, options, std::move(stop));
}
ExecHandle Sandbox::exec_default_stream(const std::optional<std::vector<std::string>>& args,
                                        const ExecOptions& options, std::stop_token stop) const {
    std::vector<std::string> argv = default_command(args);
    return exec_stream(argv.front(), {argv.begin() + 1, argv.end()}, options, std::move(stop));
}

}  // namespace microsandbox
