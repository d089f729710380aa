// Patches of an OCI root: they become the content of the overlay's upper directory.
//
// Two trees are looked at. The upper tree is made here; what the image holds is looked up below it, and always as the image
// has it: a Remove puts a whiteout into the upper tree, and a whiteout hides nothing from later patches (spec/images.md
// section 14).
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/error.h"
#include "image/ext4_format.h"
#include "image/lower_layers.h"
#include "image/patch.h"
#include "image/patch_path.h"

namespace msb::image {

namespace {

constexpr std::uint32_t kFileMode = 0644;
constexpr std::uint32_t kDirectoryMode = 0755;
constexpr std::uint32_t kLinkMode = 0777;
constexpr std::uint32_t kWhiteoutMode = 0644;
constexpr std::size_t kCopyBuffer = 64 * 1024;

// The bytes of all files, one after the other, in a file without a name.
class Spool {
  public:
    explicit Spool(std::filesystem::path directory) : directory_(std::move(directory)) {}

    DataPiece append(std::span<const std::byte> bytes, std::uint64_t logical_offset) {
        DataPiece piece{logical_offset, end_, bytes.size()};
        write(bytes);
        return piece;
    }

    // A host file: pieces for its data, none for its holes. Its size is what it was when it was opened.
    std::vector<DataPiece> append(const CopySource& source, const std::string& name) {
        std::vector<DataPiece> pieces;
        auto end = static_cast<off_t>(source.size);
        for (off_t at = 0; at < end;) {
            off_t data = ::lseek(source.fd.get(), at, SEEK_DATA);
            if (data < 0 && errno == ENXIO) break;
            off_t hole = data < 0 ? -1 : ::lseek(source.fd.get(), data, SEEK_HOLE);
            if (hole < 0) patch_failed(name + ": " + os_error_text(errno));
            at = std::min(hole, end);
            if (data < at) pieces.push_back(copy_range(source, data, at, name));
        }
        return pieces;
    }

    UniqueFd take() { return std::move(fd_); }

  private:
    DataPiece copy_range(const CopySource& source, off_t from, off_t to, const std::string& name) {
        DataPiece piece{static_cast<std::uint64_t>(from), end_, 0};
        std::array<std::byte, kCopyBuffer> buffer;
        while (from < to) {
            auto wanted = static_cast<std::size_t>(
                std::min<off_t>(to - from, static_cast<off_t>(buffer.size())));
            ssize_t n = ::pread(source.fd.get(), buffer.data(), wanted, from);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) patch_failed(name + ": " + os_error_text(errno));
            if (n == 0) break;  // cut short meanwhile: the rest is zero
            write(std::span(buffer).first(static_cast<std::size_t>(n)));
            from += n;
        }
        piece.length = end_ - piece.source_offset;
        return piece;
    }

    void write(std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        if (!fd_) open();
        if (int err = pwrite_all(fd_.get(), bytes, end_)) failed(err);
        end_ += bytes.size();
    }

    void open() {
        fd_ = make_unnamed_file(directory_);
        if (!fd_) failed(errno);
    }

    [[noreturn]] void failed(int err) const {
        patch_failed(directory_.string() + ": " + os_error_text(err));
    }

    std::filesystem::path directory_;
    UniqueFd fd_;
    std::uint64_t end_ = 0;
};

class UpperPatcher {
  public:
    UpperPatcher(std::span<const std::filesystem::path> layers,
                 const std::filesystem::path& scratch)
        : tree_(upper_skeleton()),
          upper_(*tree_.lookup(FileTree::kRoot, "upper")),
          lower_(layers),
          spool_(scratch) {}

    UpperContent finish() { return {std::move(tree_), spool_.take()}; }

    void operator()(const WriteFilePatch& patch) {
        Place place = resolve(patch.path);
        check_free(place, patch.path, patch.replace);
        Inode file = new_file(permissions(patch.mode, kFileMode));
        add_bytes(file, std::as_bytes(std::span(patch.content)));
        insert(place, std::move(file));
    }

    void operator()(const CopyFilePatch& patch) {
        Place place = resolve(patch.destination);
        check_free(place, patch.destination, patch.replace);
        CopySource source = open_copy_source(patch.source);
        Inode file = new_file(permissions(patch.mode.value_or(source.permissions), kFileMode));
        add_file(file, source, patch.source);
        insert(place, std::move(file));
    }

    void operator()(const CopyDirPatch& patch) {
        Place place = resolve(patch.destination);
        check_free(place, patch.destination, patch.replace);
        walk_copy_source(patch.source, [&](const CopyEntry& entry) {
            std::vector<std::string> path = place.components;
            path.insert(path.end(), entry.name.begin(), entry.name.end());
            if (path.size() > kMaxPatchDepth)
                patch_failed("patch path is too deep: '" + joined_path(path, path.size()) + "'");
            Place at{std::move(path)};
            copy_entry(at, entry, patch.source);
        });
    }

    void operator()(const SymlinkPatch& patch) {
        Place place = resolve(patch.link);
        check_symlink_target(patch.target);
        check_free(place, patch.link, patch.replace);
        insert(place, new_link(patch.target));
    }

    void operator()(const MkdirPatch& patch) {
        Place place = resolve(patch.path);
        if (const InodeId* there = upper_node(place)) {
            if (tree_[*there].is_directory()) return;
            fail_mkdir(patch.path, "");
        }
        std::optional<LowerLayers::Node> below = lower_.lookup(place.components);
        if (below && !below->node.inode.is_directory())
            fail_mkdir(patch.path, kind_name(below->node.inode.mode));
        // The image's own directory stays as it is, unless a Remove hid it.
        if (below && !hidden(place)) return;
        insert(place, new_directory(permissions(patch.mode, kDirectoryMode)));
    }

    void operator()(const RemovePatch& patch) {
        Place place = resolve(patch.path);
        if (hidden(place)) return;  // removed before, or something above it was
        bool in_image = lower_.lookup(place.components).has_value();
        if (!in_image) {
            if (const InodeId* parent = find_parent(place)) tree_.unlink(*parent, place.name());
            return;
        }
        Inode whiteout;
        whiteout.mode = S_IFCHR | kWhiteoutMode;
        InodeId parent = make_parents(place);
        tree_.unlink(parent, place.name());
        link(parent, place.name(), std::move(whiteout));
    }

    void operator()(const AppendPatch& patch) {
        Place place = resolve(patch.path);
        std::span<const std::byte> bytes = std::as_bytes(std::span(patch.content));
        if (const InodeId* there = upper_node(place)) {
            Inode& file = tree_[*there];
            if (!file.is_regular())
                fail_append(patch.path, "target is not a regular file", file.mode);
            add_bytes(file, bytes);
            return;
        }
        std::optional<LowerLayers::Node> below = lower_.lookup(place.components);
        if (!below) patch_failed("cannot append to '" + patch.path + "': file not found in rootfs");
        if (!below->node.inode.is_regular())
            fail_append(patch.path, "target in lower layer is not a regular file",
                        below->node.inode.mode);
        Inode file = new_file(kFileMode);
        add_bytes(file, below->layer->file_data(below->node));
        add_bytes(file, bytes);
        insert(place, std::move(file));
    }

  private:
    struct Place {
        std::vector<std::string> components;
        const std::string& name() const { return components.back(); }
    };

    // Checks the path and that its parents are directories where they exist.
    Place resolve(const std::string& path) {
        Place place{parse_patch_path(path)};
        InodeId at = upper_;
        bool in_upper = true;
        for (std::size_t i = 0; i + 1 < place.components.size(); ++i) {
            const InodeId* next = in_upper ? tree_.lookup(at, place.components[i]) : nullptr;
            if (next != nullptr && !tree_[*next].is_whiteout()) {
                if (!tree_[*next].is_directory())
                    fail_not_a_directory(joined_path(place.components, i + 1), "");
                at = *next;
                continue;
            }
            in_upper = false;
            check_lower_parent(place, i + 1);
        }
        return place;
    }

    void check_lower_parent(const Place& place, std::size_t count) {
        std::optional<LowerLayers::Node> below =
            lower_.lookup(std::span(place.components).first(count));
        if (below && !below->node.inode.is_directory())
            fail_not_a_directory(joined_path(place.components, count),
                                 kind_name(below->node.inode.mode));
    }

    // The directory of the upper tree a path is in, if it is there.
    const InodeId* find_parent(const Place& place) const {
        const InodeId* at = &upper_;
        for (std::size_t i = 0; i + 1 < place.components.size() && at != nullptr; ++i) {
            at = tree_.lookup(*at, place.components[i]);
            if (at != nullptr && !tree_[*at].is_directory()) at = nullptr;
        }
        return at;
    }

    const InodeId* entry(const Place& place) const {
        const InodeId* parent = find_parent(place);
        return parent == nullptr ? nullptr : tree_.lookup(*parent, place.name());
    }
    // What a patch put there; a whiteout is nothing.
    const InodeId* upper_node(const Place& place) const {
        const InodeId* there = entry(place);
        return there != nullptr && !tree_[*there].is_whiteout() ? there : nullptr;
    }
    // Whether a Remove put a whiteout on the path or on one of its parents.
    bool hidden(const Place& place) const {
        InodeId at = upper_;
        for (const std::string& name : place.components) {
            const InodeId* next = tree_.lookup(at, name);
            if (next == nullptr) return false;
            if (tree_[*next].is_whiteout()) return true;
            at = *next;
        }
        return false;
    }

    void check_free(const Place& place, const std::string& path, bool replace) {
        if (replace) return;
        if (upper_node(place) != nullptr) fail_exists(path);
        if (lower_.lookup(place.components))
            patch_failed("path exists in image layer: '" + path + "' (set replace to allow)");
    }

    InodeId make_parents(const Place& place) {
        InodeId at = upper_;
        for (std::size_t i = 0; i + 1 < place.components.size(); ++i) {
            const std::string& name = place.components[i];
            const InodeId* next = tree_.lookup(at, name);
            if (next != nullptr && tree_[*next].is_whiteout()) {
                tree_.unlink(at, name);
                next = nullptr;
            }
            at = next != nullptr ? *next : link(at, name, new_directory(kDirectoryMode));
        }
        return at;
    }

    // Puts the inode at the place, over what is there: a directory over a directory keeps the children, and nothing else
    // may go over a directory.
    void insert(const Place& place, Inode inode) {
        InodeId parent = make_parents(place);
        if (const InodeId* there = tree_.lookup(parent, place.name())) {
            Inode& old = tree_[*there];
            if (old.is_directory() && inode.is_directory()) {
                old.mode = inode.mode;
                return;
            }
            if (old.is_directory()) fail_entry_exists(place.name());
            tree_.unlink(parent, place.name());
        }
        link(parent, place.name(), std::move(inode));
    }

    InodeId link(InodeId parent, const std::string& name, Inode inode) {
        InodeId id = tree_.create(std::move(inode));
        tree_.link(parent, name, id);
        return id;
    }

    void copy_entry(const Place& at, const CopyEntry& entry, const std::string& source) {
        if (S_ISDIR(entry.mode)) {
            insert(at, new_directory(permissions(entry.mode & 07777, kDirectoryMode)));
        } else if (S_ISLNK(entry.mode)) {
            check_symlink_target(entry.target);
            insert(at, new_link(entry.target));
        } else {
            Inode file = new_file(permissions(entry.mode & 07777, kFileMode));
            add_file(file, entry.file, source + joined_path(entry.name, entry.name.size()));
            insert(at, std::move(file));
        }
    }

    void add_bytes(Inode& file, std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        file.data.push_back(spool_.append(bytes, file.size));
        file.size += bytes.size();
    }
    void add_file(Inode& file, const CopySource& source, const std::string& name) {
        file.data = spool_.append(source, name);
        file.size = source.size;
    }

    static std::uint32_t permissions(std::optional<std::uint32_t> wanted, std::uint32_t fallback) {
        std::uint32_t bits = wanted.value_or(0) & 07777;
        return bits != 0 ? bits : fallback;
    }
    static Inode new_file(std::uint32_t mode) {
        Inode inode;
        inode.mode = S_IFREG | mode;
        return inode;
    }
    static Inode new_directory(std::uint32_t mode) {
        Inode inode;
        inode.mode = S_IFDIR | mode;
        return inode;
    }
    static Inode new_link(const std::string& target) {
        Inode inode;
        inode.mode = S_IFLNK | kLinkMode;
        inode.target = target;
        return inode;
    }

    FileTree tree_;
    InodeId upper_;
    LowerLayers lower_;
    Spool spool_;
};

}  // namespace

UpperContent patch_upper(std::span<const Patch> patches,
                         std::span<const std::filesystem::path> layers,
                         const std::filesystem::path& scratch) {
    UpperPatcher patcher(layers, scratch);
    for (const Patch& patch : patches) {
        try {
            std::visit(patcher, patch);
        } catch (const Error& e) {
            // A layer that cannot be read fails the patch that needed it.
            if (e.code() == ErrorCode::kPatchFailed) throw;
            patch_failed(e.detail());
        }
    }
    return patcher.finish();
}

}  // namespace msb::image
