// A stream of bytes that somebody pulls: files, archive members, downloads, decompressors.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace msb::image {

class ByteSource {
  public:
    virtual ~ByteSource() = default;
    // Fills a prefix of `out` and returns its length; 0 only at the end. Throws msb::Error when the stream is broken.
    virtual std::size_t read(std::span<std::byte> out) = 0;
    // Passes over `count` bytes; how many there were: less only at the end.
    virtual std::uint64_t skip(std::uint64_t count) {
        std::array<std::byte, 16384> sink;
        std::uint64_t done = 0;
        while (done < count) {
            std::size_t n = read(std::span(sink).first(
                static_cast<std::size_t>(std::min<std::uint64_t>(sink.size(), count - done))));
            if (n == 0) break;
            done += n;
        }
        return done;
    }
};

// Reads until `out` is full or the stream ends; the count read.
inline std::size_t read_fully(ByteSource& source, std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size()) {
        std::size_t n = source.read(out.subspan(done));
        if (n == 0) break;
        done += n;
    }
    return done;
}

}  // namespace msb::image
