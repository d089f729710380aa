#include "image/patch_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace msb::image {

namespace {

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

[[noreturn]] void source_failed(const std::string& path, int err) {
    patch_failed(path + ": " + os_error_text(err));
}

void check_common(const std::string& path) {
    if (!path.starts_with('/')) patch_failed("patch path must be absolute: '" + path + "'");
    if (path.find('\0') != std::string::npos)
        patch_failed("patch path must not contain a NUL byte: '" + path + "'");
    if (path.size() > kMaxPatchPath) patch_failed("patch path is too long: '" + path + "'");
}

void check_components(const std::string& path, const std::vector<std::string>& components) {
    if (components.empty()) patch_failed("patch path must not be '/'");
    if (components.size() > kMaxPatchDepth) patch_failed("patch path is too deep: '" + path + "'");
    for (const std::string& name : components) {
        if (name.size() > kMaxPatchName)
            patch_failed("patch path has a name of more than 255 bytes: '" + path + "'");
    }
}

CopySource opened_source(UniqueFd fd, const std::string& path) {
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) source_failed(path, errno);
    if (!S_ISREG(st.st_mode)) patch_failed("patch source is not a regular file: " + path);
    return {std::move(fd), st.st_mode & 07777, static_cast<std::uint64_t>(st.st_size)};
}

std::string read_link(int directory, const char* name, const std::string& path) {
    std::array<char, PATH_MAX> buffer;
    ssize_t n = ::readlinkat(directory, name, buffer.data(), buffer.size());
    if (n < 0) source_failed(path, errno);
    return {buffer.data(), static_cast<std::size_t>(n)};
}

std::vector<std::string> names_in(int directory, const std::string& path) {
    UniqueFd own(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!own) source_failed(path, errno);
    Directory stream(::fdopendir(own.get()));
    if (!stream) source_failed(path, errno);
    (void)own.release();
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream.get())) {
        std::string_view name = entry->d_name;
        if (name != "." && name != "..") names.emplace_back(name);
        errno = 0;
    }
    if (errno != 0) source_failed(path, errno);
    std::ranges::sort(names);
    return names;
}

// One host directory tree, depth first. Levels hold a descriptor each, so nothing that is renamed meanwhile leads out.
class SourceWalk {
  public:
    SourceWalk(const std::string& path, const std::function<void(const CopyEntry&)>& visit)
        : root_(path), visit_(visit) {}

    void run() {
        UniqueFd root(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!root && errno == ENOTDIR) patch_failed("patch source is not a directory: " + root_);
        if (!root) source_failed(root_, errno);
        enter(std::move(root));
        while (!levels_.empty()) {
            Level& level = levels_.back();
            if (level.next == level.names.size()) {
                levels_.pop_back();
                if (!name_.empty()) name_.pop_back();
                continue;
            }
            visit_child(level.fd.get(), level.names[level.next++]);
        }
    }

  private:
    struct Level {
        UniqueFd fd;
        std::vector<std::string> names;
        std::size_t next = 0;
    };

    std::string here() const {
        return name_.empty() ? root_ : root_ + joined_path(name_, name_.size());
    }

    void enter(UniqueFd fd) {
        if (levels_.size() == kMaxPatchDepth / 4)
            patch_failed("CopyDir source is too deep: '" + here() + "'");
        struct stat st{};
        if (::fstat(fd.get(), &st) != 0) source_failed(here(), errno);
        visit_({.name = name_,
                .mode = st.st_mode,
                .device = st.st_dev,
                .inode = st.st_ino,
                .target = {},
                .file = {}});
        std::vector<std::string> names = names_in(fd.get(), here());
        levels_.push_back({std::move(fd), std::move(names)});
    }

    void visit_child(int directory, const std::string& name) {
        if (++entries_ > kMaxCopiedEntries)
            patch_failed("CopyDir source has more than " + std::to_string(kMaxCopiedEntries) +
                         " entries: " + root_);
        name_.push_back(name);
        struct stat st{};
        if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
            source_failed(here(), errno);
        if (S_ISDIR(st.st_mode)) {
            UniqueFd fd(
                ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!fd) source_failed(here(), errno);
            enter(std::move(fd));
            return;  // the level takes its name away again
        }
        CopyEntry entry{.name = name_, .mode = st.st_mode, .target = {}, .file = {}};
        if (S_ISLNK(st.st_mode)) {
            entry.target = read_link(directory, name.c_str(), here());
        } else if (S_ISREG(st.st_mode)) {
            UniqueFd fd(
                ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
            if (!fd) source_failed(here(), errno);
            entry.file = opened_source(std::move(fd), here());
        } else {
            patch_failed("CopyDir source contains an unsupported file type: '" + here() + "'");
        }
        visit_(entry);
        name_.pop_back();
    }

    std::string root_;
    const std::function<void(const CopyEntry&)>& visit_;
    std::vector<Level> levels_;
    std::vector<std::string> name_;  // of the entry in hand, relative to the root
    std::uint64_t entries_ = 0;
};

}  // namespace

void patch_failed(const std::string& what) {
    throw Error(ErrorCode::kPatchFailed, what);
}

std::vector<std::string> parse_patch_path(const std::string& path) {
    check_common(path);
    std::vector<std::string> components;
    for (std::string_view name : split(path, '/')) {
        if (name.empty() || name == ".") continue;
        if (name == "..") patch_failed("patch path escapes rootfs: '" + path + "'");
        components.emplace_back(name);
    }
    check_components(path, components);
    return components;
}

std::vector<std::string> parse_canonical_patch_path(const std::string& path) {
    check_common(path);
    if (path == "/") patch_failed("patch path must not be '/'");
    if (path.ends_with('/'))
        patch_failed("patch path must not have a trailing slash: '" + path + "'");
    std::vector<std::string> components;
    for (std::string_view name : split(std::string_view(path).substr(1), '/')) {
        if (name == "..") patch_failed("patch path must not contain '..': '" + path + "'");
        if (name.empty() || name == ".")
            patch_failed("patch path must be canonical: '" + path + "'");
        components.emplace_back(name);
    }
    check_components(path, components);
    return components;
}

std::string joined_path(std::span<const std::string> components, std::size_t count) {
    std::string path;
    for (const std::string& name : components.first(count))
        path += "/" + name;
    return path;
}

void check_symlink_target(const std::string& target) {
    if (target.empty() || target.find('\0') != std::string::npos)
        patch_failed("symlink patch target must be non-empty and contain no null bytes");
    if (target.size() >= kMaxPatchPath) patch_failed("symlink patch target is too long");
}

std::string_view kind_name(std::uint32_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return "regular file";
        case S_IFDIR:
            return "directory";
        case S_IFLNK:
            return "symlink";
        case S_IFCHR:
            return "character device";
        case S_IFBLK:
            return "block device";
        case S_IFIFO:
            return "fifo";
        case S_IFSOCK:
            return "socket";
        default:
            return "unknown";
    }
}

void fail_exists(const std::string& path) {
    patch_failed("path already exists in rootfs: '" + path + "' (set replace to allow)");
}

void fail_not_a_directory(const std::string& parent, std::string_view kind) {
    std::string suffix = kind.empty() ? "" : " (" + std::string(kind) + ")";
    patch_failed("patch path parent is not a directory: '" + parent + "'" + suffix);
}

void fail_entry_exists(std::string_view name) {
    patch_failed("entry already exists: " + quoted(name));
}

void fail_mkdir(const std::string& path, std::string_view kind) {
    std::string suffix = kind.empty() ? "" : " (" + std::string(kind) + ")";
    patch_failed("cannot create directory at '" + path + "': path exists and is not a directory" +
                 suffix);
}

void fail_append(const std::string& path, std::string_view why, std::uint32_t mode) {
    patch_failed("cannot append to '" + path + "': " + std::string(why) + " (" +
                 std::string(kind_name(mode)) + ")");
}

CopySource open_copy_source(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!fd && errno == ENXIO) patch_failed("patch source is not a regular file: " + path);
    if (!fd) source_failed(path, errno);
    return opened_source(std::move(fd), path);
}

void walk_copy_source(const std::string& path, const std::function<void(const CopyEntry&)>& visit) {
    SourceWalk(path, visit).run();
}

}  // namespace msb::image
