#include "cli/commands/copy_host.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

constexpr std::size_t kChunk = 1 << 20;
constexpr unsigned kTemporaryTries = 100;

struct stat status_of(const std::string& path) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0)
        fail_value("stat " + path + ": " + os_error_text(errno));
    return status;
}

// Removes a half-written file unless it was published.
class Temporary {
  public:
    Temporary(int directory, std::string name) : directory_(directory), name_(std::move(name)) {}
    ~Temporary() {
        if (!name_.empty()) ::unlinkat(directory_, name_.c_str(), 0);
    }
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    const std::string& name() const { return name_; }
    void published() { name_.clear(); }

  private:
    int directory_;
    std::string name_;
};

}  // namespace

NodeInfo HostSource::info(const std::string& path) {
    const auto status = status_of(path);
    NodeInfo info{NodeKind::kOther, status.st_mode & 07777};
    if (S_ISREG(status.st_mode)) info.kind = NodeKind::kFile;
    if (S_ISDIR(status.st_mode)) info.kind = NodeKind::kDirectory;
    if (S_ISLNK(status.st_mode)) info.kind = NodeKind::kLink;
    return info;
}

std::vector<std::string> HostSource::names(const std::string& directory) {
    const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(directory.c_str()), ::closedir);
    if (!handle) throw_os_error(errno, directory);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(handle.get())) {
        const std::string name = entry->d_name;
        if (name != "." && name != "..") names.push_back(name);
        errno = 0;
    }
    if (errno != 0) throw_os_error(errno, directory);
    return names;
}

std::string HostSource::link_target(const std::string& path) {
    std::array<char, kMaxLinkTarget + 1> buffer;
    const ssize_t length = ::readlink(path.c_str(), buffer.data(), buffer.size());
    if (length < 0) throw_os_error(errno, path);
    return std::string(buffer.data(), static_cast<std::size_t>(length));
}

void HostSource::read(const std::string& path, const ChunkSink& sink) {
    // O_NONBLOCK: were it a FIFO by now, opening must not hang.
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) throw_os_error(errno, path);
    std::string buffer(kChunk, '\0');
    for (;;) {
        const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw_os_error(errno, path);
        if (count == 0) return;
        sink(std::string_view(buffer).substr(0, static_cast<std::size_t>(count)));
    }
}

HostSink::HostSink(const std::string& directory) {
    UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) throw_os_error(errno, directory);
    levels_.push_back({std::move(fd), 0});
}

HostSink::~HostSink() = default;

void HostSink::enter(const std::string& name, std::uint32_t mode) {
    struct stat status{};
    if (::fstatat(current(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(status.st_mode) && ::unlinkat(current(), name.c_str(), 0) != 0)
        throw_os_error(errno, name);
    if (::mkdirat(current(), name.c_str(), 0700) != 0 && errno != EEXIST)
        throw_os_error(errno, name);
    UniqueFd fd(::openat(current(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) throw_os_error(errno, name);
    if (::fchmod(fd.get(), 0700) != 0) throw_os_error(errno, name);
    levels_.push_back({std::move(fd), mode});
}

void HostSink::leave() {
    if (::fchmod(current(), levels_.back().mode & 07777) != 0) throw_os_error(errno, "chmod");
    levels_.pop_back();
}

void HostSink::link(const std::string& name, const std::string& target) {
    // The root of the copy is the outermost directory entered, or the pinned one for a lone link.
    const std::size_t depth = levels_.size() < 2 ? 0 : levels_.size() - 2;
    const std::string contained = contained_link_target(name, target, depth);
    Temporary temporary(current(), temporary_name());
    if (::symlinkat(contained.c_str(), current(), temporary.name().c_str()) != 0)
        throw_os_error(errno, name);
    if (::renameat(current(), temporary.name().c_str(), current(), name.c_str()) != 0)
        throw_os_error(errno, name);
    temporary.published();
}

std::string HostSink::temporary_name() {
    for (unsigned attempt = 0; attempt < kTemporaryTries; ++attempt) {
        std::string name =
            ".msb-copy-" + std::to_string(::getpid()) + "-" + std::to_string(counter_++);
        struct stat status{};
        if (::fstatat(current(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 &&
            errno == ENOENT)
            return name;
    }
    fail_value("cannot create a temporary file: every name is taken");
}

void HostSink::file(const std::string& name, std::uint32_t mode,
                    const std::function<void(const ChunkSink&)>& fill) {
    Temporary temporary(current(), temporary_name());
    const UniqueFd fd(::openat(current(), temporary.name().c_str(),
                               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) throw_os_error(errno, name);
    fill([&](std::string_view chunk) {
        if (const int error = write_all(fd.get(), chunk); error != 0) throw_os_error(error, name);
    });
    if (::fchmod(fd.get(), mode & 07777) != 0) throw_os_error(errno, name);
    if (::renameat(current(), temporary.name().c_str(), current(), name.c_str()) != 0)
        throw_os_error(errno, name);
    temporary.published();
}

}  // namespace msb::cli
