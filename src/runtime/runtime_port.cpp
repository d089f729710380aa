#include "runtime/runtime_port.h"

#include <sys/socket.h>

#include <cerrno>

namespace msb::runtime {
namespace {

constexpr std::size_t kReadChunk = 4096;
// A guest that does not read this port loses what is beyond this; a million flow changes do not pile up here.
constexpr std::size_t kMaxQueued = 1u << 20;

}  // namespace

RuntimePort::RuntimePort(EventLoop& loop, UniqueFd socket, Handlers handlers)
    : socket_(std::move(socket)),
      handlers_(std::move(handlers)),
      watch_(loop, socket_.get(), [this] { readable(); }, [this] { flush(); }) {
    set_nonblocking(socket_.get(), true);
    watch_.want_read(true);
}

void RuntimePort::readable() {
    const auto buffer = input_.writable(kReadChunk);
    const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (count <= 0) return watch_.want_read(false);  // the machine's end is reported elsewhere
    input_.commit(static_cast<std::size_t>(count));
    for (;;) {
        while (auto frame = input_.next())
            handle(*frame);
        if (!input_.error()) return;
        if (!input_.skip_short_frame()) input_.clear();
    }
}

void RuntimePort::handle(const protocol::FrameView& frame) {
    const auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) return;
    if (envelope->type == protocol::MessageType::kRuntimeHeartbeat) {
        if (auto beat =
                protocol::decode_payload<protocol::RuntimeHeartbeat>(envelope->payload.span()))
            handlers_.heartbeat(*beat);
    } else if (envelope->type == protocol::MessageType::kRuntimeCpuState) {
        if (auto state =
                protocol::decode_payload<protocol::RuntimeCpuState>(envelope->payload.span()))
            handlers_.cpu_state(*state);
    }
}

void RuntimePort::send_cpu_target(unsigned online) {
    protocol::ByteBuffer frame;
    if (protocol::append_frame(frame, 0, protocol::RuntimeCpuTarget{.online = online})) send(frame);
}

void RuntimePort::send_flow(std::uint32_t id_start, std::uint32_t id_end, bool paused) {
    protocol::ByteBuffer frame;
    const protocol::RuntimeFlow flow{
        .id_start = id_start, .id_end_exclusive = id_end, .paused = paused};
    if (protocol::append_frame(frame, 0, flow)) send(frame);
}

void RuntimePort::send(std::span<const std::byte> frame) {
    if (output_.size() + frame.size() > kMaxQueued) return;
    output_.append(frame);
    flush();
}

void RuntimePort::flush() {
    watch_.want_write(false);
    while (!output_.empty()) {
        const auto head = output_.front();
        const ssize_t sent =
            ::send(socket_.get(), head.data(), head.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                watch_.want_write(true);
            else
                output_.clear();
            return;
        }
        output_.consume(static_cast<std::size_t>(sent));
    }
}

}  // namespace msb::runtime
