#include "image/patch_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <ranges>
#include <utility>

#include "base/error.h"
#include "base/sparse_copy.h"
#include "base/text.h"
#include "image/patch.h"
#include "image/patch_path.h"

namespace msb::image {

namespace {

[[noreturn]] void os_failed(const std::string& path, int err) {
    patch_failed(path + ": " + os_error_text(err));
}

struct stat stat_of(int fd, const std::string& path) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) os_failed(path, errno);
    return st;
}

std::string link_target(int fd, const std::string& path) {
    std::array<char, PATH_MAX> buffer;
    ssize_t n = ::readlinkat(fd, "", buffer.data(), buffer.size());
    if (n < 0) os_failed(path, errno);
    return {buffer.data(), static_cast<std::size_t>(n)};
}

// One walk from the root to the last name of a path.
class Resolver {
  public:
    Resolver(int root, std::span<const std::string> components)
        : path_(joined_path(components, components.size())) {
        UniqueFd own = duplicate(root);
        levels_.push_back({std::move(own), ""});
        for (const std::string& name : components | std::views::reverse)
            pending_.push_back(name);
    }

    std::optional<PinnedRoot::Place> run(PinnedRoot::Final final, PinnedRoot::Missing missing) {
        while (!pending_.empty()) {
            std::string name = std::move(pending_.back());
            pending_.pop_back();
            if (name.empty() || name == ".") continue;
            if (name == "..") {
                if (levels_.size() > 1) levels_.pop_back();
                continue;
            }
            bool last = pending_.empty();
            if (last && final == PinnedRoot::Final::kKeep) return place(name);
            UniqueFd fd = open(name);
            if (!fd) {
                if (last) return place(name);
                if (missing == PinnedRoot::Missing::kReport) return std::nullopt;
                fd = create(name);
            }
            struct stat st = stat_of(fd.get(), path_);
            if (S_ISLNK(st.st_mode)) {
                follow(link_target(fd.get(), path_));
            } else if (last) {
                return place(name);
            } else if (S_ISDIR(st.st_mode)) {
                enter(std::move(fd), name);
            } else {
                fail_not_a_directory(here() + "/" + name, kind_name(st.st_mode));
            }
        }
        return place(".");
    }

  private:
    struct Level {
        UniqueFd fd;
        std::string name;
    };

    int top() const { return levels_.back().fd.get(); }
    std::string here() const {
        std::string path;
        for (const Level& level : levels_ | std::views::drop(1))
            path += "/" + level.name;
        return path;
    }

    PinnedRoot::Place place(std::string name) {
        return {std::move(levels_.back().fd), std::move(name)};
    }

    // An empty descriptor when there is nothing of that name.
    UniqueFd open(const std::string& name) const {
        UniqueFd fd(::openat(top(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (!fd && errno != ENOENT) os_failed(path_, errno);
        return fd;
    }

    UniqueFd create(const std::string& name) const {
        if (::mkdirat(top(), name.c_str(), 0777) != 0 && errno != EEXIST) os_failed(path_, errno);
        UniqueFd fd = open(name);
        if (!fd) os_failed(path_, ENOENT);
        return fd;
    }

    void enter(UniqueFd fd, const std::string& name) {
        if (levels_.size() > kMaxPatchDepth)
            patch_failed("patch path is too deep: '" + path_ + "'");
        levels_.push_back({std::move(fd), name});
    }

    void follow(const std::string& target) {
        if (++links_ > kMaxPatchLinks)
            patch_failed("too many symlinks while resolving patch path: '" + path_ + "'");
        if (target.starts_with('/')) levels_.resize(1);
        std::vector<std::string_view> names = split(target, '/');
        for (std::string_view name : names | std::views::reverse)
            if (!name.empty()) pending_.emplace_back(name);
    }

    std::string path_;
    std::vector<Level> levels_;         // the root first
    std::vector<std::string> pending_;  // names still to walk, the next one last
    int links_ = 0;
};

class DirectoryPatcher {
  public:
    DirectoryPatcher(const std::filesystem::path& root, bool follow_root_symlinks)
        : root_(root, follow_root_symlinks) {}

    void operator()(const WriteFilePatch& patch) {
        write_file(parse_canonical_patch_path(patch.path), patch.path, patch.mode, patch.replace,
                   [&](int fd) { write_bytes(fd, patch.content, patch.path); });
    }

    void operator()(const CopyFilePatch& patch) {
        CopySource source = open_copy_source(patch.source);
        write_file(parse_canonical_patch_path(patch.destination), patch.destination,
                   patch.mode.value_or(source.permissions), patch.replace,
                   [&](int fd) { copy_bytes(source, fd, patch.source, patch.destination); });
    }

    void operator()(const CopyDirPatch& patch) {
        std::vector<std::string> target = parse_canonical_patch_path(patch.destination);
        // A directory may forbid writing into it, so modes are set when everything is in place.
        std::optional<struct stat> made;
        walk_copy_source(patch.source, [&](const CopyEntry& entry) {
            std::vector<std::string> at = target;
            at.insert(at.end(), entry.name.begin(), entry.name.end());
            std::string path = joined_path(at, at.size());
            if (S_ISDIR(entry.mode)) {
                if (made && entry.device == made->st_dev && entry.inode == made->st_ino)
                    patch_failed("CopyDir source contains its own destination: " + patch.source);
                UniqueFd fd = copy_directory(at, path, patch.replace);
                if (!made) made = stat_of(fd.get(), path);
                directory_modes_.push_back({std::move(at), entry.mode & 07777});
            } else if (S_ISLNK(entry.mode)) {
                make_link(at, path, entry.target, patch.replace);
            } else {
                write_file(at, path, entry.mode & 07777, patch.replace, [&](int fd) {
                    copy_bytes(entry.file, fd,
                               patch.source + joined_path(entry.name, entry.name.size()), path);
                });
            }
        });
        set_directory_modes();
    }

    void operator()(const SymlinkPatch& patch) {
        make_link(parse_canonical_patch_path(patch.link), patch.link, patch.target, patch.replace);
    }

    void operator()(const MkdirPatch& patch) {
        Place place = resolved(parse_canonical_patch_path(patch.path), Final::kFollow);
        if (::mkdirat(place.parent.get(), place.name.c_str(), 0777) != 0 && errno != EEXIST)
            os_failed(patch.path, errno);
        UniqueFd fd = open_directory(place);
        if (!fd && (errno == ENOTDIR || errno == ELOOP)) fail_mkdir(patch.path, "");
        if (!fd) os_failed(patch.path, errno);
        set_mode(fd.get(), patch.mode, patch.path);
    }

    void operator()(const RemovePatch& patch) {
        std::optional<Place> place =
            root_.resolve(parse_canonical_patch_path(patch.path), Final::kKeep, Missing::kReport);
        if (place) remove_tree(*place, patch.path);
    }

    void operator()(const AppendPatch& patch) {
        std::optional<Place> place =
            root_.resolve(parse_canonical_patch_path(patch.path), Final::kFollow, Missing::kReport);
        UniqueFd pinned;
        if (place) pinned = pin(*place);
        if (!pinned)
            patch_failed("cannot append to '" + patch.path + "': file not found in rootfs");
        struct stat st = stat_of(pinned.get(), patch.path);
        if (!S_ISREG(st.st_mode))
            fail_append(patch.path, "target is not a regular file", st.st_mode);
        UniqueFd fd = reopen(pinned.get(), O_WRONLY | O_APPEND, patch.path);
        write_bytes(fd.get(), patch.content, patch.path);
    }

  private:
    using Place = PinnedRoot::Place;
    using Final = PinnedRoot::Final;
    using Missing = PinnedRoot::Missing;

    Place resolved(std::span<const std::string> components, Final final) const {
        return *root_.resolve(components, final, Missing::kCreate);
    }

    // What is at the place now, without opening it for anything.
    static UniqueFd pin(const Place& place) {
        return UniqueFd(
            ::openat(place.parent.get(), place.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    }
    static UniqueFd open_directory(const Place& place) {
        return UniqueFd(::openat(place.parent.get(), place.name.c_str(),
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    }
    // Opens the very file that was looked at. Only for regular files: opening others has effects.
    static UniqueFd reopen(int pinned, int flags, const std::string& path) {
        std::string link = "/proc/self/fd/" + std::to_string(pinned);
        UniqueFd fd(::open(link.c_str(), flags | O_CLOEXEC));
        if (!fd) os_failed(path, errno);
        return fd;
    }
    static UniqueFd create_file(const Place& place) {
        return UniqueFd(::openat(place.parent.get(), place.name.c_str(),
                                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
    }

    template <class Write>
    void write_file(const std::vector<std::string>& components, const std::string& path,
                    std::optional<std::uint32_t> mode, bool replace, Write write) const {
        UniqueFd fd = replace ? replaced_file(components, path) : new_file(components, path);
        // Before, so that nobody reads what the mode forbids; after, because writing clears set-user-ID.
        set_mode(fd.get(), mode, path);
        write(fd.get());
        set_mode(fd.get(), mode, path);
    }

    UniqueFd new_file(const std::vector<std::string>& components, const std::string& path) const {
        UniqueFd fd = create_file(resolved(components, Final::kKeep));
        if (!fd && errno == EEXIST) fail_exists(path);
        if (!fd) os_failed(path, errno);
        return fd;
    }

    UniqueFd replaced_file(const std::vector<std::string>& components,
                           const std::string& path) const {
        Place place = resolved(components, Final::kFollow);
        UniqueFd pinned = pin(place);
        if (!pinned && errno != ENOENT) os_failed(path, errno);
        if (pinned) {
            struct stat st = stat_of(pinned.get(), path);
            if (S_ISDIR(st.st_mode)) fail_entry_exists(components.back());
            if (S_ISREG(st.st_mode)) {
                UniqueFd fd = reopen(pinned.get(), O_WRONLY, path);
                if (::ftruncate(fd.get(), 0) != 0) os_failed(path, errno);
                return fd;
            }
            // A device, fifo or socket goes; writing into one would reach what is behind it.
            if (::unlinkat(place.parent.get(), place.name.c_str(), 0) != 0) os_failed(path, errno);
        }
        UniqueFd fd = create_file(place);
        if (!fd) os_failed(path, errno);
        return fd;
    }

    void make_link(const std::vector<std::string>& components, const std::string& path,
                   const std::string& target, bool replace) const {
        check_symlink_target(target);
        Place place = resolved(components, Final::kKeep);
        int parent = place.parent.get();
        const char* name = place.name.c_str();
        if (::symlinkat(target.c_str(), parent, name) == 0) return;
        if (errno != EEXIST) os_failed(path, errno);
        if (!replace) fail_exists(path);
        if (::unlinkat(parent, name, 0) != 0) {
            if (errno == EISDIR) fail_entry_exists(place.name);
            os_failed(path, errno);
        }
        if (::symlinkat(target.c_str(), parent, name) != 0) os_failed(path, errno);
    }

    // With `replace` a directory that is there is copied into.
    UniqueFd copy_directory(const std::vector<std::string>& components, const std::string& path,
                            bool replace) const {
        Place place = resolved(components, replace ? Final::kFollow : Final::kKeep);
        if (::mkdirat(place.parent.get(), place.name.c_str(), 0700) != 0) {
            if (errno != EEXIST) os_failed(path, errno);
            if (!replace) fail_exists(path);
        }
        UniqueFd fd = open_directory(place);
        if (!fd && (errno == ENOTDIR || errno == ELOOP)) fail_entry_exists(components.back());
        if (!fd) os_failed(path, errno);
        return fd;
    }

    void set_directory_modes() {
        for (const auto& [components, mode] : directory_modes_ | std::views::reverse) {
            std::string path = joined_path(components, components.size());
            UniqueFd fd = open_directory(resolved(components, Final::kFollow));
            if (!fd) os_failed(path, errno);
            set_mode(fd.get(), mode, path);
        }
        directory_modes_.clear();
    }

    static void set_mode(int fd, std::optional<std::uint32_t> mode, const std::string& path) {
        if (mode && ::fchmod(fd, *mode & 07777) != 0) os_failed(path, errno);
    }

    static void write_bytes(int fd, std::string_view bytes, const std::string& path) {
        if (int err = write_all(fd, bytes)) os_failed(path, err);
    }

    static void copy_bytes(const CopySource& source, int fd, const std::string& from,
                           const std::string& to) {
        if (int err = sparse_copy_file(source.fd.get(), fd)) os_failed(from + " to " + to, err);
    }

    PinnedRoot root_;
    std::vector<std::pair<std::vector<std::string>, std::uint32_t>> directory_modes_;
};

// Checks what can be checked before anything is changed.
struct PatchChecker {
    void operator()(const WriteFilePatch& patch) const { parse_canonical_patch_path(patch.path); }
    void operator()(const CopyFilePatch& patch) const {
        parse_canonical_patch_path(patch.destination);
    }
    void operator()(const CopyDirPatch& patch) const {
        parse_canonical_patch_path(patch.destination);
    }
    void operator()(const SymlinkPatch& patch) const {
        parse_canonical_patch_path(patch.link);
        check_symlink_target(patch.target);
    }
    void operator()(const MkdirPatch& patch) const { parse_canonical_patch_path(patch.path); }
    void operator()(const RemovePatch& patch) const { parse_canonical_patch_path(patch.path); }
    void operator()(const AppendPatch& patch) const { parse_canonical_patch_path(patch.path); }
};

// Empties a directory tree with one descriptor at a time, however deep it is. Going up is by "..", which must lead to
// where the way down came from.
class TreeRemover {
  public:
    TreeRemover(UniqueFd top, const std::string& path) : path_(path) {
        descend(std::move(top), "");
    }

    void run() {
        for (;;) {
            if (std::optional<std::string> sub = unlink_files()) {
                UniqueFd fd(::openat(fd_.get(), sub->c_str(),
                                     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
                if (!fd) os_failed(path_, errno);
                descend(std::move(fd), *sub);
            } else if (levels_.size() == 1) {
                return;
            } else {
                ascend();
            }
        }
    }

  private:
    struct Level {
        std::string name;
        dev_t device;
        ino_t inode;
    };
    struct CloseDirectory {
        void operator()(DIR* directory) const { ::closedir(directory); }
    };

    void descend(UniqueFd fd, const std::string& name) {
        struct stat st = stat_of(fd.get(), path_);
        levels_.push_back({name, st.st_dev, st.st_ino});
        fd_ = std::move(fd);
    }

    void ascend() {
        UniqueFd up(::openat(fd_.get(), "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (!up) os_failed(path_, errno);
        std::string name = std::move(levels_.back().name);
        levels_.pop_back();
        struct stat st = stat_of(up.get(), path_);
        if (st.st_dev != levels_.back().device || st.st_ino != levels_.back().inode)
            patch_failed("'" + path_ + "' changed while it was removed");
        if (::unlinkat(up.get(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
            os_failed(path_, errno);
        fd_ = std::move(up);
    }

    // Unlinks what is no directory, up to the first directory, whose name is returned.
    std::optional<std::string> unlink_files() const {
        UniqueFd own(::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!own) os_failed(path_, errno);
        std::unique_ptr<DIR, CloseDirectory> stream(::fdopendir(own.get()));
        if (!stream) os_failed(path_, errno);
        (void)own.release();
        for (;;) {
            errno = 0;
            const dirent* entry = ::readdir(stream.get());
            if (entry == nullptr && errno != 0) os_failed(path_, errno);
            if (entry == nullptr) return std::nullopt;
            std::string name = entry->d_name;
            if (name == "." || name == "..") continue;
            if (::unlinkat(fd_.get(), name.c_str(), 0) == 0 || errno == ENOENT) continue;
            if (errno == EISDIR) return name;
            os_failed(path_, errno);
        }
    }

    const std::string& path_;
    UniqueFd fd_;
    std::vector<Level> levels_;
};

UniqueFd open_unlinked(const std::filesystem::path& path) {
    std::filesystem::path so_far = "/";
    UniqueFd fd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (const std::filesystem::path& name : std::filesystem::absolute(path).relative_path()) {
        if (name.empty() || name == ".") continue;
        so_far /= name;
        UniqueFd next(::openat(fd.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (!next) os_failed(path.string(), errno);
        struct stat st = stat_of(next.get(), path.string());
        if (S_ISLNK(st.st_mode))
            patch_failed("bind root " + path.string() +
                         " contains a linked component: " + so_far.string() +
                         "; set follow_root_symlinks to allow linked root components");
        fd = std::move(next);
    }
    return fd;
}

}  // namespace

PinnedRoot::PinnedRoot(const std::filesystem::path& path, bool follow_links) {
    if (follow_links)
        root_.reset(::open(path.c_str(), O_PATH | O_CLOEXEC));
    else
        root_ = open_unlinked(path);
    if (!root_) os_failed(path.string(), errno);
    if (!S_ISDIR(stat_of(root_.get(), path.string()).st_mode)) os_failed(path.string(), ENOTDIR);
}

std::optional<PinnedRoot::Place> PinnedRoot::resolve(std::span<const std::string> components,
                                                     Final final, Missing missing) const {
    return Resolver(root_.get(), components).run(final, missing);
}

void remove_tree(const PinnedRoot::Place& place, const std::string& path) {
    int parent = place.parent.get();
    const char* name = place.name.c_str();
    if (::unlinkat(parent, name, 0) == 0 || errno == ENOENT) return;
    if (errno != EISDIR) os_failed(path, errno);
    UniqueFd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) os_failed(path, errno);
    TreeRemover(std::move(fd), path).run();
    if (::unlinkat(parent, name, AT_REMOVEDIR) != 0) os_failed(path, errno);
}

void patch_directory(const std::filesystem::path& root, bool follow_root_symlinks,
                     std::span<const Patch> patches) {
    for (const Patch& patch : patches)
        std::visit(PatchChecker{}, patch);
    DirectoryPatcher patcher(root, follow_root_symlinks);
    for (const Patch& patch : patches)
        std::visit(patcher, patch);
}

}  // namespace msb::image
