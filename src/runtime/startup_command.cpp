#include "runtime/startup_command.h"

#include <cstring>
#include <utility>

namespace msb::runtime {

StartupCommandRunner::StartupCommandRunner(EventLoop& loop, Relay& relay,
                                           contract::StartupCommand command,
                                           std::function<void(std::string)> finished)
    : loop_(loop), relay_(relay), command_(std::move(command)), finished_(std::move(finished)) {}

void StartupCommandRunner::start() {
    const auto slot = relay_.add_client(*this);
    if (!slot) return finish("no relay slot is free");
    slot_ = *slot;
    send_request();
}

void StartupCommandRunner::send_request() {
    protocol::ExecRequest request;
    request.cmd = command_.cmd;
    request.args = command_.args;
    request.env = command_.env;
    request.cwd = command_.cwd;
    request.user = command_.user;
    protocol::ByteBuffer frame;
    if (!protocol::append_frame(frame, Relay::id_start(slot_), request))
        return finish("the command does not fit a frame");
    // The relay reads like from a socket: in pieces of its buffer's size.
    for (std::span<const std::byte> rest = frame; !rest.empty();) {
        const auto buffer = relay_.client_buffer(slot_);
        const std::size_t count = std::min(rest.size(), buffer.size());
        std::memcpy(buffer.data(), rest.data(), count);
        relay_.client_received(slot_, count);
        rest = rest.subspan(count);
    }
}

std::optional<std::size_t> StartupCommandRunner::write_some(std::span<const std::byte> bytes) {
    const std::size_t skip = std::min(handshake_left_, bytes.size());
    handshake_left_ -= skip;
    input_.append(bytes.subspan(skip));
    while (auto frame = input_.next())
        handle(*frame);
    return bytes.size();
}

void StartupCommandRunner::handle(const protocol::FrameView& frame) {
    if (frame.id != Relay::id_start(slot_) || (frame.flags & protocol::kFlagTerminal) == 0) return;
    const auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) return finish("undecodable answer");
    if (envelope->type == protocol::MessageType::kExecExited) {
        const auto exited =
            protocol::decode_payload<protocol::ExecExited>(envelope->payload.span());
        if (!exited) return finish("undecodable answer");
        return finish(exited->code == 0 ? "" : "exit code " + std::to_string(exited->code));
    }
    if (envelope->type == protocol::MessageType::kExecFailed) {
        const auto failed =
            protocol::decode_payload<protocol::ExecFailed>(envelope->payload.span());
        return finish(failed ? failed->message : "undecodable answer");
    }
    finish("refused by the guest");
}

void StartupCommandRunner::finish(std::string detail) {
    if (auto finished = std::exchange(finished_, nullptr))
        loop_.post(
            [finished = std::move(finished), detail = std::move(detail)] { finished(detail); });
}

}  // namespace msb::runtime
