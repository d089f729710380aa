// Byte sources that decompress, hash, count and limit: the stages between a blob and its tar.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "image/byte_source.h"

namespace msb::image {

// A file, or a part of one, from a given offset on. Reads with pread: several sources may share one descriptor.
class FileSource : public ByteSource {
  public:
    explicit FileSource(UniqueFd fd, std::uint64_t offset = 0, std::uint64_t length = UINT64_MAX);
    static FileSource borrow(int fd, std::uint64_t offset = 0, std::uint64_t length = UINT64_MAX);
    std::size_t read(std::span<std::byte> out) override;

  private:
    FileSource(int fd, std::uint64_t offset, std::uint64_t length)
        : fd_(fd), offset_(offset), left_(length) {}
    UniqueFd owned_;
    int fd_;
    std::uint64_t offset_;
    std::uint64_t left_;
};

// SHA-256 of what passes through.
class Sha256 {
  public:
    Sha256();
    ~Sha256();
    Sha256(Sha256&&) noexcept;
    Sha256& operator=(Sha256&&) noexcept;
    void update(std::span<const std::byte> bytes);
    std::string hex();  // ends the digest

  private:
    struct Context;
    std::unique_ptr<Context> context_;
};

class HashingSource : public ByteSource {
  public:
    explicit HashingSource(ByteSource& source) : source_(source) {}
    std::size_t read(std::span<std::byte> out) override;
    // Reads what is left, so that the digest covers the whole stream, and gives "sha256:<hex>".
    std::string finish();
    std::uint64_t bytes() const { return bytes_; }

  private:
    ByteSource& source_;
    Sha256 hash_;
    std::uint64_t bytes_ = 0;
};

// Reads `source` on a thread of its own, some chunks ahead of who reads this. `source` is not owned; destroying this waits
// for its read() in progress.
class AheadSource : public ByteSource {
  public:
    explicit AheadSource(ByteSource& source);
    ~AheadSource() override;
    std::size_t read(std::span<std::byte> out) override;

  private:
    static constexpr std::size_t kChunks = 4;
    static constexpr std::size_t kChunkBytes = 256 * 1024;
    struct Chunk {
        std::vector<std::byte> bytes;
        std::size_t filled = 0;
    };
    void run(const std::stop_token& stop);

    ByteSource& source_;
    std::array<Chunk, kChunks> ring_;
    std::size_t taken_ = 0;  // of the chunk in hand; only the reader's
    std::mutex mutex_;
    std::condition_variable_any changed_;
    std::size_t head_ = 0;  // chunks that have been read, ever
    std::size_t tail_ = 0;  // ... and given out
    bool ended_ = false;    // there will be no more
    std::exception_ptr failure_;
    std::jthread thread_;  // last: it uses all of the above
};

// Throws Error{kImage} "total extracted size exceeded" when more than `limit` bytes come: a small blob must not keep a
// decompressor busy for ever.
class BoundedSource : public ByteSource {
  public:
    BoundedSource(ByteSource& source, std::uint64_t limit) : source_(source), left_(limit) {}
    std::size_t read(std::span<std::byte> out) override;

  private:
    ByteSource& source_;
    std::uint64_t left_;
};

// Calls `progress` with the running total after every read.
class CountingSource : public ByteSource {
  public:
    CountingSource(ByteSource& source, std::function<void(std::uint64_t)> progress)
        : source_(source), progress_(std::move(progress)) {}
    std::size_t read(std::span<std::byte> out) override;

  private:
    ByteSource& source_;
    std::function<void(std::uint64_t)> progress_;
    std::uint64_t total_ = 0;
};

enum class Compression { kNone, kGzip, kZstd };

// By media type (pulls): a type containing "gzip" or "zstd"; anything else is plain.
Compression compression_of_media_type(std::string_view media_type);
// By content (archives): gzip 1F 8B, zstd 28 B5 2F FD.
Compression sniff_compression(std::span<const std::byte> head);

// Decompresses `source` (not owned) with a window of bounded size. kNone passes it through.
// read() throws Error{kImage} when the stream is damaged or ends early.
std::unique_ptr<ByteSource> decompress(ByteSource& source, Compression compression);

}  // namespace msb::image
