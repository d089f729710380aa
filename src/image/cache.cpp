#include "image/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
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

FileLock Cache::lock(const std::filesystem::path& entry_lock) const {
    // Upstream's prune unlinks lock files: a lock on a file that is no longer at its path excludes nobody, so it is
    // taken again on the new one.
    for (;;) {
        UniqueFd fd(::open(entry_lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) throw_cache_error(entry_lock, errno);
        while (::flock(fd.get(), LOCK_EX) != 0) {
            if (errno != EINTR) throw_cache_error(entry_lock, errno);
        }
        struct stat held{};
        struct stat named{};
        bool same = ::fstat(fd.get(), &held) == 0 && ::lstat(entry_lock.c_str(), &named) == 0 &&
                    held.st_ino == named.st_ino && held.st_dev == named.st_dev;
        if (same) return FileLock::adopt(std::move(fd));
    }
}

FileLock Cache::lock_metadata(const Reference& reference) const {
    return lock(directory_ / "manifests" / (reference.cache_key() + ".lock"));
}
FileLock Cache::lock_layer(std::string_view diff_id) const {
    return lock(layer_image(diff_id).native() + ".lock");
}
FileLock Cache::lock_composition(std::string_view manifest_digest) const {
    return lock(fsmeta(manifest_digest).native() + ".lock");
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
    UniqueFd parent(::open(target.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent || ::fsync(parent.get()) != 0) throw_cache_error(target.parent_path(), errno);
}

}  // namespace msb::image
