#include "image/blob_download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/error.h"
#include "image/streams.h"

namespace msb::image {

namespace {

constexpr std::size_t kDigestBuffer = 256 * 1024;
// The reader is woken for this much at a time: a wake for every packet costs more than it gains.
constexpr std::uint64_t kWakeBytes = 128 * 1024;

std::string hex_part(const std::string& digest) {
    return digest.substr(digest.find(':') + 1);
}

}  // namespace

BlobDownload::BlobDownload(const Cache& cache, const Descriptor& layer, bool force,
                           Progress progress)
    : layer_(layer),
      final_(cache.blob(layer.digest)),
      part_(cache.work(digest_file_name(layer.digest) + ".part")),
      force_(force),
      progress_(std::move(progress)) {}

BlobDownload::~BlobDownload() = default;

std::uint64_t BlobDownload::limit() const {
    return layer_.size == 0 ? kMaxBlobBytes : std::min(layer_.size, kMaxBlobBytes);
}

void BlobDownload::run(RegistryClient& registry, const std::function<void(std::uint64_t)>& complete,
                       std::stop_token stop) {
    try {
        if (force_) {
            ::unlink(final_.c_str());
            ::unlink(part_.c_str());
        }
        if (reuse_final()) {
            complete(layer_.size);
            finish(Outcome::kComplete);
            return;
        }
        open_part();
        if (!adopt_part()) {
            registry.fetch_blob(layer_.digest, *this, stop);
            digest_stored();
            verify();
        }
        if (::rename(part_.c_str(), final_.c_str()) != 0) throw_cache_error(final_, errno);
        complete(stored_);
        finish(Outcome::kComplete);
    } catch (...) {
        if (wrong_ || stored_ == 0) ::unlink(part_.c_str());
        finish(Outcome::kFailed);
        throw;
    }
}

// A blob that an earlier process has downloaded and verified, but not lived to ingest.
bool BlobDownload::reuse_final() {
    UniqueFd fd(::open(final_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat st{};
    if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return false;
    auto size = static_cast<std::uint64_t>(st.st_size);
    if (layer_.size == 0 ? size == 0 : size != layer_.size) return false;
    {
        std::lock_guard guard(mutex_);
        fd_ = std::move(fd);
    }
    stored_ = size;
    publish(size);
    return true;
}

void BlobDownload::open_part() {
    UniqueFd fd(::open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
    struct stat st{};
    if (!fd || ::fstat(fd.get(), &st) != 0) throw_cache_error(part_, errno);
    stored_ = static_cast<std::uint64_t>(st.st_size);
    std::lock_guard guard(mutex_);
    fd_ = std::move(fd);
}

// Decides about bytes an earlier process left; true when they are the whole blob.
bool BlobDownload::adopt_part() {
    digester_.emplace(layer_.digest);
    if (stored_ == 0) return false;
    if (stored_ > limit()) {
        restart();
    } else if (stored_ == layer_.size) {
        digest_stored();
        if (digester_->finish() == layer_.digest) {
            progress_(stored_);
            publish(stored_);
            return true;
        }
        restart();
    } else {
        resumed_ = true;
    }
    return false;
}

bool BlobDownload::restart() {
    if (available_ > 0) {  // only this thread changes it
        repeats_ = true;
        passed_ = 0;
        return false;
    }
    if (::ftruncate(fd_.get(), 0) != 0) throw_cache_error(part_, errno);
    stored_ = digested_ = 0;
    resumed_ = false;
    digester_.emplace(layer_.digest);
    return true;
}

// Takes what is in the file but not yet in the digest.
void BlobDownload::digest_stored() {
    if (digested_ == stored_) return;
    FileSource source = FileSource::borrow(fd_.get(), digested_, stored_ - digested_);
    std::vector<std::byte> buffer(kDigestBuffer);
    while (std::size_t n = source.read(buffer)) {
        digester_->update(std::span(buffer).first(n));
        digested_ += n;
    }
    if (digested_ != stored_) throw_cache_error(part_, EIO);
}

void BlobDownload::data(std::span<const std::byte> bytes) {
    if (repeats_) {
        std::uint64_t skip = std::min<std::uint64_t>(bytes.size(), stored_ - passed_);
        passed_ += skip;
        bytes = bytes.subspan(static_cast<std::size_t>(skip));
        if (bytes.empty()) return;
        repeats_ = false;
    }
    digest_stored();
    if (bytes.size() > limit() || stored_ > limit() - bytes.size()) {
        wrong_ = true;
        throw Error(ErrorCode::kCustom, "registry error: blob " + layer_.digest +
                                            " is larger than its descriptor says (" +
                                            std::to_string(limit()) + " bytes)");
    }
    if (int err = pwrite_all(fd_.get(), bytes, stored_)) throw_cache_error(part_, err);
    stored_ += bytes.size();
    digester_->update(bytes);
    digested_ = stored_;
    publish(stored_);
    progress_(stored_);
}

void BlobDownload::verify() {
    std::string actual = digester_->finish();
    if (actual == layer_.digest) return;
    wrong_ = true;
    if (resumed_)
        throw Error(ErrorCode::kCustom, "digest mismatch for layer " + layer_.digest +
                                            ": expected " + hex_part(layer_.digest) + ", got " +
                                            hex_part(actual));
    throw Error(ErrorCode::kCustom,
                "Invalid digest. Expected " + layer_.digest + ", got " + actual);
}

void BlobDownload::publish(std::uint64_t bytes) {
    std::lock_guard guard(mutex_);
    available_ = bytes;
    if (available_ >= wanted_) changed_.notify_all();
}

void BlobDownload::finish(Outcome outcome) {
    std::lock_guard guard(mutex_);
    outcome_ = outcome;
    available_ = outcome == Outcome::kComplete ? stored_ : available_;
    changed_.notify_all();
}

std::size_t BlobDownload::read_behind(std::uint64_t at, std::span<std::byte> out) {
    std::unique_lock lock(mutex_);
    wanted_ = at + std::min<std::uint64_t>(out.size(), kWakeBytes);
    changed_.wait(lock, [&] { return available_ >= wanted_ || outcome_ != Outcome::kRunning; });
    if (outcome_ == Outcome::kFailed)
        throw Error(ErrorCode::kCustom, "the download of " + layer_.digest + " failed");
    std::uint64_t ready = std::min<std::uint64_t>(available_ - at, out.size());
    int fd = fd_.get();
    lock.unlock();
    if (ready == 0) return 0;
    FileSource source = FileSource::borrow(fd, at, ready);
    return source.read(out);
}

class BlobDownload::Reader : public ByteSource {
  public:
    Reader(BlobDownload& download, std::stop_token stop)
        : download_(download), stop_(std::move(stop)) {}

    std::size_t read(std::span<std::byte> out) override {
        if (stop_.stop_requested()) throw_cancelled();
        if (out.empty()) return 0;
        std::size_t n = download_.read_behind(at_, out);
        at_ += n;
        return n;
    }

  private:
    BlobDownload& download_;
    std::stop_token stop_;
    std::uint64_t at_ = 0;
};

std::unique_ptr<ByteSource> BlobDownload::reader(std::stop_token stop) {
    return std::make_unique<Reader>(*this, std::move(stop));
}

void BlobDownload::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outcome_ != Outcome::kRunning; });
    if (outcome_ == Outcome::kFailed)
        throw Error(ErrorCode::kCustom, "the download of " + layer_.digest + " failed");
}

void BlobDownload::discard() {
    ::unlink(final_.c_str());
}

}  // namespace msb::image
