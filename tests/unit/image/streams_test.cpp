#include "image/streams.h"

#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/hash.h"

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

std::string gzip(std::string_view data) {
    isal_zstream stream;
    isal_deflate_stateless_init(&stream);
    std::string out(data.size() + 1024, '\0');
    stream.gzip_flag = IGZIP_GZIP;
    stream.end_of_stream = 1;
    stream.next_in = reinterpret_cast<std::uint8_t*>(const_cast<char*>(data.data()));
    stream.avail_in = static_cast<std::uint32_t>(data.size());
    stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream.avail_out = static_cast<std::uint32_t>(out.size());
    EXPECT_EQ(isal_deflate_stateless(&stream), COMP_OK);
    out.resize(stream.total_out);
    return out;
}

std::string zstd(std::string_view data) {
    std::string out(ZSTD_compressBound(data.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 3));
    return out;
}

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

TEST(Streams, DamageIsAnError) {
    std::string data = sample();
    for (auto [packed, compression] :
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

}  // namespace
}  // namespace msb::image
