#include "image/streams.h"

#include <openssl/evp.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "base/encoding.h"
#include "base/error.h"
#include "image/gzip_source.h"

namespace msb::image {

namespace {

constexpr std::size_t kInputBuffer = 256 * 1024;
constexpr unsigned kZstdMaxWindowLog = 27;  // 128 MiB: what zstd's own command accepts by default

}  // namespace

FileSource::FileSource(UniqueFd fd, std::uint64_t offset, std::uint64_t length)
    : owned_(std::move(fd)), fd_(owned_.get()), offset_(offset), left_(length) {}

FileSource FileSource::borrow(int fd, std::uint64_t offset, std::uint64_t length) {
    return {fd, offset, length};
}

std::size_t FileSource::read(std::span<std::byte> out) {
    std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), left_));
    for (;;) {
        ssize_t n = ::pread(fd_, out.data(), want, static_cast<off_t>(offset_));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw_os_error(errno, "read layer");
        offset_ += static_cast<std::uint64_t>(n);
        left_ -= static_cast<std::uint64_t>(n);
        return static_cast<std::size_t>(n);
    }
}

struct Sha256::Context {
    EVP_MD_CTX* evp = EVP_MD_CTX_new();
    ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
    if (context_->evp == nullptr || EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) != 1)
        throw Error(ErrorCode::kRuntime, "SHA-256 is not available in this OpenSSL");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
    EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size());
}

std::string Sha256::hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned length = 0;
    EVP_DigestFinal_ex(context_->evp, digest.data(), &length);
    return msb::hex({reinterpret_cast<const char*>(digest.data()), length});
}

std::size_t HashingSource::read(std::span<std::byte> out) {
    std::size_t n = source_.read(out);
    hash_.update(out.first(n));
    bytes_ += n;
    return n;
}

std::string HashingSource::finish() {
    std::vector<std::byte> sink(kInputBuffer);
    while (read(sink) > 0) {
    }
    return "sha256:" + hash_.hex();
}

AheadSource::AheadSource(ByteSource& source) : source_(source) {
    for (Chunk& chunk : ring_)
        chunk.bytes.resize(kChunkBytes);
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

AheadSource::~AheadSource() = default;  // the thread is stopped and joined first

void AheadSource::run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    try {
        while (changed_.wait(lock, stop, [&] { return head_ - tail_ < kChunks; })) {
            if (stop.stop_requested()) break;
            Chunk& chunk = ring_[head_ % kChunks];
            lock.unlock();
            std::size_t n = source_.read(chunk.bytes);
            lock.lock();
            if (n == 0) break;
            chunk.filled = n;
            ++head_;
            changed_.notify_one();
        }
    } catch (...) {
        lock.lock();
        failure_ = std::current_exception();
    }
    ended_ = true;
    changed_.notify_one();
}

std::size_t AheadSource::read(std::span<std::byte> out) {
    if (taken_ == 0) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return head_ != tail_ || ended_; });
        if (head_ == tail_) {
            if (failure_) std::rethrow_exception(failure_);
            return 0;
        }
    }
    // The chunk in hand is ours alone until it is given back.
    Chunk& chunk = ring_[tail_ % kChunks];
    std::size_t n = std::min(out.size(), chunk.filled - taken_);
    std::copy_n(chunk.bytes.begin() + static_cast<std::ptrdiff_t>(taken_), n, out.begin());
    taken_ += n;
    if (taken_ == chunk.filled) {
        std::lock_guard guard(mutex_);
        ++tail_;
        taken_ = 0;
        changed_.notify_one();
    }
    return n;
}

std::size_t BoundedSource::read(std::span<std::byte> out) {
    std::size_t n = source_.read(out);
    if (n > left_) throw Error(ErrorCode::kImage, "total extracted size exceeded");
    left_ -= n;
    return n;
}

std::size_t CountingSource::read(std::span<std::byte> out) {
    std::size_t n = source_.read(out);
    total_ += n;
    progress_(total_);
    return n;
}

Compression compression_of_media_type(std::string_view media_type) {
    if (media_type.contains("gzip")) return Compression::kGzip;
    if (media_type.contains("zstd")) return Compression::kZstd;
    return Compression::kNone;
}

Compression sniff_compression(std::span<const std::byte> head) {
    auto starts = [&](std::initializer_list<unsigned char> magic) {
        return head.size() >= magic.size() &&
               std::equal(magic.begin(), magic.end(), head.begin(),
                          [](unsigned char a, std::byte b) { return std::byte{a} == b; });
    };
    if (starts({0x1F, 0x8B})) return Compression::kGzip;
    if (starts({0x28, 0xB5, 0x2F, 0xFD})) return Compression::kZstd;
    return Compression::kNone;
}

namespace {

class PassThrough : public ByteSource {
  public:
    explicit PassThrough(ByteSource& source) : source_(source) {}
    std::size_t read(std::span<std::byte> out) override { return source_.read(out); }

  private:
    ByteSource& source_;
};

class ZstdSource : public ByteSource {
  public:
    explicit ZstdSource(ByteSource& source) : source_(source), input_(kInputBuffer) {
        if (!stream_) throw Error(ErrorCode::kRuntime, "cannot create a zstd decoder");
        ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kZstdMaxWindowLog);
    }

    std::size_t read(std::span<std::byte> out) override {
        ZSTD_outBuffer output{out.data(), out.size(), 0};
        while (output.pos == 0 && !out.empty()) {
            if (position_ == filled_) {
                filled_ = source_.read(input_);
                position_ = 0;
                if (filled_ == 0) {
                    if (!at_frame_end_)
                        throw Error(ErrorCode::kImage, "unexpected end of zstd data");
                    return 0;
                }
            }
            ZSTD_inBuffer in{input_.data(), filled_, position_};
            std::size_t hint = ZSTD_decompressStream(stream_.get(), &output, &in);
            if (ZSTD_isError(hint) != 0)
                throw Error(ErrorCode::kImage,
                            std::string("damaged zstd data: ") + ZSTD_getErrorName(hint));
            position_ = in.pos;
            at_frame_end_ = hint == 0;
        }
        return output.pos;
    }

  private:
    struct Free {
        void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
    };
    ByteSource& source_;
    std::vector<std::byte> input_;
    std::unique_ptr<ZSTD_DStream, Free> stream_{ZSTD_createDStream()};
    std::size_t filled_ = 0;
    std::size_t position_ = 0;
    bool at_frame_end_ = true;
};

}  // namespace

std::unique_ptr<ByteSource> decompress(ByteSource& source, Compression compression) {
    switch (compression) {
        case Compression::kGzip:
            return inflate_gzip(source);
        case Compression::kZstd:
            return std::make_unique<ZstdSource>(source);
        case Compression::kNone:
            break;
    }
    return std::make_unique<PassThrough>(source);
}

}  // namespace msb::image
