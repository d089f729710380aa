#include "agentd/fs_ops.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "agentd/files.h"
#include "agentd/fs_entry.h"
#include "agentd/fs_tree.h"
#include "base/encoding.h"
#include "base/error.h"

namespace msb::agentd {

namespace {

using protocol::FsResponse;
namespace op = protocol::fs;

constexpr std::uint32_t kDefaultReadDirLimit = 128;
constexpr mode_t kDefaultCreateMode = 0666;
constexpr mode_t kPermissionBits = 07777;

bool has_nul(std::string_view path) {
    return path.find('\0') != std::string_view::npos;
}

FsResponse nul_failure(std::string_view prefix) {
    return fs_failure(std::string(prefix) + ": file name contained an unexpected NUL byte");
}

int stat_path(const std::string& path, bool follow, struct stat& info) {
    return (follow ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info)) != 0 ? errno : 0;
}

// realpath(3) with memory of its own.
std::expected<std::string, int> canonical(const std::string& path) {
    std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr),
                                                         &std::free);
    if (!resolved) return std::unexpected(errno);
    return std::string(resolved.get());
}

// Both times, one of them perhaps from what is there already, cut to seconds.
std::array<timespec, 2> new_times(const protocol::FsAttrs& attrs, const struct stat& current) {
    return {timespec{attrs.atime.value_or(current.st_atim.tv_sec), 0},
            timespec{attrs.mtime.value_or(current.st_mtim.tv_sec), 0}};
}

FsResponse set_size(const std::string& path, std::uint64_t size) {
    UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file) return fs_failure("setstat: open for truncate", errno);
    if (size > INT64_MAX) return fs_failure("setstat: set_len", EFBIG);
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
        return fs_failure("setstat: set_len", errno);
    return fs_success();
}

FsResponse set_mode(const std::string& path, bool follow, mode_t mode) {
    if (!follow) {
        struct stat info;
        if (int err = stat_path(path, false, info))
            return fs_failure("setstat: lstat before chmod", err);
        if (S_ISLNK(info.st_mode))
            return fs_failure("setstat: chmod on symlink without following is not supported");
    }
    if (::chmod(path.c_str(), mode & kPermissionBits) != 0)
        return fs_failure("setstat: chmod", errno);
    return fs_success();
}

FsResponse set_owner(const op::SetStat& request) {
    int flags = request.follow_symlink ? 0 : AT_SYMLINK_NOFOLLOW;
    if (::fchownat(AT_FDCWD, request.path.c_str(), request.attrs.uid.value_or(UINT32_MAX),
                   request.attrs.gid.value_or(UINT32_MAX), flags) != 0)
        return fs_failure("setstat: chown", errno);
    return fs_success();
}

FsResponse set_times(const op::SetStat& request) {
    struct stat info;
    if (int err = stat_path(request.path, request.follow_symlink, info))
        return fs_failure("setstat: stat before utimensat", err);
    std::array<timespec, 2> times = new_times(request.attrs, info);
    int flags = request.follow_symlink ? 0 : AT_SYMLINK_NOFOLLOW;
    if (::utimensat(AT_FDCWD, request.path.c_str(), times.data(), flags) != 0)
        return fs_failure("setstat: utimensat", errno);
    return fs_success();
}

int open_flags(const protocol::FsOpenOptions& options) {
    bool writing = options.write || options.append;
    int flags = O_CLOEXEC | O_NOCTTY;
    flags |= options.read && writing ? O_RDWR : writing ? O_WRONLY : O_RDONLY;
    if (options.append) flags |= O_APPEND;
    if (options.create_new)
        flags |= O_CREAT | O_EXCL;
    else if (options.create)
        flags |= O_CREAT;
    if (options.truncate && !options.create_new) flags |= O_TRUNC;
    return flags;
}

const char* invalid_options(const protocol::FsOpenOptions& options) {
    bool writing = options.write || options.append;
    if (!options.read && !writing)
        return "open: must specify at least one of read, write, or append access";
    bool creating = options.create || options.create_new || options.truncate;
    if ((creating && !writing) || (options.truncate && options.append))
        return "open: creating or truncating a file requires write or append access";
    return nullptr;
}

}  // namespace

// --- responses ------------------------------------------------------------------------------------

FsResponse fs_success() {
    return {.ok = true, .error = std::nullopt, .data = std::nullopt};
}

FsResponse fs_success(protocol::FsResponseData data) {
    return {.ok = true, .error = std::nullopt, .data = std::move(data)};
}

FsResponse fs_failure(std::string error) {
    return {.ok = false, .error = std::move(error), .data = std::nullopt};
}

FsResponse fs_failure(std::string_view prefix, int err) {
    return fs_failure(std::string(prefix) + ": " + os_error_text(err));
}

// --- paths ----------------------------------------------------------------------------------------

FsResponse fs_apply(const op::RealPath& request) {
    if (has_nul(request.path)) return nul_failure("realpath");
    auto resolved = canonical(request.path);
    if (!resolved && resolved.error() == ENOENT && !request.path.empty()) {
        // A missing leaf is allowed when its parent resolves: the path of a file about to be made.
        std::size_t end = request.path.find_last_not_of('/');
        std::size_t slash = request.path.find_last_of('/', end);
        std::size_t start = slash == std::string::npos ? 0 : slash + 1;
        std::string leaf = request.path.substr(start, end - start + 1);
        auto parent = canonical(parent_path(request.path));
        if (parent && leaf != "." && leaf != "..") resolved = fs_joined(*parent, leaf);
    }
    if (!resolved) return fs_failure("realpath", resolved.error());
    return fs_success(protocol::FsPath{utf8_lossy(*resolved)});
}

FsResponse fs_apply(const op::Stat& request) {
    if (has_nul(request.path)) return nul_failure("stat");
    struct stat info;
    if (int err = stat_path(request.path, request.follow_symlink, info))
        return fs_failure("stat", err);
    return fs_success(fs_entry(request.path, info));
}

FsResponse fs_apply(const op::SetStat& request) {
    if (has_nul(request.path)) return nul_failure("setstat");
    const protocol::FsAttrs& attrs = request.attrs;
    FsResponse result = fs_success();
    if (attrs.size) result = set_size(request.path, *attrs.size);
    if (result.ok && attrs.mode)
        result = set_mode(request.path, request.follow_symlink, *attrs.mode);
    if (result.ok && (attrs.uid || attrs.gid)) result = set_owner(request);
    if (result.ok && (attrs.atime || attrs.mtime)) result = set_times(request);
    return result;
}

FsResponse fs_apply(const op::List& request) {
    if (has_nul(request.path)) return nul_failure("readdir: opendir");
    std::unique_ptr<DIR, FsOpenHandle::CloseDirectory> directory(::opendir(request.path.c_str()));
    if (!directory) return fs_failure("readdir: opendir", errno);
    bool full = false;
    auto entries = read_entries(directory.get(), request.path, SIZE_MAX, full);
    if (!entries) return fs_failure("readdir", entries.error());
    // Upstream's agent never answers here and its client hangs (spec/protocol.md section 10).
    if (full) return fs_failure("readdir: the listing is too large for one response");
    return fs_success(std::move(*entries));
}

FsResponse fs_apply(const op::ReadLink& request) {
    if (has_nul(request.path)) return nul_failure("readlink");
    char target[PATH_MAX];
    ssize_t n = ::readlink(request.path.c_str(), target, sizeof target);
    if (n < 0) return fs_failure("readlink", errno);
    return fs_success(
        protocol::FsPath{utf8_lossy(std::string_view(target, static_cast<std::size_t>(n)))});
}

FsResponse fs_apply(const op::Symlink& request) {
    if (has_nul(request.target) || has_nul(request.link_path)) return nul_failure("symlink");
    if (::symlink(request.target.c_str(), request.link_path.c_str()) != 0)
        return fs_failure("symlink", errno);
    return fs_success();
}

FsResponse fs_apply(const op::Mkdir& request) {
    if (has_nul(request.path)) return nul_failure("mkdir");
    if (int err = make_directories(request.path, 0777)) return fs_failure("mkdir", err);
    if (request.mode && ::chmod(request.path.c_str(), *request.mode & kPermissionBits) != 0)
        return fs_failure("chmod", errno);
    return fs_success();
}

FsResponse fs_apply(const op::Remove& request) {
    if (has_nul(request.path)) return nul_failure("remove");
    return ::unlink(request.path.c_str()) != 0 ? fs_failure("remove", errno) : fs_success();
}

FsResponse fs_apply(const op::RemoveDir& request) {
    if (has_nul(request.path)) return nul_failure("remove_dir");
    int err = 0;
    if (request.recursive)
        err = remove_tree(request.path);
    else if (::rmdir(request.path.c_str()) != 0)
        err = errno;
    return err != 0 ? fs_failure("remove_dir", err) : fs_success();
}

FsResponse fs_apply(const op::Copy& request) {
    if (has_nul(request.src) || has_nul(request.dst)) return nul_failure("copy");
    int err = copy_file(request.src, request.dst);
    if (err == EINVAL)
        return fs_failure(
            "copy: the source path is neither a regular file nor a symlink to a "
            "regular file");
    return err != 0 ? fs_failure("copy", err) : fs_success();
}

FsResponse fs_apply(const op::Rename& request) {
    if (has_nul(request.src) || has_nul(request.dst)) return nul_failure("rename");
    if (::rename(request.src.c_str(), request.dst.c_str()) != 0) return fs_failure("rename", errno);
    return fs_success();
}

// --- handles --------------------------------------------------------------------------------------

FsOpened fs_open(const op::OpenFile& request) {
    if (const char* text = invalid_options(request.options)) return std::unexpected(text);
    if (has_nul(request.path)) return std::unexpected(*nul_failure("open").error);
    mode_t mode = request.options.mode.value_or(kDefaultCreateMode) & kPermissionBits;
    auto handle = std::make_shared<FsOpenHandle>();
    handle->file.reset(::open(request.path.c_str(), open_flags(request.options), mode));
    if (!handle->file) return std::unexpected("open: " + os_error_text(errno));
    handle->path = request.path;
    handle->readable = request.options.read;
    handle->writable = request.options.write || request.options.append;
    handle->append = request.options.append;
    return handle;
}

FsOpened fs_open(const op::OpenDir& request) {
    if (has_nul(request.path)) return std::unexpected(*nul_failure("opendir").error);
    auto handle = std::make_shared<FsOpenHandle>();
    handle->directory.reset(::opendir(request.path.c_str()));
    if (!handle->directory) return std::unexpected("opendir: " + os_error_text(errno));
    handle->path = request.path;
    return handle;
}

FsResponse fs_apply(const op::FStat&, const FsOpenHandle& handle) {
    struct stat info;
    int err = 0;
    if (handle.directory)
        err = stat_path(handle.path, true, info);
    else if (::fstat(handle.file.get(), &info) != 0)
        err = errno;
    return err != 0 ? fs_failure("fstat", err) : fs_success(fs_entry(handle.path, info));
}

FsResponse fs_apply(const op::FSetStat& request, const FsOpenHandle& handle) {
    const protocol::FsAttrs& attrs = request.attrs;
    int fd = handle.file.get();
    if (attrs.size && *attrs.size > INT64_MAX) return fs_failure("fsetstat", EFBIG);
    if (attrs.size && ::ftruncate(fd, static_cast<off_t>(*attrs.size)) != 0)
        return fs_failure("fsetstat", errno);
    if (attrs.mode && ::fchmod(fd, *attrs.mode & kPermissionBits) != 0)
        return fs_failure("fsetstat", errno);
    if ((attrs.uid || attrs.gid) &&
        ::fchown(fd, attrs.uid.value_or(UINT32_MAX), attrs.gid.value_or(UINT32_MAX)) != 0)
        return fs_failure("fsetstat", errno);
    if (attrs.atime || attrs.mtime) {
        struct stat info;
        if (::fstat(fd, &info) != 0) return fs_failure("fsetstat", errno);
        if (::futimens(fd, new_times(attrs, info).data()) != 0)
            return fs_failure("fsetstat", errno);
    }
    return fs_success();
}

FsResponse fs_apply(const op::ReadDir& request, const FsOpenHandle& handle) {
    std::uint32_t limit = request.limit.value_or(kDefaultReadDirLimit);
    bool full = false;  // a short batch is a legal answer: the next call goes on
    auto entries = read_entries(handle.directory.get(), handle.path, limit == 0 ? 1 : limit, full);
    if (!entries) return fs_failure("readdir", entries.error());
    return fs_success(std::move(*entries));
}

int fs_seek(const FsOpenHandle& handle, std::uint64_t offset) {
    if (offset > INT64_MAX) return EINVAL;
    return ::lseek(handle.file.get(), static_cast<off_t>(offset), SEEK_SET) < 0 ? errno : 0;
}

}  // namespace msb::agentd
