// Interactive commands: this process's terminal becomes the guest process's (spec/sdk.md section 6.3).
//
// Two threads: the calling one moves output, a second one moves input and follows the terminal's size, so that a guest
// process that does not read its input cannot hold its own output up.
#include <microsandbox/sandbox.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/error.h"
#include "sdk/exec_impl.h"
#include "sdk/terminal.h"

namespace microsandbox {

namespace sdk = msb::sdk;

namespace {

// Detach keys are looked for in reads of at most this size.
constexpr std::size_t kInputBytes = 1024;
constexpr std::chrono::seconds kTimeoutKillWait{5};
constexpr int kDetachedCode = -1;

// The input side. Ends (and then requests `done`) at detach, end of input, or when `done` is requested.
class InputPump {
  public:
    InputPump(std::shared_ptr<ExecControl::Impl> session, const sdk::RawTerminal& terminal,
              std::string detach_keys, sdk::TerminalSize size, std::stop_source done)
        : session_(std::move(session)),
          terminal_(terminal),
          matcher_(std::move(detach_keys)),
          size_(size),
          done_(std::move(done)) {}

    void run() {
        try {
            sdk::Cancel cancel(done_.get_token());
            follow_size();  // it may have changed since the request was sent
            while (step(cancel)) {
            }
        } catch (const Error&) {
            // Cancelled, or the connection is gone: the output side knows.
        }
        done_.request_stop();
    }

  private:
    bool step(const sdk::Cancel& cancel) {
        std::array<pollfd, 3> fds{pollfd{STDIN_FILENO, POLLIN, 0},
                                  pollfd{terminal_.resize_fd(), POLLIN, 0},
                                  pollfd{cancel.fd(), POLLIN, 0}};
        if (::poll(fds.data(), fds.size(), -1) < 0) return errno == EINTR;
        if (fds[2].revents != 0) return false;
        if (fds[1].revents != 0) {
            terminal_.drain();
            follow_size();
        }
        if (fds[0].revents == 0) return true;
        std::array<char, kInputBytes> bytes;
        const ssize_t n = ::read(STDIN_FILENO, bytes.data(), bytes.size());
        if (n < 0) return errno == EINTR || errno == EAGAIN;
        if (n == 0) return false;
        const std::string_view chunk(bytes.data(), static_cast<std::size_t>(n));
        if (matcher_.feed(chunk)) return false;
        session_->write_stdin(chunk, cancel);
        return true;
    }

    void follow_size() {
        const sdk::TerminalSize now = sdk::terminal_size(STDIN_FILENO);
        if (now == size_) return;
        size_ = now;
        session_->resize(now.rows, now.cols);
    }

    std::shared_ptr<ExecControl::Impl> session_;
    const sdk::RawTerminal& terminal_;
    sdk::DetachMatcher matcher_;
    sdk::TerminalSize size_;
    std::stop_source done_;
};

// The guest says first whether it could start the command.
void wait_started(ExecHandle::Impl& handle, const sdk::Deadline& deadline,
                  const sdk::Cancel& cancel, std::int64_t timeout_ms) {
    bool timed_out = false;
    std::optional<ExecEvent> event = handle.next(deadline, cancel, timed_out);
    if (timed_out) throw ExecTimeoutError(timeout_ms);
    if (!event) throw Error(ErrorCode::kRuntime, "exec session ended without exit event");
    if (auto* failed = std::get_if<ExecFailed>(&*event))
        throw ExecFailedError(std::move(failed->failure));
}

// Copies output to ours until the command ends. nullopt: the deadline passed.
std::optional<int> pump_output(ExecHandle::Impl& handle, const sdk::Deadline& deadline,
                               const sdk::Cancel& cancel) {
    for (;;) {
        bool timed_out = false;
        std::optional<ExecEvent> event = handle.next(deadline, cancel, timed_out);
        if (timed_out) return std::nullopt;
        if (!event) return kDetachedCode;
        if (auto* exited = std::get_if<ExecExited>(&*event)) return exited->code;
        if (auto* failed = std::get_if<ExecFailed>(&*event))
            throw ExecFailedError(std::move(failed->failure));
        const std::string* data = nullptr;
        if (auto* out = std::get_if<ExecStdout>(&*event)) data = &out->data;
        if (auto* err = std::get_if<ExecStderr>(&*event)) data = &err->data;
        if (data != nullptr && msb::write_all(STDOUT_FILENO, *data) != 0) return kDetachedCode;
    }
}

}  // namespace

int Sandbox::attach(const std::string& command, const std::vector<std::string>& args,
                    const AttachOptions& options, std::stop_token stop) const {
    const std::string detach_keys =
        sdk::parse_detach_keys(options.detach_keys.value_or(std::string(sdk::kDefaultDetachKeys)));
    sdk::require_terminal(STDIN_FILENO);
    const sdk::TerminalSize size = sdk::terminal_size(STDIN_FILENO);
    const sdk::Deadline deadline =
        options.timeout ? sdk::deadline_in(*options.timeout) : sdk::Deadline{};
    const std::int64_t timeout_ms = options.timeout ? options.timeout->count() : 0;

    ExecOptions exec;
    exec.cwd = options.cwd;
    exec.user = options.user;
    exec.env = options.env;
    exec.rlimits = options.rlimits;
    exec.stdin_mode = StdinMode::kPipe;
    exec.tty = true;
    exec.rows = size.rows;
    exec.cols = size.cols;
    ExecHandle handle = exec_stream(command, args, exec, stop);
    ExecHandle::Impl& running = ExecAccess::impl(handle);
    {
        sdk::Cancel cancel(stop);
        wait_started(running, deadline, cancel, timeout_ms);
    }

    std::optional<int> code;
    {
        // `done` ends both sides: requested by detach and end of input, by the caller's token, and at the end.
        std::stop_source done;
        std::stop_callback forward(stop, [&] { done.request_stop(); });
        sdk::RawTerminal terminal(STDIN_FILENO);
        InputPump input(running.session, terminal, detach_keys, size, done);
        std::jthread input_thread([&] { input.run(); });
        struct Finish {
            std::stop_source& source;
            ~Finish() { source.request_stop(); }
        } finish{done};
        try {
            sdk::Cancel cancel(done.get_token());
            code = pump_output(running, deadline, cancel);
            if (!code) {
                running.session->signal(SIGKILL);
                running.run_to_end(nullptr, sdk::deadline_in(kTimeoutKillWait), cancel);
            }
        } catch (const Error& error) {
            if (error.code() == ErrorCode::kCancelled && stop.stop_requested()) throw;
            if (error.code() != ErrorCode::kCancelled && error.code() != ErrorCode::kRuntime &&
                error.code() != ErrorCode::kAgentClient)
                throw;
            if (!options.timeout || sdk::Clock::now() < *deadline) code = kDetachedCode;
        }
    }
    if (!code) throw ExecTimeoutError(timeout_ms);
    return *code;
}

int Sandbox::attach_default(const AttachOptions& options, std::stop_token stop) const {
    const std::vector<std::string> argv = default_command();
    return attach(argv.front(), {argv.begin() + 1, argv.end()}, options, std::move(stop));
}

int Sandbox::attach_shell(const AttachOptions& options, std::stop_token stop) const {
    return attach(shell_path(), {}, options, std::move(stop));
}

}  // namespace microsandbox
