#include "agentd/fs_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace msb::agentd {

namespace {

constexpr std::size_t kCopyChunk = std::size_t{1} << 20;
constexpr mode_t kPermissionBits = 07777;

int copy_content(int from, int to) {
    std::vector<std::byte> buffer;
    while (true) {
        ssize_t n = ::copy_file_range(from, nullptr, to, nullptr, kCopyChunk, 0);
        if (n == 0) break;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
            return errno;
        if (n < 0) break;
    }
    // What the kernel did not copy itself: other file system pairs, and procfs, whose files claim to
    // be empty. At the end of the file this reads nothing.
    buffer.resize(kCopyChunk / 16);
    while (true) {
        ssize_t n = ::read(from, buffer.data(), buffer.size());
        if (n == 0) return 0;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (int err = write_all(to, std::span(buffer).first(static_cast<std::size_t>(n))))
            return err;
    }
}

// One directory of the walk.
struct Level {
    UniqueFd fd;
    std::string name;  // in its parent
};

struct DirectoryRecord {  // struct linux_dirent64
    std::uint64_t inode;
    std::int64_t offset;
    unsigned short length;
    unsigned char type;
};
constexpr std::size_t kNameOffset = 19;

UniqueFd open_directory(int parent, const std::string& name) {
    return UniqueFd(
        ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

enum class Sweep { kEmpty, kProgress, kDescend };

// Unlinks what can be unlinked among the next entries of the directory; stops at a subdirectory and
// returns its name. Or the errno in `error`.
Sweep sweep(int directory, std::string& subdirectory, int& error) {
    std::array<char, 8192> buffer;
    ::lseek(directory, 0, SEEK_SET);
    bool progress = false;
    while (true) {
        long n = ::syscall(SYS_getdents64, directory, buffer.data(), buffer.size());
        if (n < 0) error = errno;
        if (n <= 0) return progress ? Sweep::kProgress : Sweep::kEmpty;
        for (long at = 0; at < n;) {
            DirectoryRecord record;
            std::memcpy(&record, buffer.data() + at, kNameOffset);
            const char* name = buffer.data() + at + kNameOffset;
            at += record.length;
            if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
            if (record.type != DT_DIR && ::unlinkat(directory, name, 0) == 0) {
                progress = true;
            } else if (record.type == DT_DIR || errno == EISDIR) {
                subdirectory = name;
                return Sweep::kDescend;
            } else if (errno != ENOENT) {
                error = errno;
                return Sweep::kEmpty;
            }
        }
        if (progress) return Sweep::kProgress;
    }
}

}  // namespace

int copy_file(const std::string& source, const std::string& destination) {
    // O_NONBLOCK: a FIFO is refused below instead of being waited for.
    UniqueFd from(::open(source.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!from) return errno;
    struct stat info;
    if (::fstat(from.get(), &info) != 0) return errno;
    if (!S_ISREG(info.st_mode)) return EINVAL;
    UniqueFd to(::open(destination.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY,
                       info.st_mode & kPermissionBits));
    if (!to) return errno;
    struct stat target;
    if (::fstat(to.get(), &target) != 0) return errno;
    // Truncating would destroy the source.
    if (target.st_dev == info.st_dev && target.st_ino == info.st_ino) return 0;
    if (S_ISREG(target.st_mode) && ::ftruncate(to.get(), 0) != 0) return errno;
    if (int err = copy_content(from.get(), to.get())) return err;
    if (S_ISREG(target.st_mode) && ::fchmod(to.get(), info.st_mode & kPermissionBits) != 0)
        return errno;
    return 0;
}

int remove_tree(const std::string& path) {
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) return errno;
    if (S_ISLNK(info.st_mode)) return ::unlink(path.c_str()) != 0 ? errno : 0;
    std::vector<Level> levels;
    levels.push_back({open_directory(AT_FDCWD, path), path});
    if (!levels.back().fd) return errno;
    while (!levels.empty()) {
        int error = 0;
        std::string subdirectory;
        Sweep outcome = sweep(levels.back().fd.get(), subdirectory, error);
        if (error != 0) return error;
        if (outcome == Sweep::kProgress) continue;
        if (outcome == Sweep::kDescend) {
            UniqueFd fd = open_directory(levels.back().fd.get(), subdirectory);
            if (!fd) return errno;
            levels.push_back({std::move(fd), std::move(subdirectory)});
            continue;
        }
        std::string name = std::move(levels.back().name);
        levels.pop_back();
        int parent = levels.empty() ? AT_FDCWD : levels.back().fd.get();
        if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) return errno;
    }
    return 0;
}

}  // namespace msb::agentd
