#include <gtest/gtest.h>

#include "support/any_message.h"
#include "support/golden_frames.h"
#include "support/hex_bytes.h"

namespace msb::protocol {
namespace {

using test::from_hex;
using test::to_hex;

// protocol.md check 1; guest-agent.md checks 1, 2, 3, 4, 6, 8, 10, 20 and 25.
TEST(GoldenFrames, DecodeToTheirCaption) {
    for (const auto& golden : test::golden_frames()) {
        SCOPED_TRACE(golden.hex);
        FrameReader reader;
        const auto bytes = from_hex(golden.hex);
        reader.append(bytes);
        const auto frame = reader.next();
        ASSERT_TRUE(frame);
        EXPECT_EQ(reader.buffered(), 0u);
        EXPECT_EQ(frame->id, golden.id);
        const auto envelope = decode_envelope(frame->body);
        ASSERT_TRUE(envelope) << envelope.error().message;
        EXPECT_EQ(envelope->generation, 7);
        ASSERT_EQ(envelope->type, test::type_of(golden.message));
        EXPECT_EQ(frame->flags, message_info(*envelope->type).flags);
        const auto message = test::decode_any(*envelope->type, envelope->payload.span());
        ASSERT_TRUE(message) << message.error().message;
        EXPECT_EQ(*message, golden.message);
    }
}

TEST(GoldenFrames, ReencodeByteIdentically) {
    for (const auto& golden : test::golden_frames()) {
        ByteBuffer out;
        ASSERT_TRUE(test::append_any(out, golden.id, golden.message));
        EXPECT_EQ(to_hex(out), golden.hex);
    }
}

TEST(GoldenFrames, AppendBehindEachOther) {
    ByteBuffer out;
    std::string expected;
    for (const auto& golden : test::golden_frames()) {
        ASSERT_TRUE(test::append_any(out, golden.id, golden.message));
        expected += golden.hex;
    }
    EXPECT_EQ(to_hex(out), expected);
}

// The whole stream of golden frames, cut in two at every position.
TEST(GoldenFrames, SplitAtEveryPosition) {
    ByteBuffer stream;
    for (const auto& golden : test::golden_frames()) {
        const auto bytes = from_hex(golden.hex);
        stream.insert(stream.end(), bytes.begin(), bytes.end());
    }
    const std::size_t count = test::golden_frames().size();
    for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
        FrameReader reader;
        ByteBuffer seen;
        std::size_t frames = 0;
        const auto drain = [&] {
            while (const auto frame = reader.next()) {
                seen.insert(seen.end(), frame->frame.begin(), frame->frame.end());
                ++frames;
            }
        };
        reader.append(ByteView(stream).first(cut));
        drain();
        reader.append(ByteView(stream).subspan(cut));
        drain();
        ASSERT_EQ(frames, count) << cut;
        ASSERT_EQ(seen, stream) << cut;
        ASSERT_EQ(reader.buffered(), 0u);
    }
}

// Truncation: a cut frame is never a frame; a cut envelope never an envelope; a cut payload never a message.
TEST(GoldenFrames, TruncationAtEveryByteIsAnError) {
    for (const auto& golden : test::golden_frames()) {
        const auto bytes = from_hex(golden.hex);
        const auto payload = test::payload_of(golden.message);
        const MessageType type = test::type_of(golden.message);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            FrameReader reader;
            reader.append(ByteView(bytes).first(size));
            EXPECT_FALSE(reader.next());
            EXPECT_FALSE(reader.error());
        }
        const ByteView body = ByteView(bytes).subspan(kHeaderSize);
        for (std::size_t size = 0; size < body.size(); ++size) {
            const ByteBuffer cut(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(size));
            EXPECT_FALSE(decode_envelope(cut));
        }
        if (type == MessageType::kShutdown) continue;  // its payload is never decoded
        for (std::size_t size = 0; size < payload.size(); ++size) {
            const ByteBuffer cut(payload.begin(),
                                 payload.begin() + static_cast<std::ptrdiff_t>(size));
            EXPECT_FALSE(test::decode_any(type, cut)) << golden.hex << " cut at " << size;
        }
    }
}

TEST(GoldenFrames, TrailingBytesAreIgnoredAtBothLevels) {
    for (const auto& golden : test::golden_frames()) {
        auto body = from_hex(golden.hex.substr(2 * kHeaderSize));
        body.push_back(std::byte{0xff});
        ASSERT_TRUE(decode_envelope(body));
        auto payload = test::payload_of(golden.message);
        payload.push_back(std::byte{0xff});
        EXPECT_TRUE(test::decode_any(test::type_of(golden.message), payload));
    }
}

}  // namespace
}  // namespace msb::protocol
