#include "agentd/agent.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>

#include "agentd/clock.h"
#include "agentd/failure.h"
#include "base/error.h"

namespace msb::agentd {

namespace {

using protocol::ErrorKind;
using protocol::MessageType;

constexpr std::size_t kReadSize = 64 * 1024;
constexpr int kReadsPerTurn = 16;  // then output is flushed and others get their turn
constexpr std::uint8_t kFirstErrorGeneration = 5;
constexpr std::int64_t kPortRetry = 100'000'000;
// More calls than this blocking at once (each on a FIFO nobody opens, say) make later ones wait.
constexpr std::size_t kMaxWorkers = 32;

UniqueFd block_child_signal() {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    ::pthread_sigmask(SIG_BLOCK, &mask, nullptr);
    UniqueFd fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) throw_os_error(errno, "watch for exiting children");
    return fd;
}

}  // namespace

Agent::Agent(UniqueFd port, protocol::FrameReader reader, AgentConfig config)
    : config_(std::move(config)),
      port_(std::move(port)),
      reader_(std::move(reader)),
      child_signals_(block_child_signal()),
      output_(activity_,
              [this, owner = std::this_thread::get_id()] {
                  // The loop flushes after every turn; only other threads have to start one.
                  if (std::this_thread::get_id() != owner) loop_.post([] {});
              }),
      workers_(kMaxWorkers) {
    ::signal(SIGPIPE, SIG_IGN);
    ExecSession::Context context{loop_, output_, activity_, budget_};
    exec_ = std::make_unique<ExecService>(context, config_);
    fs_ = std::make_unique<FsService>(loop_, workers_, output_, activity_, budget_);
    tcp_ = std::make_unique<TcpService>(TcpSession::Context{loop_, output_, activity_, budget_},
                                        workers_);
    child_watch_ = std::make_unique<Watch>(loop_, child_signals_.get(),
                                           [this](std::uint32_t) { on_child_exit(); });
    port_watch_ = std::make_unique<Watch>(loop_, port_.get(),
                                          [this](std::uint32_t events) { on_port_event(events); });
}

Agent::~Agent() {
    output_.close();
}

void Agent::send_ready(const protocol::Ready& ready) {
    protocol::ByteBuffer frame;
    if (!protocol::append_frame(frame, 0, ready)) throw init_error("core.ready is too large");
    if (int err = write_all(port_.get(), std::span(frame))) throw io_error(os_error_text(err));
}

Agent::End Agent::run() {
    child_watch_->want(EPOLLIN);
    reap();            // children that exited before the signal was blocked
    process_frames();  // the host may have queued requests behind its boot frames
    settle();
    while (!end_) {
        loop_.poll_once();
        settle();
    }
    return *end_;
}

// --- the port -------------------------------------------------------------------------------------

void Agent::on_port_event(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) output_blocked_ = false;
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) read_port();
}

void Agent::read_port() {
    for (int turn = 0; turn < kReadsPerTurn && !end_ && !input_stopped(); ++turn) {
        ssize_t n = ::read(port_.get(), reader_.writable(kReadSize).data(), kReadSize);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return port_lost();
        reader_.commit(static_cast<std::size_t>(n));
        process_frames();
    }
}

void Agent::port_lost() {
    if (!config_.handed_off) {
        end_ = End::kPortClosed;
        return;
    }
    // Without its PID 1 duty the agent waits for the host to come back, without spinning.
    port_lost_ = true;
    port_watch_->want(0);
    loop_.after(kPortRetry, [this] { port_lost_ = false; });
}

void Agent::apply_flow(const protocol::RuntimeFlow& flow) {
    output_.set_flow(flow);
    if (flow.paused) return;
    loop_.post([this] {
        exec_->resume_output();
        tcp_->resume_output();
    });
}

// After every turn of the loop: send what was produced, then decide who may produce and whom the
// port is watched for.
void Agent::settle() {
    if (end_) return;
    if (!output_blocked_ && !port_lost_) {
        OutputQueue::Flush result = output_.flush(port_.get());
        if (result == OutputQueue::Flush::kFailed) port_lost();
        output_blocked_ = result == OutputQueue::Flush::kBlocked;
    }
    if (output_.resume_due()) {
        exec_->resume_output();
        tcp_->resume_output();
    }
    if (port_lost_ || end_) return;
    // Frames that were left in the reader when input stopped do not come with an event.
    process_frames();
    std::uint32_t wanted = input_stopped() ? 0u : EPOLLIN;
    if (output_blocked_) wanted |= EPOLLOUT;
    port_watch_->want(wanted);
    if (!output_blocked_ && !output_.empty()) loop_.post([] {});
}

// --- children -------------------------------------------------------------------------------------

void Agent::on_child_exit() {
    std::array<signalfd_siginfo, 8> info;
    while (::read(child_signals_.get(), info.data(), sizeof info) > 0) {
    }
    reap();
}

void Agent::reap() {
    if (!exec_->reap()) loop_.post([this] { reap(); });
}

// --- frames ---------------------------------------------------------------------------------------

void Agent::process_frames() {
    while (!end_ && !input_stopped()) {
        auto frame = reader_.next();
        if (!frame) break;
        process(*frame);
    }
    if (reader_.error()) throw Failure("protocol error: " + *reader_.error());
}

void Agent::process(const protocol::FrameView& frame) {
    auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) {
        reject(frame, kFirstErrorGeneration,
               {ErrorKind::kMalformedMessage, "decode message: " + envelope.error().message,
                std::nullopt});
        return;
    }
    if (!envelope->type) {
        std::string name(envelope->type_name);
        reject(frame, envelope->generation,
               {ErrorKind::kUnsupportedMessageType, "unsupported message type: " + name, name});
        return;
    }
    const protocol::MessageInfo& info = protocol::message_info(*envelope->type);
    if (frame.flags != info.flags) {
        std::string name(info.name);
        reject(frame, envelope->generation,
               {ErrorKind::kInvalidFlags,
                "invalid flags for " + name + ": got " + std::to_string(frame.flags) +
                    ", expected " + std::to_string(info.flags),
                name});
        return;
    }
    if (envelope->type != MessageType::kClockSync && envelope->type != MessageType::kPing &&
        envelope->type != MessageType::kTouch)
        activity_.count_host_message();
    dispatch(frame, *envelope);
}

void Agent::reject(const protocol::FrameView& frame, std::uint8_t generation,
                   protocol::ErrorMessage error) {
    // Older peers do not know core.error; upstream dies here, we ignore their frame.
    if (generation < kFirstErrorGeneration) return;
    output_.send(frame.id, error);
}

template <class M>
std::optional<M> Agent::decode(const protocol::FrameView& frame,
                               const protocol::Envelope& envelope) {
    auto message = protocol::decode_payload<M>(envelope.payload.span());
    if (message) return std::move(*message);
    std::string name(protocol::message_info(M::kType).name);
    reject(
        frame, envelope.generation,
        {ErrorKind::kInvalidPayload,
         "decode payload for " + name + ": cbor decode error: " + message.error().message, name});
    return std::nullopt;
}

void Agent::dispatch(const protocol::FrameView& frame, const protocol::Envelope& envelope) {
    using enum MessageType;
    switch (*envelope.type) {
        case kPing:
        case kTouch:
        case kClockSync:
        case kClientDisconnected:
        case kShutdown:
            return dispatch_core(frame, envelope);
        case kExecRequest:
        case kExecStdin:
        case kExecResize:
        case kExecSignal:
            return dispatch_exec(frame, envelope);
        case kFsRequest:
        case kFsData:
            return dispatch_fs(frame, envelope);
        case kTcpConnect:
        case kTcpData:
        case kTcpEof:
        case kTcpClose:
            return dispatch_tcp(frame, envelope);
        default:
            return;  // known, but nothing a host may ask: ignored (spec section 8)
    }
}

void Agent::dispatch_core(const protocol::FrameView& frame, const protocol::Envelope& envelope) {
    switch (*envelope.type) {
        case MessageType::kPing:
            if (decode<protocol::Ping>(frame, envelope)) output_.send(frame.id, protocol::Pong{});
            return;
        case MessageType::kTouch:
            if (decode<protocol::Touch>(frame, envelope))
                output_.send(frame.id,
                             protocol::Touched{.activity_seq = activity_.count_host_message()});
            return;
        case MessageType::kClockSync:
            if (auto sync = decode<protocol::ClockSync>(frame, envelope))
                sync_clock(sync->unix_time_nanos);
            return;
        case MessageType::kClientDisconnected:
            if (auto gone = decode<protocol::ClientDisconnected>(frame, envelope)) {
                fs_->disconnect(gone->id_start, gone->id_end_exclusive);
                tcp_->disconnect(gone->id_start, gone->id_end_exclusive);
                // A client that was paused and left must not leave its sessions' last output undrained.
                apply_flow({gone->id_start, gone->id_end_exclusive, false});
            }
            return;
        case MessageType::kShutdown:
            return begin_shutdown();
        default:
            return;
    }
}

void Agent::dispatch_exec(const protocol::FrameView& frame, const protocol::Envelope& envelope) {
    switch (*envelope.type) {
        case MessageType::kExecRequest:
            if (auto request = decode<protocol::ExecRequest>(frame, envelope))
                exec_->request(frame.id, *request);
            return;
        case MessageType::kExecStdin:
            if (auto input = decode<protocol::ExecStdin>(frame, envelope))
                exec_->write_stdin(frame.id, input->data.span());
            return;
        case MessageType::kExecResize:
            if (auto size = decode<protocol::ExecResize>(frame, envelope))
                exec_->resize(frame.id, *size);
            return;
        case MessageType::kExecSignal:
            if (auto signal = decode<protocol::ExecSignal>(frame, envelope))
                exec_->signal(frame.id, signal->signal);
            return;
        default:
            return;
    }
}

void Agent::dispatch_fs(const protocol::FrameView& frame, const protocol::Envelope& envelope) {
    if (envelope.type == MessageType::kFsRequest) {
        if (auto request = decode<protocol::FsRequest>(frame, envelope))
            fs_->request(frame.id, std::move(*request));
    } else if (auto data = decode<protocol::FsData>(frame, envelope)) {
        fs_->data(frame.id, data->data.span());
    }
}

void Agent::dispatch_tcp(const protocol::FrameView& frame, const protocol::Envelope& envelope) {
    switch (*envelope.type) {
        case MessageType::kTcpConnect:
            if (auto target = decode<protocol::TcpConnect>(frame, envelope))
                tcp_->connect(frame.id, *target);
            return;
        case MessageType::kTcpData:
            if (auto data = decode<protocol::TcpData>(frame, envelope))
                tcp_->data(frame.id, data->data.span());
            return;
        case MessageType::kTcpEof:
            if (decode<protocol::TcpEof>(frame, envelope)) tcp_->eof(frame.id);
            return;
        case MessageType::kTcpClose:
            if (decode<protocol::TcpClose>(frame, envelope)) tcp_->close(frame.id);
            return;
        default:
            return;
    }
}

void Agent::begin_shutdown() {
    exec_->signal_all(SIGTERM);
    // Open files would keep their file systems from going read-only.
    fs_->disconnect(0, UINT32_MAX);
    tcp_->disconnect(0, UINT32_MAX);
    end_ = End::kShutdown;
}

}  // namespace msb::agentd
