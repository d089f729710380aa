#include <set>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "support/any_message.h"
#include "support/hex_bytes.h"

namespace msb::protocol {
namespace {

using test::from_hex;
using test::to_hex;

std::string envelope_error(std::string_view hex) {
    const auto envelope = decode_envelope(from_hex(hex));
    return envelope ? "accepted" : envelope.error().message;
}

// --- message table ----------------------------------------------------------------------------------------------

TEST(MessageTable, NamesLeadBackToTheirTypes) {
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < test::kMessageTypes; ++i) {
        const auto type = static_cast<MessageType>(i);
        const std::string_view name = message_info(type).name;
        EXPECT_TRUE(names.insert(name).second) << name;
        EXPECT_EQ(message_type(name), type);
    }
    EXPECT_EQ(message_type(""), std::nullopt);
    EXPECT_EQ(message_type("core.pin"), std::nullopt);
    EXPECT_EQ(message_type("core.ping "), std::nullopt);
    EXPECT_EQ(message_type("zzz"), std::nullopt);
}

// protocol.md section 4.
TEST(MessageTable, GenerationsAndFlags) {
    const auto row = [](std::string_view name) {
        const auto& info = message_info(message_type(name).value());
        return std::pair<int, int>{info.generation, info.flags};
    };
    using Row = std::pair<int, int>;
    for (const auto name :
         {"core.ready", "core.init.resolved", "core.init.ack", "core.relay.client.disconnected",
          "core.clock.sync", "core.exec.started", "core.exec.stdin", "core.exec.stdin.error",
          "core.exec.stdout", "core.exec.stderr", "core.exec.resize", "core.exec.signal"})
        EXPECT_EQ(row(name), Row(1, 0)) << name;
    EXPECT_EQ(row("core.shutdown"), Row(1, 4));
    EXPECT_EQ(row("core.exec.request"), Row(1, 2));
    EXPECT_EQ(row("core.exec.exited"), Row(1, 1));
    EXPECT_EQ(row("core.exec.failed"), Row(1, 1));
    EXPECT_EQ(row("core.fs.request"), Row(2, 2));
    EXPECT_EQ(row("core.fs.response"), Row(2, 1));
    EXPECT_EQ(row("core.fs.data"), Row(2, 0));
    EXPECT_EQ(row("core.tcp.connect"), Row(4, 2));
    for (const auto name :
         {"core.tcp.connected", "core.tcp.data", "core.tcp.eof", "core.tcp.close"})
        EXPECT_EQ(row(name), Row(4, 0)) << name;
    EXPECT_EQ(row("core.tcp.closed"), Row(4, 1));
    EXPECT_EQ(row("core.tcp.failed"), Row(4, 1));
    EXPECT_EQ(row("core.error"), Row(5, 1));
    EXPECT_EQ(row("core.ping"), Row(6, 0));
    EXPECT_EQ(row("core.pong"), Row(6, 1));
    EXPECT_EQ(row("core.touch"), Row(6, 0));
    EXPECT_EQ(row("core.touched"), Row(6, 1));
    EXPECT_EQ(row("core.bootstrap"), Row(7, 0));
    for (const auto name :
         {"runtime.heartbeat", "runtime.cpu.target", "runtime.cpu.state", "runtime.flow"})
        EXPECT_EQ(row(name), Row(7, 0)) << name;
}

// --- decoding ---------------------------------------------------------------------------------------------------

// protocol.md check 3.
TEST(Envelope, AcceptsAnyKeyOrderUnknownKeysAndTrailingJunk) {
    const auto body =
        from_hex("a4 6170 41a0  6174 69 636f72652e70696e67  6178 82 f5 a1 01 02  6176 07  ff ff");
    const auto envelope = decode_envelope(body);
    ASSERT_TRUE(envelope) << envelope.error().message;
    EXPECT_EQ(envelope->generation, 7);
    EXPECT_EQ(envelope->type_name, "core.ping");
    EXPECT_EQ(envelope->type, MessageType::kPing);
    EXPECT_EQ(to_hex(envelope->payload.span()), "a0");
    EXPECT_EQ(envelope->payload.span().data(), body.data() + 4) << "the payload is a view";
}

TEST(Envelope, AcceptsEveryWireForm) {
    // Indefinite map, wide integer, tagged byte keys, chunked text and bytes.
    const auto body = from_hex(
        "bf 6176 1b0000000000000007 c1 4174 7f 64 636f7265 65 2e70696e67 ff 6170 5f 41a1 40 43 "
        "617801 ff ff");
    auto envelope = decode_envelope(body);
    ASSERT_TRUE(envelope) << envelope.error().message;
    EXPECT_EQ(envelope->generation, 7);
    EXPECT_EQ(envelope->type, MessageType::kPing);
    EXPECT_EQ(to_hex(envelope->payload.span()), "a1617801");
    // p as an array of integers, one of them in a wide head.
    const auto array = decode_envelope(from_hex("a3 6176 01 6174 6161 6170 83 00 1818 1900ff"));
    ASSERT_TRUE(array) << array.error().message;
    EXPECT_EQ(to_hex(array->payload.span()), "0018ff");
}

// A chunked name lives in storage of its own: copies and moves of the envelope keep it.
TEST(Envelope, ChunkedUnknownTypeNameSurvivesCopies) {
    const auto body = from_hex("a3 6176 07 6174 7f 61 78 61 79 ff 6170 40");
    std::optional<Envelope> copy;
    {
        auto envelope = decode_envelope(body);
        ASSERT_TRUE(envelope);
        copy = *envelope;
    }
    const Envelope moved = std::move(*copy);
    copy.reset();
    EXPECT_EQ(moved.type_name, "xy");
    EXPECT_EQ(moved.type, std::nullopt);
}

TEST(Envelope, KeepsUnknownTypes) {
    const auto body = from_hex("a3 6176 18c8 6174 63 6e6577 6170 40");
    const auto envelope = decode_envelope(body);
    ASSERT_TRUE(envelope);
    EXPECT_EQ(envelope->generation, 200);
    EXPECT_EQ(envelope->type_name, "new");
    EXPECT_EQ(envelope->type, std::nullopt);
}

TEST(Envelope, RefusesWhatUpstreamRefuses) {
    EXPECT_EQ(envelope_error(""), "unexpected end of input");
    EXPECT_EQ(envelope_error("f6"), "expected a map, found null");
    EXPECT_EQ(envelope_error("83 07 6161 40"), "expected a map, found an array");
    EXPECT_EQ(envelope_error("a2 6174 6161 6170 40"), "missing field `v`");
    EXPECT_EQ(envelope_error("a2 6176 07 6170 40"), "missing field `t`");
    EXPECT_EQ(envelope_error("a2 6176 07 6174 6161"), "missing field `p`");
    EXPECT_EQ(envelope_error("a3 6176 190100 6174 6161 6170 40"),
              "`v`: integer 256 is out of range for u8");
    EXPECT_EQ(envelope_error("a3 6176 20 6174 6161 6170 40"),
              "`v`: integer -1 is out of range for u8");
    EXPECT_EQ(envelope_error("a3 6176 f94700 6174 6161 6170 40"),
              "`v`: expected an integer, found a float");
    EXPECT_EQ(envelope_error("a3 6176 07 6174 4161 6170 40"), "`t`: expected text, found bytes");
    EXPECT_EQ(envelope_error("a3 6176 07 6174 6161 6170 60"), "`p`: expected bytes, found text");
    EXPECT_EQ(envelope_error("a3 6176 07 6174 61ff 6170 40"), "`t`: text is not valid UTF-8");
    EXPECT_EQ(envelope_error("a4 6176 07 6176 07 6174 6161 6170 40"), "duplicate field `v`");
    EXPECT_EQ(envelope_error("a4 6176 07 6174 6161 6170 40 6170 40"), "duplicate field `p`");
    EXPECT_EQ(envelope_error("a4 6176 07 6174 6161 6174 6161 6170 40"), "duplicate field `t`");
    EXPECT_EQ(envelope_error("a4 01 02 6176 07 6174 6161 6170 40"),
              "map key is not definite-length text");
}

// --- encoding ---------------------------------------------------------------------------------------------------

TEST(AppendFrame, StampsTheGenerationItIsGiven) {
    ByteBuffer out;
    ASSERT_TRUE(append_frame(out, 1, ExecStarted{1}, 1));
    ASSERT_TRUE(append_frame(out, 1, ExecStdin{}, 30));
    FrameReader reader;
    reader.append(out);
    EXPECT_EQ(decode_envelope(reader.next()->body)->generation, 1);
    EXPECT_EQ(decode_envelope(reader.next()->body)->generation, 30);
}

// Payloads around every change of head size, through both encoders.
TEST(AppendFrame, EveryPayloadHeadSize) {
    for (const std::size_t size : {0u, 9u, 10u, 11u, 15u, 16u, 17u, 200u, 240u, 250u, 256u, 1000u,
                                   65'500u, 65'536u, 70'000u}) {
        const std::string text(size, 'x');
        ByteBuffer out = from_hex("0102");  // appended behind what is there
        ASSERT_TRUE(append_frame(out, 7, TcpFailed{text}));
        ASSERT_TRUE(append_frame(out, 8, TcpData{Bytes::view(text)}));
        ASSERT_TRUE(append_data_frame_head(out, 9, MessageType::kTcpData, size));
        for (const char c : text)
            out.push_back(static_cast<std::byte>(c));
        FrameReader reader;
        reader.append(ByteView(out).subspan(2));
        const auto failed = decode_envelope(reader.next()->body);
        ASSERT_TRUE(failed);
        EXPECT_EQ(decode_payload<TcpFailed>(failed->payload.span())->error, text);
        const auto copied = reader.next();
        const auto headed = reader.next();
        ASSERT_TRUE(copied && headed);
        EXPECT_EQ(to_hex(copied->body), to_hex(headed->body));
        EXPECT_EQ(
            decode_payload<TcpData>(decode_envelope(headed->body)->payload.span())->data.text(),
            text);
        EXPECT_EQ(reader.buffered(), 0u);
    }
}

TEST(AppendFrame, RefusesOversizeFramesAndAppendsNothing) {
    // The frame of the largest fitting chunk: find it through the data encoder, whose overhead is constant up there.
    ByteBuffer out = from_hex("aabb");
    std::size_t largest = kMaxFrameLength;
    while (!append_data_frame_head(out, 1, MessageType::kExecStdout, largest))
        --largest;
    EXPECT_GT(largest, kMaxFrameLength - 64);
    out.resize(2);
    std::vector<std::byte> data(largest + 1);
    EXPECT_FALSE(append_frame(out, 1, ExecStdout{Bytes::view(data)}));
    EXPECT_EQ(to_hex(out), "aabb");
    EXPECT_FALSE(append_data_frame_head(out, 1, MessageType::kExecStdout, data.size()));
    EXPECT_FALSE(append_data_frame_head(out, 1, MessageType::kExecStdout, SIZE_MAX));
    EXPECT_EQ(to_hex(out), "aabb");
    data.pop_back();
    EXPECT_TRUE(append_frame(out, 1, ExecStdout{Bytes::view(data)}));
    EXPECT_EQ(out.size(), 2 + kLengthPrefix + kMaxFrameLength);
    out.resize(2);
    EXPECT_FALSE(append_frame(out, 1, TcpFailed{std::string(kMaxFrameLength, 'x')}));
    EXPECT_EQ(to_hex(out), "aabb");
}

TEST(AppendFrame, DataFrameHeadsStayWithinTheirBound) {
    for (std::size_t i = 0; i < test::kMessageTypes; ++i) {
        ByteBuffer out;
        ASSERT_TRUE(append_data_frame_head(out, 1, static_cast<MessageType>(i), 4'000'000, 255));
        EXPECT_LE(out.size(), kMaxDataFrameHead);
    }
}

}  // namespace
}  // namespace msb::protocol
