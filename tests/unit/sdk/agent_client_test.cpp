#include "sdk/agent_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "base/error.h"
#include "fake_agent.h"
#include "protocol/handshake.h"
#include "sdk_fixture.h"

namespace msb::test {
namespace {

using sdk::AgentClient;
using sdk::AgentFrame;
using sdk::Cancel;
using Result = AgentClient::Stream::Result;

std::string be32(std::uint32_t value) {
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8)
        text.push_back(static_cast<char>(value >> shift & 0xff));
    return text;
}

template <class M>
std::string frame_of(std::uint32_t id, const M& message,
                     std::uint8_t generation = protocol::kGeneration) {
    protocol::ByteBuffer out;
    EXPECT_TRUE(protocol::append_frame(out, id, message, generation));
    return {reinterpret_cast<const char*>(out.data()), out.size()};
}

// A client whose relay has said `bytes` (and closed, unless `open`).
struct Talk {
    std::pair<UniqueFd, UniqueFd> sockets = make_socketpair();
    int relay() const { return sockets.first.get(); }
    std::shared_ptr<AgentClient> client;

    explicit Talk(const std::string& bytes, bool open = true, sdk::Deadline deadline = {}) {
        EXPECT_EQ(write_all(relay(), bytes), 0);
        if (!open) ::shutdown(relay(), SHUT_WR);
        client = AgentClient::adopt(std::move(sockets.second), deadline, Cancel{});
    }
    void say(const std::string& bytes) { EXPECT_EQ(write_all(relay(), bytes), 0); }
    // Nothing more can have been written by the client than this.
    bool silent() const {
        char byte = 0;
        return ::recv(relay(), &byte, 1, MSG_DONTWAIT) < 0;
    }
};

std::string handshake_error(const std::string& bytes, bool open = false,
                            sdk::Deadline deadline = {}) {
    return text_of([&] { Talk(bytes, open, deadline); });
}

TEST(AgentHandshake, TakesTheRangeAndNegotiatesTheGeneration) {
    Talk talk(handshake_bytes(1));
    EXPECT_EQ(talk.client->open().id(), 33'554'432u);
    EXPECT_EQ(talk.client->generation(), 7);
    EXPECT_EQ(talk.client->ready().agent_version, "0.6.18");
    EXPECT_EQ(Talk(handshake_bytes(0, 200)).client->generation(), 7);
    EXPECT_EQ(Talk(handshake_bytes(0, 5)).client->generation(), 5);
}

TEST(AgentHandshake, FramesBehindTheReadyFrameAreKept) {
    Talk talk(handshake_bytes(0) + frame_of(1, protocol::ExecExited{3}));
    auto stream = talk.client->open();
    AgentFrame frame;
    ASSERT_EQ(stream.recv(frame, {}, Cancel{}), Result::kFrame);
    EXPECT_TRUE(frame.terminal());
}

TEST(AgentHandshake, ReportsWhatWentWrongInTheWordsClientsMatch) {
    EXPECT_EQ(handshake_error(""), "agent client error: handshake: early eof");
    EXPECT_EQ(handshake_error(be32(1)), "agent client error: handshake: early eof");
    EXPECT_EQ(handshake_error(be32(9000000) + be32(9000000) + handshake_bytes(0).substr(8)),
              "agent client error: handshake: invalid relay id range: start=9000000, end=9000000");
    EXPECT_EQ(handshake_error(be32(0) + be32(1) + handshake_bytes(0).substr(8)),
              "agent client error: handshake: relay id range contains no usable nonzero ids: "
              "start=0, end=1");
    EXPECT_EQ(handshake_error(handshake_bytes(0).substr(0, 20)),
              "agent client error: handshake: read ready frame: protocol: io error: early eof");
    EXPECT_EQ(handshake_error(handshake_bytes(0).substr(0, 8) + be32(4'194'305)),
              "agent client error: handshake: read ready frame: protocol: frame too large: 4194305 "
              "bytes (max 4194304)");
    EXPECT_EQ(handshake_error(handshake_bytes(0).substr(0, 8) + frame_of(0, protocol::Ping{})),
              "agent client error: handshake: expected core.ready frame, got core.ping");
    const auto now = sdk::Clock::now();
    EXPECT_EQ(handshake_error("", true, now),
              "agent client error: handshake: read id range: timed out before relay sent bytes");
    EXPECT_EQ(handshake_error(be32(1) + be32(33'554'431), true,
                              sdk::deadline_in(std::chrono::milliseconds(20))),
              "agent client error: handshake: read ready frame: timed out before relay sent frame");
}

TEST(AgentHandshake, RecognisesRelaysBeforeGeneration5) {
    // u32 id offset, then at once the ready frame: slot 1 of 16.
    Talk talk(be32(268'435'455) + frame_of(0, protocol::Ready{1, 2, 3, ""}, 1));
    EXPECT_EQ(talk.client->generation(), 1);
    EXPECT_EQ(talk.client->open().id(), 268'435'456u);
    EXPECT_EQ(text_of([&] { talk.client->send(1, protocol::FsRequest{protocol::fs::List{"/"}}); }),
              "the sandbox runtime is too old for 'core.fs.request' (needs protocol generation 2, "
              "the sandbox speaks "
              "1); restart the sandbox to update its runtime");
    talk.client->send(1, protocol::ExecSignal{9});
}

TEST(AgentClient, RefusesTypesTheGuestDoesNotKnowWithoutWriting) {
    Talk talk(handshake_bytes(0, 3));
    const Error error = error_of([&] { talk.client->send(1, protocol::Ping{}); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedOperation);
    EXPECT_STREQ(error.what(),
                 "the sandbox runtime is too old for 'core.ping' (needs protocol generation 6, the "
                 "sandbox speaks 3); "
                 "restart the sandbox to update its runtime");
    EXPECT_TRUE(talk.silent());
    talk.client->send(1, protocol::FsRequest{protocol::fs::List{"/"}});
    EXPECT_FALSE(talk.silent());
}

TEST(AgentClient, IdsWrapAndSkipThoseInUse) {
    // Three usable ids.
    Talk small(be32(4'294'967'200u) + be32(4'294'967'203u) + handshake_bytes(0).substr(8));
    auto a = small.client->open();
    auto b = small.client->open();
    EXPECT_EQ(b.id(), 4'294'967'201u);
    a = {};
    auto c = small.client->open();
    EXPECT_EQ(c.id(), 4'294'967'202u);
    auto d = small.client->open();
    EXPECT_EQ(d.id(), 4'294'967'200u) << "the end wraps to the start";
    EXPECT_EQ(text_of([&] { small.client->open(); }),
              "agent client error: agent correlation id range exhausted");
    c = {};
    EXPECT_EQ(small.client->open().id(), 4'294'967'202u);
}

TEST(AgentClient, LossOfTheConnectionEndsRequestsAndStreams) {
    Talk talk(handshake_bytes(0), false);
    auto stream = talk.client->open();
    AgentFrame frame;
    EXPECT_EQ(stream.recv(frame, {}, Cancel{}), Result::kEnd);
    EXPECT_EQ(
        text_of([&] { talk.client->request<protocol::Pong>(protocol::Ping{}, {}, Cancel{}); }),
        "agent client error: reader closed before response for id=2");
    EXPECT_FALSE(talk.client->usable());
}

TEST(AgentClient, AWriteErrorEndsTheWriter) {
    Talk talk(handshake_bytes(0));
    talk.sockets.first.reset();
    EXPECT_EQ(text_of([&] { talk.client->send(1, protocol::Ping{}); }),
              "agent client error: io: Broken pipe (os error 32)");
    EXPECT_EQ(text_of([&] { talk.client->send(1, protocol::Ping{}); }),
              "agent client error: client closed");
}

TEST(AgentClient, RequestsReportUndecodableAnswersAndAgentErrors) {
    Talk talk(handshake_bytes(0));
    talk.say(frame_of(1, protocol::ErrorMessage{protocol::ErrorKind::kInvalidPayload, "nope", {}}));
    EXPECT_EQ(
        text_of([&] { talk.client->request<protocol::Pong>(protocol::Ping{}, {}, Cancel{}); }),
        "agent client error: core.error invalid_payload: nope");
    talk.say(be32(7) + be32(2) + std::string("\x01\xff\xff", 3));
    EXPECT_THAT(
        text_of([&] { talk.client->request<protocol::Pong>(protocol::Ping{}, {}, Cancel{}); }),
        ::testing::StartsWith("agent client error: protocol: cbor decode error: "));
}

TEST(AgentClient, OneReaderServesAllStreams) {
    Talk talk(handshake_bytes(0));
    auto first = talk.client->open();
    auto second = talk.client->open();
    // The first stream's reader has to route the second's frames before its own come.
    for (int i = 0; i < 3; ++i)
        talk.say(frame_of(second.id(), protocol::ExecStarted{static_cast<std::uint32_t>(i)}));
    talk.say(frame_of(4711, protocol::ExecExited{1}));  // nobody's
    talk.say(frame_of(first.id(), protocol::ExecExited{0}));
    AgentFrame frame;
    ASSERT_EQ(first.recv(frame, {}, Cancel{}), Result::kFrame);
    EXPECT_EQ(frame.id, first.id());
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(second.recv(frame, {}, Cancel{}), Result::kFrame);
        auto typed = sdk::decode_frame(frame);
        ASSERT_TRUE(typed);
        EXPECT_EQ(protocol::decode_payload<protocol::ExecStarted>(typed->payload.span())->pid,
                  static_cast<std::uint32_t>(i));
    }
}

TEST(AgentClient, ConcurrentReadersEachGetTheirOwnFrames) {
    constexpr int kFrames = 2000;
    constexpr int kStreams = 4;
    Talk talk(handshake_bytes(0));
    std::vector<AgentClient::Stream> streams;
    for (int i = 0; i < kStreams; ++i)
        streams.push_back(talk.client->open());
    std::jthread relay([&] {
        for (int i = 0; i < kFrames; ++i) {
            for (auto& stream : streams)
                talk.say(
                    frame_of(stream.id(), protocol::ExecStarted{static_cast<std::uint32_t>(i)}));
        }
    });
    std::atomic<int> wrong{0};
    std::vector<std::jthread> readers;
    for (auto& stream : streams) {
        readers.emplace_back([&stream, &wrong] {
            for (int i = 0; i < kFrames; ++i) {
                AgentFrame frame;
                if (stream.recv(frame, {}, Cancel{}) != Result::kFrame || frame.id != stream.id())
                    ++wrong;
                auto typed = sdk::decode_frame(frame);
                auto started =
                    protocol::decode_payload<protocol::ExecStarted>(typed->payload.span());
                if (started->pid != static_cast<std::uint32_t>(i)) ++wrong;
            }
        });
    }
    readers.clear();
    EXPECT_EQ(wrong, 0);
}

TEST(AgentClient, AFullStreamHoldsTheOthersUpUntilItIsReadOrDropped) {
    Talk talk(handshake_bytes(0));
    auto slow = talk.client->open();
    auto fast = talk.client->open();
    std::jthread relay([&] {
        for (std::size_t i = 0; i < sdk::kStreamQueueFrames + 2; ++i)
            talk.say(frame_of(slow.id(), protocol::ExecStarted{static_cast<std::uint32_t>(i)}));
        talk.say(frame_of(fast.id(), protocol::ExecExited{0}));
    });
    AgentFrame frame;
    EXPECT_EQ(fast.recv(frame, sdk::deadline_in(std::chrono::milliseconds(100)), Cancel{}),
              Result::kTimeout);
    // Nothing of the slow stream is lost or reordered.
    for (std::size_t i = 0; i < sdk::kStreamQueueFrames + 2; ++i) {
        ASSERT_EQ(slow.recv(frame, {}, Cancel{}), Result::kFrame);
        auto typed = sdk::decode_frame(frame);
        EXPECT_EQ(protocol::decode_payload<protocol::ExecStarted>(typed->payload.span())->pid, i);
    }
    ASSERT_EQ(fast.recv(frame, {}, Cancel{}), Result::kFrame);
    EXPECT_EQ(frame.id, fast.id());
}

TEST(AgentClient, WaitingEndsWhenAskedTo) {
    Talk talk(handshake_bytes(0));
    std::stop_source source;
    Cancel cancel(source.get_token());
    auto stream = talk.client->open();
    auto other = talk.client->open();
    std::jthread asker([&] { source.request_stop(); });
    AgentFrame frame;
    EXPECT_EQ(error_of([&] { stream.recv(frame, {}, cancel); }).code(), ErrorCode::kCancelled);
    // The connection is still good.
    talk.say(frame_of(other.id(), protocol::ExecExited{0}));
    EXPECT_EQ(other.recv(frame, {}, Cancel{}), Result::kFrame);
}

TEST(AgentClient, CancellingAHalfWrittenFrameEndsTheConnection) {
    Talk talk(handshake_bytes(0));
    std::stop_source source;
    Cancel cancel(source.get_token());
    const std::vector<std::byte> block(2u << 20);  // more than the socket holds
    std::jthread writer([&] {
        EXPECT_EQ(error_of([&] {
                      talk.client->send_data(1, protocol::MessageType::kExecStdin, block, cancel);
                  }).code(),
                  ErrorCode::kCancelled);
    });
    char byte = 0;
    ASSERT_EQ(::recv(talk.relay(), &byte, 1, 0), 1);  // the frame has begun
    source.request_stop();
    writer.join();
    EXPECT_EQ(text_of([&] { talk.client->send(1, protocol::Ping{}); }),
              "agent client error: client closed");
}

TEST(AgentClient, RefusesOversizeFramesAndGoesOn) {
    Talk talk(handshake_bytes(0));
    protocol::ExecRequest request;
    request.cmd = std::string(5u << 20, 'x');
    EXPECT_THAT(text_of([&] { talk.client->send(1, request); }),
                ::testing::HasSubstr("frame too large"));
    EXPECT_TRUE(talk.silent());
    talk.client->send(1, protocol::Ping{});
}

}  // namespace
}  // namespace msb::test
