#include "image/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/error.h"

namespace msb::image {

namespace {

constexpr std::array kDirectories{"layers", "fsmeta",    "vmdk",       "manifests",
                                  "tmp",    "flat/refs", "flat/blobs", "flat/locks"};

}  // namespace

void throw_cache_error(const std::filesystem::path& path, int err) {
    throw Error(ErrorCode::kCustom, "cache error at " + path.string() + ": " + os_error_text(err));
}

Cache::Cache(std::filesystem::path directory) : directory_(std::move(directory)) {
    if (directory_.native().find_first_of("\"\n\r") != std::string::npos)
        throw Error(
            ErrorCode::kCustom,
            "cache error at " + directory_.string() +
                ": the path holds a quote or a line break, which disk descriptors cannot express; "
                "set paths.cache in config.json to another directory");
    for (const char* name : kDirectories) {
        std::error_code ec;
        std::filesystem::create_directories(directory_ / name, ec);
        if (ec) throw_cache_error(directory_ / name, ec.value());
    }
    // Descriptors hold canonical absolute paths.
    std::error_code ec;
    std::filesystem::path canonical = std::filesystem::canonical(directory_, ec);
    if (ec) throw_cache_error(directory_, ec.value());
    directory_ = std::move(canonical);
}

std::filesystem::path Cache::metadata(const Reference& reference) const {
    return directory_ / "manifests" / (reference.cache_key() + ".json");
}
std::filesystem::path Cache::layer_image(std::string_view diff_id) const {
    return directory_ / "layers" / (digest_file_name(diff_id) + ".erofs");
}
std::filesystem::path Cache::blob(std::string_view digest) const {
    return directory_ / "layers" / (digest_file_name(digest) + ".tar.gz");
}
std::filesystem::path Cache::fsmeta(std::string_view manifest_digest) const {
    return directory_ / "fsmeta" / (digest_file_name(manifest_digest) + ".erofs");
}
std::filesystem::path Cache::vmdk(std::string_view manifest_digest) const {
    return directory_ / "vmdk" / (digest_file_name(manifest_digest) + ".vmdk");
}
std::filesystem::path Cache::flat_reference(std::string_view manifest_digest) const {
    return directory_ / "flat/refs" / (digest_file_name(manifest_digest) + ".json");
}
std::filesystem::path Cache::flat_blob(std::string_view artifact_digest) const {
    return directory_ / "flat/blobs" / (digest_file_name(artifact_digest) + ".raw");
}
std::filesystem::path Cache::flat_lock(std::string_view derivation_digest) const {
    return directory_ / "flat/locks" / (digest_file_name(derivation_digest) + ".lock");
}
std::filesystem::path Cache::work(const std::string& name) const {
    return directory_ / "tmp" / name;
}

namespace {

// flock(2) that can be given up. The kernel offers no wait with a way out, so this looks again now and then.
void take_lock(int fd, const std::filesystem::path& path, const std::stop_token& stop) {
    constexpr std::chrono::milliseconds kFirstLook{2};
    constexpr std::chrono::milliseconds kLastLook{50};
    bool waits = !stop.stop_possible();
    std::mutex mutex;
    std::condition_variable_any never;
    for (auto delay = kFirstLook;; delay = std::min(delay * 2, kLastLook)) {
        if (::flock(fd, waits ? LOCK_EX : LOCK_EX | LOCK_NB) == 0) return;
        if (errno != EINTR && errno != EWOULDBLOCK) throw_cache_error(path, errno);
        if (waits) continue;
        std::unique_lock lock(mutex);
        never.wait_for(lock, stop, delay, [] { return false; });
        if (stop.stop_requested()) throw Error(ErrorCode::kCancelled, "operation cancelled");
    }
}

}  // namespace

FileLock Cache::lock(const std::filesystem::path& entry_lock, std::stop_token stop) const {
    // Upstream's prune unlinks lock files: a lock on a file that is no longer at its path excludes nobody, so it is
    // taken again on the new one.
    for (;;) {
        UniqueFd fd(::open(entry_lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) throw_cache_error(entry_lock, errno);
        take_lock(fd.get(), entry_lock, stop);
        struct stat held{};
        struct stat named{};
        bool same = ::fstat(fd.get(), &held) == 0 && ::lstat(entry_lock.c_str(), &named) == 0 &&
                    held.st_ino == named.st_ino && held.st_dev == named.st_dev;
        if (same) return FileLock::adopt(std::move(fd));
    }
}

FileLock Cache::lock_metadata(const Reference& reference, std::stop_token stop) const {
    return lock(directory_ / "manifests" / (reference.cache_key() + ".lock"), std::move(stop));
}
FileLock Cache::lock_layer(std::string_view diff_id, std::stop_token stop) const {
    return lock(layer_image(diff_id).native() + ".lock", std::move(stop));
}
FileLock Cache::lock_composition(std::string_view manifest_digest, std::stop_token stop) const {
    return lock(fsmeta(manifest_digest).native() + ".lock", std::move(stop));
}

PendingFile::PendingFile(std::filesystem::path path)
    : path_(std::move(path)),
      fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)) {
    if (!fd_) throw_cache_error(path_, errno);
}

PendingFile::PendingFile(PendingFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), fd_(std::move(other.fd_)) {}

PendingFile::~PendingFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
}

void PendingFile::publish(const std::filesystem::path& target, bool durable) {
    if (durable && ::fsync(fd_.get()) != 0) throw_cache_error(path_, errno);
    if (::rename(path_.c_str(), target.c_str()) != 0) throw_cache_error(target, errno);
    path_.clear();
    if (!durable) return;
    if (int err = sync_directory(target.parent_path()))
        throw_cache_error(target.parent_path(), err);
}

}  // namespace msb::image
