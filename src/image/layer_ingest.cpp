#include "image/layer_ingest.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "image/tar_reader.h"

namespace msb::image {

namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
constexpr std::size_t kSpoolBuffer = 256 * 1024;
constexpr std::size_t kSpoolAlignment = 4096;  // an EROFS block
constexpr char kSocketType = 0x60;  // our and upstream's own type byte: tar has none for sockets

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kImage, what);
}
[[noreturn]] void fail_at(const char* what, std::string_view path) {
    fail(std::string(what) + ": " + quoted(path));
}

// The components of a member's path: leading "./", surrounding slashes, empty and "." components mean nothing.
std::vector<std::string_view> components(std::string_view path) {
    if (path.size() > kMaxPathLength) fail_at("path too long", path);
    std::vector<std::string_view> parts;
    for (std::string_view part : split(path, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") fail_at("path traversal in tar", path);
        if (part.size() > kMaxNameLength) fail_at("path too long", path);
        if (part.find('\0') != std::string_view::npos)
            fail_at("invalid tar entry: NUL in path", path);
        parts.push_back(part);
        if (parts.size() > kMaxPathDepth) fail_at("path too deep", path);
    }
    return parts;
}

// Attributes a layer may carry into the guest. overlayfs's own are the marker's business, and other name spaces have
// no place in an EROFS image that upstream reads too.
bool keeps_xattr(const Xattr& xattr) {
    if (xattr.name.size() > 255 || xattr.value.size() > 65535) return false;
    if (xattr.name.starts_with("trusted.overlay.")) return false;
    return xattr.name.starts_with("user.") || xattr.name.starts_with("security.") ||
           xattr.name.starts_with("trusted.");
}

class Ingest {
  public:
    Ingest(ByteSource& tar, int spool) : reader_(tar), spool_(spool) {}

    FileTree run() {
        while (auto entry = reader_.next()) {
            if (++entries_ > kMaxLayerEntries) fail("entry count exceeded");
            add(*entry);
        }
        flush_spool();
        return std::move(tree_);
    }

  private:
    void add(const TarEntry& entry) {
        std::vector<std::string_view> path = components(entry.path);
        if (path.empty()) return;  // the root entry: an image's root is always 0755 0:0
        std::string_view name = path.back();
        path.pop_back();
        bool file_like = is_file(entry.type) || entry.type == '2';
        if (file_like && name == kOpaqueMarker) {
            set_xattr(tree_[directory(path, entry.path)], kOpaqueXattr, "y");
            return;
        }
        if (file_like && name.starts_with(kWhiteoutPrefix) &&
            name.size() > kWhiteoutPrefix.size()) {
            Inode whiteout = metadata(entry, S_IFCHR);
            place(path, name.substr(kWhiteoutPrefix.size()), std::move(whiteout), entry.path);
            return;
        }
        add_node(entry, path, name);
    }

    static bool is_file(char type) {
        return type == '0' || type == '\0' || type == '7' || type == 'S';
    }

    void add_node(const TarEntry& entry, const std::vector<std::string_view>& path,
                  std::string_view name) {
        switch (entry.type) {
            case '1':
                add_hard_link(entry, path, name);
                return;
            case '2':
                add_symlink(entry, path, name);
                return;
            case '3':
            case '4': {
                Inode node = metadata(entry, entry.type == '3' ? S_IFCHR : S_IFBLK);
                node.device_major = entry.device_major;
                node.device_minor = entry.device_minor;
                place(path, name, std::move(node), entry.path);
                return;
            }
            case '5':
                add_directory(entry, path, name);
                return;
            case '6':
                place(path, name, metadata(entry, S_IFIFO), entry.path);
                return;
            case kSocketType:
                place(path, name, metadata(entry, S_IFSOCK), entry.path);
                return;
            default:
                if (is_file(entry.type)) add_file(entry, path, name);
                // Other types (volume labels, multi-volume parts, ...) describe no file.
        }
    }

    static Inode metadata(const TarEntry& entry, std::uint32_t type) {
        Inode inode;
        inode.mode = type | entry.mode;
        inode.uid = entry.uid;
        inode.gid = entry.gid;
        inode.mtime = entry.mtime;
        for (const Xattr& xattr : entry.xattrs) {
            if (keeps_xattr(xattr)) set_xattr(inode, xattr.name, xattr.value);
        }
        return inode;
    }

    void add_file(const TarEntry& entry, const std::vector<std::string_view>& path,
                  std::string_view name) {
        if (entry.size > kMaxFileBytes) fail_at("file too large", entry.path);
        total_bytes_ += entry.size;
        if (total_bytes_ > kMaxLayerBytes) fail("total extracted size exceeded");
        Inode file = metadata(entry, S_IFREG);
        file.size = entry.size;
        store_data(entry, file);
        place(path, name, std::move(file), entry.path);
    }

    // Appends the member's stored bytes to the spool, each segment at a place of its own.
    void store_data(const TarEntry& entry, Inode& file) {
        if (!entry.sparse) {
            if (entry.size > 0) file.data.push_back({0, spool_end_, entry.size});
        } else {
            std::uint64_t at = spool_end_;
            for (const TarEntry::Segment& segment : entry.segments) {
                if (segment.length == 0) continue;
                file.data.push_back({segment.offset, at, segment.length});
                at += segment.length;
            }
        }
        // Straight into the write buffer: files are many and mostly small, system calls and copies are what they cost.
        for (;;) {
            if (buffered_ == buffer_.size()) flush_spool();
            std::size_t n = reader_.read_data(std::span(buffer_).subspan(buffered_));
            if (n == 0) break;
            buffered_ += n;
            spool_end_ += n;
        }
        align_spool();
    }

    // Files start on block boundaries with zeros between them, as in the image: neighbours are copied there together.
    void align_spool() {
        std::size_t padding = (kSpoolAlignment - spool_end_ % kSpoolAlignment) % kSpoolAlignment;
        if (padding > buffer_.size() - buffered_) flush_spool();
        std::fill_n(buffer_.begin() + static_cast<std::ptrdiff_t>(buffered_), padding,
                    std::byte{0});
        buffered_ += padding;
        spool_end_ += padding;
    }

    void flush_spool() {
        int err = pwrite_all(spool_, std::span(buffer_).first(buffered_), spool_end_ - buffered_);
        if (err != 0) fail("I/O error: write to the layer spool: " + os_error_text(err));
        buffered_ = 0;
    }

    void add_symlink(const TarEntry& entry, const std::vector<std::string_view>& path,
                     std::string_view name) {
        if (entry.link_target.empty()) fail("invalid tar entry: symlink with no target");
        if (entry.link_target.size() > kMaxSymlinkTarget)
            fail_at("symlink target too long", entry.path);
        if (entry.link_target.contains('\0'))
            fail_at("invalid tar entry: NUL in symlink target", entry.path);
        Inode link = metadata(entry, S_IFLNK);
        link.target = entry.link_target;
        place(path, name, std::move(link), entry.path);
    }

    void add_directory(const TarEntry& entry, const std::vector<std::string_view>& path,
                       std::string_view name) {
        InodeId parent = directory(path, entry.path);
        const InodeId* existing = tree_.lookup(parent, name);
        Inode made = metadata(entry, S_IFDIR);
        if (existing != nullptr && tree_[*existing].is_directory()) {
            Inode& directory = tree_[*existing];
            made.children = std::move(directory.children);
            made.links = directory.links;
            directory = std::move(made);
            return;
        }
        if (existing != nullptr) tree_.unlink(parent, name);
        tree_.link(parent, name, tree_.create(std::move(made)));
    }

    void add_hard_link(const TarEntry& entry, const std::vector<std::string_view>& path,
                       std::string_view name) {
        if (entry.link_target.empty()) fail("invalid tar entry: hardlink with no target");
        std::optional<InodeId> target = find(components(entry.link_target));
        if (!target) fail_at("hardlink target not found", entry.link_target);
        if (!tree_[*target].is_regular())
            fail_at("hardlink target is not a regular file", entry.link_target);
        InodeId parent = directory(path, entry.path);
        if (const InodeId* existing = tree_.lookup(parent, name);
            existing != nullptr && *existing == *target)
            return;
        make_room(parent, name);
        tree_.link(parent, name, *target);
    }

    // A new non-directory under `name`, replacing what is there unless that is a directory.
    void place(const std::vector<std::string_view>& path, std::string_view name, Inode inode,
               std::string_view full) {
        InodeId parent = directory(path, full);
        make_room(parent, name);
        tree_.link(parent, name, tree_.create(std::move(inode)));
    }

    void make_room(InodeId parent, std::string_view name) {
        const InodeId* existing = tree_.lookup(parent, name);
        if (existing == nullptr) return;
        if (tree_[*existing].is_directory())
            fail("file tree error: entry already exists: " + quoted(name));
        tree_.unlink(parent, name);
    }

    // The directory at `path`, with missing ones made 0755 0:0.
    InodeId directory(const std::vector<std::string_view>& path, std::string_view) {
        InodeId at = FileTree::kRoot;
        for (std::string_view name : path) {
            const InodeId* child = tree_.lookup(at, name);
            if (child == nullptr) {
                Inode made;
                made.mode = S_IFDIR | 0755;
                InodeId id = tree_.create(std::move(made));
                tree_.link(at, name, id);
                at = id;
            } else if (tree_[*child].is_directory()) {
                at = *child;
            } else {
                fail("file tree error: not a directory: " + quoted(name));
            }
        }
        return at;
    }

    std::optional<InodeId> find(const std::vector<std::string_view>& path) const {
        InodeId at = FileTree::kRoot;
        for (std::string_view name : path) {
            if (!tree_[at].is_directory()) return std::nullopt;
            const InodeId* child = tree_.lookup(at, name);
            if (child == nullptr) return std::nullopt;
            at = *child;
        }
        return at;
    }

    TarReader reader_;
    int spool_;
    FileTree tree_;
    std::uint64_t entries_ = 0;
    std::uint64_t total_bytes_ = 0;
    std::uint64_t spool_end_ = 0;
    std::vector<std::byte> buffer_ =
        std::vector<std::byte>(kSpoolBuffer);  // the spool's last bytes
    std::size_t buffered_ = 0;
};

}  // namespace

FileTree ingest_layer(ByteSource& tar, int spool) {
    return Ingest(tar, spool).run();
}

}  // namespace msb::image
