// A stream of bytes that somebody pulls: files, archive members, downloads, decompressors.
#pragma once

#include <cstddef>
#include <span>

namespace msb::image {

class ByteSource {
  public:
    virtual ~ByteSource() = default;
    // Fills a prefix of `out` and returns its length; 0 only at the end. Throws msb::Error when the stream is broken.
    virtual std::size_t read(std::span<std::byte> out) = 0;
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
