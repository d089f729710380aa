// The host end of the `runtime` port, our own second channel to the agent: heartbeats and processor states in, processor
// targets and flow control out (protocol/messages.h). What comes in is hostile; what is lost is only advice.
#pragma once

#include <functional>

#include "base/fd.h"
#include "protocol/codec.h"
#include "runtime/byte_queue.h"
#include "runtime/event_loop.h"

namespace msb::runtime {

class RuntimePort {
  public:
    struct Handlers {
        std::function<void(const protocol::RuntimeHeartbeat&)> heartbeat;
        std::function<void(const protocol::RuntimeCpuState&)> cpu_state;
    };
    RuntimePort(EventLoop& loop, UniqueFd socket, Handlers handlers);

    void send_cpu_target(unsigned online);
    void send_flow(std::uint32_t id_start, std::uint32_t id_end, bool paused);

  private:
    void readable();
    void handle(const protocol::FrameView& frame);
    void send(std::span<const std::byte> frame);
    void flush();

    UniqueFd socket_;
    Handlers handlers_;
    protocol::FrameReader input_;
    ByteQueue output_;
    FdWatch watch_;
};

}  // namespace msb::runtime
