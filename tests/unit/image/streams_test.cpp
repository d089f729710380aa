#include "image/streams.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "compress.h"

namespace msb::image {
namespace {

// Gives at most `step` bytes a read, so that every boundary falls everywhere.
class SteppingSource : public ByteSource {
  public:
    SteppingSource(std::string_view bytes, std::size_t step) : bytes_(bytes), step_(step) {}
    std::size_t read(std::span<std::byte> out) override {
        std::size_t n = std::min({out.size(), bytes_.size(), step_});
        std::memcpy(out.data(), bytes_.data(), n);
        bytes_.remove_prefix(n);
        return n;
    }

  private:
    std::string_view bytes_;
    std::size_t step_;
};

std::string inflate(std::string_view packed, Compression compression, std::size_t step,
                    std::size_t out_step = 1 << 16) {
    SteppingSource source(packed, step);
    auto stream = decompress(source, compression);
    std::string result;
    std::vector<std::byte> buffer(out_step);
    while (std::size_t n = stream->read(buffer))
        result.append(reinterpret_cast<const char*>(buffer.data()), n);
    return result;
}

std::string sample() {
    std::string data;
    for (int i = 0; i < 20000; ++i)
        data += std::to_string(i * 7919) + (i % 3 == 0 ? "\n" : " ");
    return data;
}

TEST(Streams, WhatWasPackedComesBackAtEveryStep) {
    std::string data = sample();
    for (std::size_t step : {1UL, 2UL, 7UL, 8UL, 9UL, 4096UL, 1UL << 20}) {
        EXPECT_EQ(inflate(gzip(data), Compression::kGzip, step), data) << step;
        EXPECT_EQ(inflate(zstd(data), Compression::kZstd, step), data) << step;
        EXPECT_EQ(inflate(data, Compression::kNone, step), data) << step;
    }
    EXPECT_EQ(inflate(gzip(data), Compression::kGzip, 4096, 1), data);
}

TEST(Streams, GzipMembersFollowEachOther) {
    std::string data = sample();
    std::string packed = gzip(data) + gzip("") + gzip("tail");
    for (std::size_t step = 1; step < 40; ++step)
        EXPECT_EQ(inflate(packed, Compression::kGzip, step), data + "tail") << step;
    EXPECT_EQ(inflate(packed, Compression::kGzip, 1 << 20), data + "tail");
    EXPECT_EQ(inflate(gzip("x") + std::string(512, '\0'), Compression::kGzip, 100), "x")
        << "padding after the last member";
}

// Every field of a member's header, cut by the end of a read at every place.
TEST(Streams, GzipHeadersMayBeCutAnywhere) {
    std::string data = sample();
    std::string packed = gzip(data);
    packed[3] = 0x1E;  // header CRC, extra field, name, comment
    packed.insert(10, std::string("\5\0extra", 7) + std::string("name\0", 5) +
                          std::string("a comment\0", 10) + "\x12\x34");
    for (std::size_t step = 1; step < 50; ++step)
        EXPECT_EQ(inflate(packed + packed, Compression::kGzip, step), data + data) << step;
    for (std::size_t length = 0; length < 40; ++length)
        EXPECT_THROW(inflate(packed.substr(0, length), Compression::kGzip, 7), Error) << length;
    packed[3] = 0x20;
    EXPECT_THROW(inflate(packed, Compression::kGzip, 4096), Error);
    std::string endless = gzip(data).substr(0, 10) + std::string(1 << 20, 'n');
    endless[3] = 0x08;
    EXPECT_THROW(inflate(endless, Compression::kGzip, 4096), Error);
}

TEST(Streams, DamageIsAnError) {
    std::string data = sample();
    for (const auto& [packed, compression] :
         {std::pair(gzip(data), Compression::kGzip), std::pair(zstd(data), Compression::kZstd)}) {
        EXPECT_THROW(
            inflate(std::string_view(packed).substr(0, packed.size() / 2), compression, 4096),
            Error);
        EXPECT_THROW(
            inflate(std::string_view(packed).substr(0, packed.size() - 1), compression, 4096),
            Error);
        EXPECT_THROW(inflate("not compressed at all, really", compression, 4096), Error);
    }
    std::string wrong_crc = gzip(data);
    wrong_crc[wrong_crc.size() - 6] ^= 1;
    EXPECT_THROW(inflate(wrong_crc, Compression::kGzip, 4096), Error);
}

TEST(Streams, TheHashCoversWhatNobodyRead) {
    SteppingSource source("hello world", 3);
    HashingSource hashing(source);
    std::array<std::byte, 4> some;
    hashing.read(some);
    EXPECT_EQ(hashing.finish(), "sha256:" + sha256_hex("hello world"));
    EXPECT_EQ(hashing.bytes(), 11U);
}

TEST(Streams, CompressionIsNamedByTypeOrSniffed) {
    EXPECT_EQ(compression_of_media_type("application/vnd.oci.image.layer.v1.tar+gzip"),
              Compression::kGzip);
    EXPECT_EQ(compression_of_media_type("application/vnd.oci.image.layer.v1.tar+zstd"),
              Compression::kZstd);
    EXPECT_EQ(compression_of_media_type("application/vnd.docker.image.rootfs.diff.tar"),
              Compression::kNone);
    std::string packed = zstd("x");
    EXPECT_EQ(sniff_compression(std::as_bytes(std::span(packed))), Compression::kZstd);
    packed = gzip("x");
    EXPECT_EQ(sniff_compression(std::as_bytes(std::span(packed))), Compression::kGzip);
    EXPECT_EQ(sniff_compression({}), Compression::kNone);
}

// A small blob must not keep a decompressor busy for ever.
TEST(Streams, BoundedSourceEndsABomb) {
    std::string bomb(1000, 'x');
    SteppingSource source(bomb, 600);
    BoundedSource bounded(source, 999);
    std::array<std::byte, 600> out;
    EXPECT_EQ(bounded.read(out), 600U);
    EXPECT_THROW(bounded.read(out), Error);
    SteppingSource again(bomb, 1000);
    BoundedSource enough(again, 1000);
    EXPECT_EQ(enough.skip(5000), 1000U);
}

TEST(Streams, AheadSourceKeepsOrderAndFailures) {
    class Failing : public ByteSource {
      public:
        std::size_t read(std::span<std::byte> out) override {
            if (++calls_ > 20) throw Error(ErrorCode::kImage, "broken");
            std::ranges::fill(out.first(1000), static_cast<std::byte>(calls_));
            return 1000;
        }

      private:
        int calls_ = 0;
    };
    Failing failing;
    AheadSource ahead(failing);
    std::vector<std::byte> out(20'000);
    EXPECT_EQ(read_fully(ahead, out), 20'000U);
    for (std::size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(out[i], static_cast<std::byte>(i / 1000 + 1));
    EXPECT_THROW(ahead.read(out), Error);
    EXPECT_THROW(ahead.read(out), Error);
    Failing abandoned;
    AheadSource nobody_reads(abandoned);
}

}  // namespace
}  // namespace msb::image
