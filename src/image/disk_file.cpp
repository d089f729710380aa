#include "image/disk_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "image/ext4_grow.h"

namespace msb::image {

namespace {

constexpr const char* kDraftSuffix = ".part";
constexpr const char* kGrowthSuffix = ".growing";

std::filesystem::path beside(const std::filesystem::path& path, const char* suffix) {
    return path.native() + suffix;
}

void sync_directory_of(const std::filesystem::path& path) {
    std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
    if (int err = sync_directory(directory)) throw_os_error(err, directory.string());
}

std::uint64_t size_of(int fd) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) throw_os_error(errno, "stat disk");
    return static_cast<std::uint64_t>(st.st_size);
}

}  // namespace

DiskDraft::DiskDraft(std::filesystem::path path)
    : path_(std::move(path)), part_(beside(path_, kDraftSuffix)) {
    if (::unlink(part_.c_str()) != 0 && errno != ENOENT) throw_os_error(errno, part_.string());
    fd_.reset(::open(part_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd_) throw_os_error(errno, part_.string());
}

DiskDraft::~DiskDraft() {
    if (!part_.empty()) ::unlink(part_.c_str());
}

void DiskDraft::publish(bool durable) {
    if (durable && ::fsync(fd_.get()) != 0) throw_os_error(errno, part_.string());
    // What an earlier disk of this name was going through is no concern of the new one.
    if (::unlink(beside(path_, kGrowthSuffix).c_str()) != 0 && errno != ENOENT)
        throw_os_error(errno, path_.string());
    if (::rename(part_.c_str(), path_.c_str()) != 0) throw_os_error(errno, path_.string());
    part_.clear();
    if (durable) sync_directory_of(path_);
}

bool grow_disk(const std::filesystem::path& path, std::uint64_t size) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) throw_os_error(errno, path.string());
    std::filesystem::path mark = beside(path, kGrowthSuffix);
    struct stat st{};
    if (::lstat(mark.c_str(), &st) == 0) {
        settle_ext4_growth(fd.get());
    } else if (errno != ENOENT) {
        throw_os_error(errno, mark.string());
    }
    bool smaller = size_of(fd.get()) < size;
    if (smaller) {
        Ext4Growth growth(fd.get(), size);
        UniqueFd created(::open(mark.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!created) throw_os_error(errno, mark.string());
        sync_directory_of(path);
        growth.apply();
    }
    if (::unlink(mark.c_str()) != 0 && errno != ENOENT) throw_os_error(errno, mark.string());
    return smaller;
}

}  // namespace msb::image
