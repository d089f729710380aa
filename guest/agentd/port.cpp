#include "agentd/port.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/error.h"
#include "base/text.h"
#include "base/time.h"
#include "protocol/bootstrap_rules.h"

namespace msb::agentd {

namespace {

constexpr const char* kPortClass = "/sys/class/virtio-ports";
constexpr std::size_t kBootRead = 4096;  // one virtio-serial input buffer
// How long the host may take for each of its two boot frames.
constexpr std::int64_t kBootFrameTimeout = 60'000'000'000;
constexpr std::uint8_t kFirstBootstrapGeneration = 7;

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};

// The device node of the port, "" when there is none. Throws Failure when there is no port at all.
std::string port_device(std::string_view name) {
    std::unique_ptr<DIR, CloseDirectory> directory(::opendir(kPortClass));
    if (!directory)
        throw serial_error("cannot read " + std::string(kPortClass) + ": " + os_error_text(errno));
    while (const dirent* entry = ::readdir(directory.get())) {
        std::string port(entry->d_name);
        if (port.starts_with('.')) continue;
        if (trim(read_kernel_file(std::string(kPortClass) + "/" + port + "/name")) == name)
            return "/dev/" + port;
    }
    return {};
}

UniqueFd open_device(const std::string& device) {
    UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!fd) throw io_error(os_error_text(errno));
    return fd;
}

}  // namespace

UniqueFd open_port(std::string_view name) {
    std::string device = port_device(name);
    if (device.empty())
        throw serial_error("no virtio port with name '" + std::string(name) + "' found");
    return open_device(device);
}

UniqueFd open_optional_port(std::string_view name) {
    try {
        std::string device = port_device(name);
        return device.empty() ? UniqueFd() : open_device(device);
    } catch (const Failure& failure) {
        log_line("port '" + std::string(name) + "' is not used: " + failure.what());
        return UniqueFd();
    }
}

std::optional<protocol::FrameView> BootChannel::next_frame(std::int64_t deadline_ns,
                                                           std::string_view what) {
    for (;;) {
        if (auto frame = reader_.next()) return frame;
        if (reader_.error()) throw Failure("protocol error: " + *reader_.error());
        std::int64_t left = deadline_ns - monotonic_ns();
        if (left <= 0) return std::nullopt;
        pollfd ready{port_.get(), POLLIN, 0};
        int count = ::poll(&ready, 1, static_cast<int>(left / 1'000'000) + 1);
        if (count < 0 && errno != EINTR) throw io_error(os_error_text(errno));
        if (count <= 0) continue;
        ssize_t n = ::read(port_.get(), reader_.writable(kBootRead).data(), kBootRead);
        if (n > 0) {
            reader_.commit(static_cast<std::size_t>(n));
        } else if (n == 0) {
            throw session_error("serial port closed while waiting for guest " + std::string(what));
        } else if (errno != EAGAIN && errno != EINTR) {
            throw io_error(os_error_text(errno));
        }
    }
}

protocol::Bootstrap BootChannel::receive_bootstrap() {
    auto frame = next_frame(monotonic_ns() + kBootFrameTimeout, "bootstrap");
    if (!frame) throw session_error("timed out waiting for guest bootstrap");
    if (frame->id != 0 || frame->flags != 0)
        throw config_error("guest bootstrap requires id=0 and flags=0, got id=" +
                           std::to_string(frame->id) + " flags=" + std::to_string(frame->flags));
    auto envelope = protocol::decode_envelope(frame->body);
    if (!envelope) throw Failure("protocol error: " + envelope.error().message);
    if (envelope->type != protocol::MessageType::kBootstrap)
        throw config_error("expected core.bootstrap as first console frame, got " +
                           std::string(envelope->type_name));
    if (envelope->generation < kFirstBootstrapGeneration)
        throw config_error("guest bootstrap requires protocol generation 7 or newer, got " +
                           std::to_string(envelope->generation));
    auto bootstrap = protocol::decode_payload<protocol::Bootstrap>(envelope->payload.span());
    if (!bootstrap)
        throw config_error("decode guest bootstrap payload: " + bootstrap.error().message);
    for (protocol::RuntimeFile& file : bootstrap->runtime_files)
        file.content.own();  // the frame buffer is reused
    return std::move(*bootstrap);
}

void BootChannel::receive_init_ack() {
    auto frame = next_frame(monotonic_ns() + kBootFrameTimeout, "init ack");
    if (!frame) throw session_error("timed out waiting for init ack");
    auto envelope = protocol::decode_envelope(frame->body);
    if (!envelope) throw Failure("protocol error: " + envelope.error().message);
    if (envelope->type != protocol::MessageType::kInitAck)
        throw session_error("expected core.init.ack, got " + std::string(envelope->type_name));
    auto ack = protocol::decode_payload<protocol::InitAck>(envelope->payload.span());
    if (!ack) throw Failure("protocol error: " + ack.error().message);
}

void BootChannel::write(const protocol::ByteBuffer& frame) {
    if (int err = write_all(port_.get(), std::span(frame))) throw io_error(os_error_text(err));
}

void BootChannel::oversized() {
    throw Failure("protocol error: frame too large");
}

}  // namespace msb::agentd
