// The virtio-serial ports and the frames exchanged before the agent loop runs
// (spec/guest-agent.md section 2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "protocol/codec.h"

namespace msb::agentd {

inline constexpr std::string_view kAgentPort = "agent";
inline constexpr std::string_view kRuntimePort = "runtime";

// Opens the port of that name, read-write, close-on-exec, non-blocking.
// Throws Failure "serial port not found: ...".
UniqueFd open_port(std::string_view name);
// The same for a port that need not exist: an empty descriptor.
UniqueFd open_optional_port(std::string_view name);

// The agent port while booting. Bytes that belong to later frames stay in reader().
class BootChannel {
  public:
    explicit BootChannel(UniqueFd port) : port_(std::move(port)) {}

    // Waits for core.bootstrap, decodes and validates it. Throws Failure.
    protocol::Bootstrap receive_bootstrap();
    // Waits for core.init.ack. Throws Failure.
    void receive_init_ack();
    template <class M>
    void send(const M& message) {
        protocol::ByteBuffer frame;
        if (!protocol::append_frame(frame, 0, message)) oversized();
        write(frame);
    }

    int fd() const { return port_.get(); }
    UniqueFd release_port() { return std::move(port_); }
    protocol::FrameReader& reader() { return reader_; }

  private:
    [[noreturn]] static void oversized();
    void write(const protocol::ByteBuffer& frame);
    // Nothing when `deadline_ns` (monotonic) passed. `what` completes "serial port closed while
    // waiting for guest ...".
    std::optional<protocol::FrameView> next_frame(std::int64_t deadline_ns, std::string_view what);

    UniqueFd port_;
    protocol::FrameReader reader_;
};

}  // namespace msb::agentd
