// exec --stream. One thread moves standard input to the guest; this one moves output to the host. Back-pressure is
// natural both ways: a guest that does not read blocks the writer, a host that does not read blocks the receiver.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "base/fd.h"
#include "base/time.h"
#include "cli/commands/session.h"
#include "cli/commands/session_parts.h"
#include "cli/report.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kReadSize = 64 << 10;

// Standard input to the guest until EOF, an error, or `stop` becomes readable.
void forward_stdin(microsandbox::ExecStdin input, int stop, std::stop_token cancel) {
    std::array<char, kReadSize> buffer;
    try {
        for (;;) {
            std::array<pollfd, 2> wait = {pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{stop, POLLIN, 0}};
            if (::poll(wait.data(), wait.size(), -1) < 0) {
                if (errno == EINTR) continue;
                break;
            }
            if (wait[1].revents != 0) return;
            const ssize_t count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
            if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
            if (count <= 0) break;
            input.write(std::string_view(buffer.data(), static_cast<std::size_t>(count)), cancel);
        }
        input.close();
    } catch (const microsandbox::Error&) {
        // The session is over or the command no longer reads; the receiving side reports how it ended.
    }
}

class StdinForwarder {
  public:
    explicit StdinForwarder(microsandbox::ExecStdin input) : pipe_(make_pipe()) {
        thread_ = std::jthread([this, source = std::move(input)](std::stop_token cancel) mutable {
            forward_stdin(std::move(source), pipe_.read.get(), std::move(cancel));
        });
    }
    ~StdinForwarder() {
        pipe_.write.reset();  // wakes the poll
        thread_.request_stop();
    }

  private:
    PipeFds pipe_;
    std::jthread thread_;  // joins before the pipe goes
};

// A closed pipe on our side ends the command: nobody is left to read it.
class HostPipeClosed {};

void write_or_stop(int fd, std::string_view data) {
    if (write_all(fd, data) != 0) throw HostPipeClosed();
}

// Returns the exit code, or nullopt to go on.
std::optional<int> handle(const microsandbox::ExecEvent& event) {
    if (const auto* out = std::get_if<microsandbox::ExecStdout>(&event))
        write_or_stop(STDOUT_FILENO, out->data);
    if (const auto* err = std::get_if<microsandbox::ExecStderr>(&event))
        write_or_stop(STDERR_FILENO, err->data);
    if (const auto* exited = std::get_if<microsandbox::ExecExited>(&event))
        return guest_exit_code(exited->code);
    if (const auto* failed = std::get_if<microsandbox::ExecFailed>(&event)) {
        print_error("exec failed to start: " + printable(failed->failure.message));
        return 1;
    }
    return std::nullopt;
}

}  // namespace

int stream_session(const microsandbox::Sandbox& sandbox, const Session& session) {
    const auto argv = resolve_command(sandbox, session);
    if (!argv) {
        print_warning("no command provided and stdin is not a terminal");
        return 0;
    }
    ::signal(SIGPIPE, SIG_IGN);
    auto options = exec_options(session);
    options.stdin_mode = microsandbox::StdinMode::kPipe;
    const auto limit = session_timeout(session);
    const auto deadline = limit ? std::optional(Clock::now() + *limit) : std::nullopt;

    auto command = sandbox.exec_stream(argv->front(), {argv->begin() + 1, argv->end()}, options);
    const StdinForwarder forwarder(command.take_stdin().value());
    try {
        for (;;) {
            microsandbox::ExecPoll next;
            if (deadline) {
                const auto left =
                    std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now());
                next = command.recv_for(std::max(left, std::chrono::milliseconds(0)));
            } else {
                next.event = command.recv();
            }
            if (next.timed_out) {
                command.kill();
                print_error("exec timed out after " + display_duration(limit->count() * 1'000'000));
                return 1;
            }
            if (!next.event) {
                print_error("exec session ended without exit event");
                return 1;
            }
            if (const auto code = handle(*next.event)) return *code;
        }
    } catch (const HostPipeClosed&) {
        command.kill();
        return 0;
    }
}

}  // namespace msb::cli
