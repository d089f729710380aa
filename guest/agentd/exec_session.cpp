#include "agentd/exec_session.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "agentd/exec_error.h"
#include "agentd/pty.h"

namespace msb::agentd {

namespace {

constexpr std::size_t kChunk = 4096;  // spec section 9: output chunks are at most this
// One read may fill several chunks: a full pipe costs one system call. Then other sessions get their turn.
constexpr std::size_t kReadSize = 16 * kChunk;
constexpr unsigned kPidfdSignalProcessGroup = 1u << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
constexpr int kLastStandardSignal = 31;

}  // namespace

ExecSession::ExecSession(const Context& context, std::uint32_t id, pid_t pid,
                         SessionStreams streams, std::function<void()> finished)
    : context_(context),
      id_(id),
      pid_(pid),
      // The process is not reaped yet, so the number cannot mean another one.
      pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))),
      tty_(streams.tty),
      input_(std::move(streams.input)),
      stdin_queue_(context.budget),
      finished_(std::move(finished)) {
    output_.fd = std::move(streams.output);
    output_.type = protocol::MessageType::kExecStdout;
    errors_.fd = std::move(streams.errors);
    errors_.type = protocol::MessageType::kExecStderr;
}

void ExecSession::start() {
    watch_stream(output_);
    if (errors_.fd) watch_stream(errors_);
    if (input_)
        input_watch_ = std::make_unique<Watch>(context_.loop, input_.get(),
                                               [this](std::uint32_t) { flush_stdin(); });
}

void ExecSession::watch_stream(Stream& stream) {
    stream.ended = false;
    stream.watch = std::make_unique<Watch>(
        context_.loop, stream.fd.get(),
        [this, &stream](std::uint32_t events) { on_output_event(stream, events); });
    update_interest(stream);
}

void ExecSession::on_output_event(Stream& stream, std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush_stdin();
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) read_stream(stream);
}

void ExecSession::read_stream(Stream& stream) {
    std::array<std::byte, kReadSize> buffer;
    for (std::size_t taken = 0; taken < kReadSize;) {
        if (context_.output.must_pause(id_)) {
            stream.paused = true;
            update_interest(stream);
            return;
        }
        ssize_t n = ::read(stream.fd.get(), buffer.data(), kReadSize - taken);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        // A master whose last slave is closed fails with EIO: that is its end of file.
        if (n <= 0) return end_stream(stream);
        auto data = std::span(buffer).first(static_cast<std::size_t>(n));
        taken += data.size();
        context_.activity.exec_output_bytes += data.size();
        while (!data.empty()) {
            const std::size_t size = std::min(kChunk, data.size());
            context_.output.send_data(id_, stream.type, data.first(size));
            data = data.subspan(size);
        }
    }
}

void ExecSession::update_interest(Stream& stream) {
    if (!stream.watch) return;
    // While paused nothing is watched: a hang-up would be reported again and again.
    std::uint32_t events = stream.paused ? 0u : EPOLLIN;
    if (tty_ && stdin_blocked_ && !stream.paused) events |= EPOLLOUT;
    stream.watch->want(events);
}

void ExecSession::resume() {
    for (Stream* stream : {&output_, &errors_}) {
        if (!stream->paused) continue;
        stream->paused = false;
        update_interest(*stream);
    }
}

void ExecSession::end_stream(Stream& stream) {
    stream.ended = true;
    stream.watch.reset();
    // A program may close its terminal before it exits. Closing the master now would hang up on it:
    // the master lives as long as the session.
    if (tty_)
        stdin_queue_.clear();
    else
        stream.fd.reset();
    finish_if_done();
}

void ExecSession::write_stdin(std::span<const std::byte> data) {
    if (stdin_fd() < 0 || stdin_closing_ || (tty_ && output_.ended)) return;
    if (data.empty()) {
        // Closing a terminal is the program's own affair: the byte 4 does it.
        if (tty_) return;
        stdin_closing_ = true;
    } else {
        stdin_queue_.push(data);
    }
    if (!stdin_blocked_) flush_stdin();
}

void ExecSession::flush_stdin() {
    int fd = stdin_fd();
    if (fd < 0) return;
    int error = 0;
    WriteQueue::Result result;
    while ((result = stdin_queue_.write_to(fd, error)) == WriteQueue::Result::kFailed)
        context_.output.send(id_, stdin_failure(error));
    stdin_blocked_ = result == WriteQueue::Result::kBlocked;
    if (tty_)
        update_interest(output_);
    else if (!stdin_blocked_ && stdin_closing_)
        close_stdin();
    else if (input_watch_)
        input_watch_->want(stdin_blocked_ ? EPOLLOUT : 0u);
}

void ExecSession::close_stdin() {
    input_watch_.reset();
    input_.reset();
}

void ExecSession::resize(std::uint16_t rows, std::uint16_t cols) {
    if (tty_ && output_.fd) set_window_size(output_.fd.get(), rows, cols);
}

void ExecSession::signal(int number) {
    if (number < 1 || number > kLastStandardSignal) return;
    // Through the descriptor the group is the one this process led, even after the number was reused.
    if (pidfd_ && ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr,
                            kPidfdSignalProcessGroup) == 0)
        return;
    // A kernel older than 6.9 refuses the flag. Until the leader is reaped its number is safe to use.
    if (reaped_) return;
    if (::kill(-pid_, number) != 0) ::kill(pid_, number);
}

void ExecSession::reaped(int wait_status) {
    reaped_ = true;
    exit_code_ = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1;
    finish_if_done();
}

void ExecSession::finish_if_done() {
    if (done_ || !reaped_ || !output_.ended || !errors_.ended) return;
    done_ = true;
    auto finished = std::move(finished_);
    finished();
}

}  // namespace msb::agentd
