// The background workload of a detached sandbox: an exec session of our own, as any client would run it.
#pragma once

#include <functional>
#include <string>

#include "contract/launch_config.h"
#include "runtime/event_loop.h"
#include "runtime/relay.h"

namespace msb::runtime {

class StartupCommandRunner : public RelayPort {
  public:
    // `finished(detail)` is called once, from the loop: empty detail = exit code 0.
    StartupCommandRunner(EventLoop& loop, Relay& relay, contract::StartupCommand command,
                         std::function<void(std::string)> finished);

    // Once the relay is ready.
    void start();

    std::optional<std::size_t> write_some(std::span<const std::byte> bytes) override;
    void set_reading(bool) override {}
    void closed() override { finish("connection lost"); }

  private:
    void send_request();
    void handle(const protocol::FrameView& frame);
    void finish(std::string detail);

    EventLoop& loop_;
    Relay& relay_;
    contract::StartupCommand command_;
    std::function<void(std::string)> finished_;
    unsigned slot_ = 0;
    std::size_t handshake_left_ = 8;
    protocol::FrameReader input_;
};

}  // namespace msb::runtime
