// The boot frames over a socket pair: what the host may send first, and what it gets back.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "agentd/failure.h"
#include "agentd/port.h"

namespace msb::agentd {
namespace {

class BootChannelTest : public testing::Test {
  protected:
    BootChannelTest() : BootChannelTest(make_socketpair()) {}

    void send(std::span<const std::byte> bytes) { ASSERT_EQ(write_all(host_.get(), bytes), 0); }
    template <class M>
    void send_frame(const M& message, std::uint32_t id = 0, std::uint8_t generation = 7) {
        protocol::ByteBuffer frame;
        ASSERT_TRUE(protocol::append_frame(frame, id, message, generation));
        send(frame);
    }
    std::string bootstrap_error() {
        try {
            channel_.receive_bootstrap();
        } catch (const Failure& failure) {
            return failure.what();
        }
        return "";
    }

    UniqueFd host_;
    BootChannel channel_;

  private:
    explicit BootChannelTest(std::pair<UniqueFd, UniqueFd> ends)
        : host_(std::move(ends.first)), channel_(std::move(ends.second)) {
        set_nonblocking(channel_.fd(), true);
    }
};

TEST_F(BootChannelTest, EverythingMayBeQueuedAtOnce) {
    protocol::Bootstrap bootstrap;
    bootstrap.hostname = "demo";
    bootstrap.runtime_files.push_back({"scripts/a", 0755, protocol::Bytes::view("#!")});
    send_frame(bootstrap, 0, 9);  // a later generation is fine
    send_frame(protocol::InitAck{});
    send_frame(protocol::Ping{}, 5);
    protocol::Bootstrap received = channel_.receive_bootstrap();
    channel_.receive_init_ack();
    EXPECT_EQ(received, bootstrap);
    auto left = channel_.reader().next();
    ASSERT_TRUE(left);
    EXPECT_EQ(left->id, 5u);
}

TEST_F(BootChannelTest, FirstFrameMustBeTheBootstrap) {
    send_frame(protocol::Ping{});
    EXPECT_EQ(bootstrap_error(),
              "config error: expected core.bootstrap as first console frame, got core.ping");
}

TEST_F(BootChannelTest, IdMustBeZero) {
    send_frame(protocol::Bootstrap{}, 1);
    EXPECT_EQ(bootstrap_error(),
              "config error: guest bootstrap requires id=0 and flags=0, got id=1 flags=0");
}

TEST_F(BootChannelTest, GenerationMustBeSeven) {
    send_frame(protocol::Bootstrap{}, 0, 6);
    EXPECT_EQ(bootstrap_error(),
              "config error: guest bootstrap requires protocol generation 7 or newer, got 6");
}

TEST_F(BootChannelTest, BadLengthIsAProtocolError) {
    const std::byte bytes[] = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}};
    send(bytes);
    EXPECT_TRUE(bootstrap_error().starts_with("protocol error: frame too large"));
}

TEST_F(BootChannelTest, EndOfStreamIsReported) {
    host_.reset();
    EXPECT_EQ(bootstrap_error(),
              "exec session error: serial port closed while waiting for guest bootstrap");
}

TEST_F(BootChannelTest, OnlyAnAckIsAnAck) {
    send_frame(protocol::Bootstrap{});
    send_frame(protocol::Ping{});
    channel_.receive_bootstrap();
    try {
        channel_.receive_init_ack();
        FAIL();
    } catch (const Failure& failure) {
        EXPECT_STREQ(failure.what(), "exec session error: expected core.init.ack, got core.ping");
    }
}

}  // namespace
}  // namespace msb::agentd
