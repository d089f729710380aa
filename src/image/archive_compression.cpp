#include "image/archive_compression.h"

#include <bzlib.h>
#include <lzma.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "image/streams.h"

namespace msb::image {

namespace {

constexpr std::size_t kInputBuffer = 256 * 1024;
constexpr std::uint64_t kXzMemory = 128 << 20;  // what `xz -9` needs is 65 MiB

[[noreturn]] void fail(const char* what) {
    throw Error(ErrorCode::kImage, what);
}

bool starts_with(std::span<const std::byte> head, std::string_view magic) {
    return std::string_view(reinterpret_cast<const char*>(head.data()), head.size())
        .starts_with(magic);
}

bool is_xz(std::span<const std::byte> head) {
    return starts_with(head, std::string_view("\xFD"
                                              "7zXZ\0",
                                              6));
}

// "BZh", the block size, and the mark of a first block or of an empty stream.
bool is_bzip2(std::span<const std::byte> head) {
    return head.size() >= kArchiveMagicBytes && starts_with(head, "BZh") &&
           (starts_with(head.subspan(4), "\x31\x41\x59\x26\x53\x59") ||
            starts_with(head.subspan(4), "\x17\x72\x45\x38\x50\x90"));
}

class XzSource : public ByteSource {
  public:
    explicit XzSource(ByteSource& source) : source_(source), input_(kInputBuffer) {
        if (lzma_stream_decoder(&stream_, kXzMemory, LZMA_CONCATENATED) != LZMA_OK)
            throw Error(ErrorCode::kRuntime, "cannot create an xz decoder");
    }
    XzSource(const XzSource&) = delete;
    XzSource& operator=(const XzSource&) = delete;
    ~XzSource() override { lzma_end(&stream_); }

    std::size_t read(std::span<std::byte> out) override {
        stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
        stream_.avail_out = out.size();
        while (!ended_ && stream_.avail_out == out.size() && !out.empty()) {
            if (stream_.avail_in == 0 && !exhausted_) {
                stream_.next_in = reinterpret_cast<const std::uint8_t*>(input_.data());
                stream_.avail_in = source_.read(input_);
                exhausted_ = stream_.avail_in == 0;
            }
            lzma_ret result = lzma_code(&stream_, exhausted_ ? LZMA_FINISH : LZMA_RUN);
            if (result == LZMA_STREAM_END) {
                ended_ = true;
            } else if (result == LZMA_MEMLIMIT_ERROR) {
                fail("xz data needs too much memory to unpack");
            } else if (result == LZMA_BUF_ERROR) {
                fail("unexpected end of xz data");
            } else if (result != LZMA_OK) {
                fail("damaged xz data");
            }
        }
        return out.size() - stream_.avail_out;
    }

  private:
    ByteSource& source_;
    std::vector<std::byte> input_;
    lzma_stream stream_ = LZMA_STREAM_INIT;
    bool exhausted_ = false;
    bool ended_ = false;
};

// One or more bzip2 streams, one after the other.
class Bzip2Source : public ByteSource {
  public:
    explicit Bzip2Source(ByteSource& source) : source_(source), input_(kInputBuffer) { start(); }
    Bzip2Source(const Bzip2Source&) = delete;
    Bzip2Source& operator=(const Bzip2Source&) = delete;
    ~Bzip2Source() override { BZ2_bzDecompressEnd(&stream_); }

    std::size_t read(std::span<std::byte> out) override {
        auto space = static_cast<unsigned>(
            std::min<std::size_t>(out.size(), std::numeric_limits<unsigned>::max()));
        stream_.next_out = reinterpret_cast<char*>(out.data());
        stream_.avail_out = space;
        while (stream_.avail_out == space && space > 0) {
            if (stream_.avail_in == 0 && !refill()) {
                if (!between_streams_) fail("unexpected end of bzip2 data");
                return 0;
            }
            between_streams_ = false;
            int result = BZ2_bzDecompress(&stream_);
            if (result == BZ_STREAM_END) {
                restart();
            } else if (result != BZ_OK) {
                fail("damaged bzip2 data");
            }
        }
        return space - stream_.avail_out;
    }

  private:
    void start() {
        if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK)
            throw Error(ErrorCode::kRuntime, "cannot create a bzip2 decoder");
    }
    // Another stream may follow in what has been read already.
    void restart() {
        bz_stream old = stream_;
        BZ2_bzDecompressEnd(&stream_);
        stream_ = {};
        start();
        stream_.next_in = old.next_in;
        stream_.avail_in = old.avail_in;
        stream_.next_out = old.next_out;
        stream_.avail_out = old.avail_out;
        between_streams_ = true;
    }
    bool refill() {
        stream_.next_in = reinterpret_cast<char*>(input_.data());
        stream_.avail_in = static_cast<unsigned>(source_.read(input_));
        return stream_.avail_in > 0;
    }

    ByteSource& source_;
    std::vector<std::byte> input_;
    bz_stream stream_{};
    bool between_streams_ = false;
};

}  // namespace

bool is_compressed_archive(std::span<const std::byte> head) {
    return sniff_compression(head) != Compression::kNone || is_xz(head) || is_bzip2(head);
}

std::unique_ptr<ByteSource> unpack_archive(ByteSource& source, std::span<const std::byte> head) {
    if (is_xz(head)) return std::make_unique<XzSource>(source);
    if (is_bzip2(head)) return std::make_unique<Bzip2Source>(source);
    return decompress(source, sniff_compression(head));
}

}  // namespace msb::image
