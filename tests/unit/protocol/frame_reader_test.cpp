#include <cstring>

#include <gtest/gtest.h>

#include "protocol/codec.h"
#include "support/hex_bytes.h"

namespace msb::protocol {
namespace {

using test::from_hex;

ByteBuffer data_frame(std::uint32_t id, std::size_t size) {
    ByteBuffer out;
    const std::vector<std::byte> data(size, std::byte{0x5a});
    EXPECT_TRUE(append_frame(out, id, ExecStdout{Bytes::view(data)}));
    return out;
}

TEST(FrameReader, RefusesTooLargeFrameAtTheLengthPrefix) {
    FrameReader reader;
    reader.append(from_hex("00400001"));
    EXPECT_FALSE(reader.next());
    EXPECT_EQ(reader.error(), "frame too large: 4194305 bytes (max 4194304)");
    reader.append(data_frame(1, 3));  // sticky
    EXPECT_FALSE(reader.next());
    reader.clear();
    EXPECT_FALSE(reader.error());
    reader.append(data_frame(1, 3));
    EXPECT_TRUE(reader.next());
}

TEST(FrameReader, AcceptsTheLargestFrame) {
    FrameReader reader;
    reader.append(from_hex("00400000"));
    ByteBuffer rest(kMaxFrameLength);
    reader.append(rest);
    const auto frame = reader.next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->frame.size(), kLengthPrefix + kMaxFrameLength);
    EXPECT_EQ(frame->body.size(), kMaxFrameLength - kMinFrameLength);
}

TEST(FrameReader, RefusesTooShortFrameOnceItsBytesAreThere) {
    FrameReader reader;
    reader.append(from_hex("00000003 0000"));
    EXPECT_FALSE(reader.next());
    EXPECT_FALSE(reader.error());
    reader.append(from_hex("00"));
    EXPECT_FALSE(reader.next());
    EXPECT_EQ(reader.error(), "frame payload too short: 3 bytes (minimum 5)");

    FrameReader empty;
    empty.append(from_hex("00000000"));
    EXPECT_FALSE(empty.next());
    EXPECT_EQ(empty.error(), "frame payload too short: 0 bytes (minimum 5)");
}

// protocol.md section 7.4: what the relay does with corrupt guest data.
TEST(FrameReader, SkipsOnlyShortFrames) {
    FrameReader reader;
    EXPECT_FALSE(reader.skip_short_frame()) << "nothing is wrong";
    reader.append(from_hex("00000002 abcd"));
    reader.append(data_frame(9, 1));
    EXPECT_FALSE(reader.next());
    EXPECT_TRUE(reader.skip_short_frame());
    EXPECT_FALSE(reader.error());
    const auto frame = reader.next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->id, 9u);
    reader.append(from_hex("ffffffff 00"));
    EXPECT_FALSE(reader.next());
    EXPECT_FALSE(reader.skip_short_frame());
    EXPECT_TRUE(reader.error());
}

TEST(FrameReader, AcceptsAnEmptyBody) {
    FrameReader reader;
    reader.append(from_hex("00000005 01020304 80"));
    const auto frame = reader.next();
    ASSERT_TRUE(frame);
    EXPECT_EQ(frame->id, 0x01020304u);
    EXPECT_EQ(frame->flags, 0x80);
    EXPECT_TRUE(frame->body.empty());
}

TEST(FrameReader, TellsCleanEndFromCutFrame) {
    FrameReader reader;
    reader.append(from_hex("00000005 00000000 00"));
    ASSERT_TRUE(reader.next());
    EXPECT_EQ(reader.buffered(), 0u);
    reader.append(from_hex("000000"));
    EXPECT_FALSE(reader.next());
    EXPECT_EQ(reader.buffered(), 3u);
}

// Frames of growing and shrinking sizes, fed through writable() in pieces of every small size.
TEST(FrameReader, KeepsTheStreamIntactWhateverThePieces) {
    ByteBuffer stream;
    std::vector<std::size_t> sizes;
    for (std::size_t size = 0; size < 200'000; size = size * 3 + 1)
        sizes.push_back(size);
    for (std::size_t i = sizes.size(); i-- > 0;)
        sizes.push_back(sizes[i]);
    for (const std::size_t size : sizes) {
        const auto frame = data_frame(static_cast<std::uint32_t>(size), size);
        stream.insert(stream.end(), frame.begin(), frame.end());
    }
    for (std::size_t piece : {1u, 2u, 7u, 100u, 4096u, 65'536u, 1'000'000u}) {
        FrameReader reader;
        ByteBuffer seen;
        std::size_t frames = 0;
        for (std::size_t at = 0; at < stream.size();) {
            const std::size_t n = std::min(piece, stream.size() - at);
            const auto room = reader.writable(n);
            ASSERT_GE(room.size(), n);
            std::memcpy(room.data(), stream.data() + at, n);
            reader.commit(n);
            at += n;
            while (const auto frame = reader.next()) {
                ASSERT_EQ(frame->id, sizes[frames]);
                seen.insert(seen.end(), frame->frame.begin(), frame->frame.end());
                ++frames;
            }
        }
        EXPECT_EQ(frames, sizes.size());
        EXPECT_EQ(seen, stream);
        EXPECT_FALSE(reader.error());
    }
}

// A view of what the reader offers is a bound of what it holds: after large frames it must come down again.
TEST(FrameReader, GivesMemoryBackAfterLargeFrames) {
    FrameReader reader;
    reader.append(data_frame(1, 3'000'000));
    ASSERT_TRUE(reader.next());
    EXPECT_GE(reader.writable(1).size(), 3'000'000u);
    const auto small = data_frame(2, 100);
    for (int i = 0; i < 1000; ++i) {
        reader.append(small);
        ASSERT_TRUE(reader.next());
    }
    EXPECT_LE(reader.writable(1).size(), 256u * 1024);
}

TEST(FrameReader, HoldsAtMostAFewTimesOneFrame) {
    FrameReader reader;
    const auto frame = data_frame(1, 4'000'000);
    std::size_t seen = 0;
    for (int i = 0; i < 5; ++i) {
        for (std::size_t at = 0; at < frame.size(); at += 60'001) {
            reader.append(
                ByteView(frame).subspan(at, std::min<std::size_t>(60'001, frame.size() - at)));
            EXPECT_LE(reader.buffered() + reader.writable(0).size(), 16u << 20);
            while (reader.next())
                ++seen;
        }
    }
    EXPECT_EQ(seen, 5u);
}

}  // namespace
}  // namespace msb::protocol
