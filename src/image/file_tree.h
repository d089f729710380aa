// The file system of one layer, or of an image's merged layers, as a tree of inodes.
//
// Names are raw bytes and children are kept in byte order, because every writer walks the tree in that order. Inodes
// live in one vector and are named by index, so that hard links are two names of one index.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace msb::image {

inline constexpr std::string_view kOpaqueXattr = "trusted.overlay.opaque";

struct Xattr {
    std::string name;  // with its prefix: "security.capability"
    std::string value;
    bool operator==(const Xattr&) const = default;
};

// Where the bytes of a regular file are, as pieces in logical order; what lies between pieces is zero.
struct DataPiece {
    std::uint64_t logical_offset = 0;
    std::uint64_t source_offset = 0;  // in the spool (layer ingest)
    std::uint64_t length = 0;
};

using InodeId = std::uint32_t;

struct Inode {
    std::uint32_t mode = 0;  // type and permission bits, as st_mode
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime = 0;
    std::uint32_t mtime_nsec = 0;
    std::uint32_t device_major = 0;  // character and block devices
    std::uint32_t device_minor = 0;
    std::uint32_t links = 0;  // names of a file; kept up by FileTree
    std::uint64_t size = 0;   // regular files
    std::string target;       // symbolic links
    std::vector<Xattr> xattrs;
    std::vector<DataPiece> data;  // regular files of a layer being ingested
    // Regular files of a merged tree: first block inside layer image `layer` (0 = bottom).
    std::uint32_t layer = 0;
    std::uint32_t start_block = 0;
    std::map<std::string, InodeId, std::less<>> children;  // directories

    bool is_directory() const { return S_ISDIR(mode); }
    bool is_regular() const { return S_ISREG(mode); }
    bool is_symlink() const { return S_ISLNK(mode); }
    // overlayfs's whiteout: a character device 0:0.
    bool is_whiteout() const { return S_ISCHR(mode) && device_major == 0 && device_minor == 0; }
};

class FileTree {
  public:
    // A root directory 0755, owner 0:0, mtime 0.
    FileTree();

    static constexpr InodeId kRoot = 0;

    Inode& operator[](InodeId id) { return inodes_[id]; }
    const Inode& operator[](InodeId id) const { return inodes_[id]; }

    // Adds an inode that has no name yet.
    InodeId create(Inode inode);
    // Gives `id` a name; the name must be free.
    void link(InodeId directory, std::string_view name, InodeId id);
    // Takes a name away; the inodes below it stay in the vector, unreachable.
    void unlink(InodeId directory, std::string_view name);
    // The child, or nullptr.
    const InodeId* lookup(InodeId directory, std::string_view name) const;

    std::size_t inode_count() const { return inodes_.size(); }  // unreachable ones included

  private:
    std::vector<Inode> inodes_;
};

// The number stored for a directory's links: 2 and one for each subdirectory.
std::uint32_t directory_links(const FileTree& tree, InodeId directory);

// The type byte of a directory entry, the same in EROFS and ext4 (Linux, FT_* in include/linux/fs_types.h).
std::uint8_t directory_type(const Inode& inode);

// Sets every inode's `links` to the number of its names that can be reached from the root.
void recount_links(FileTree& tree);

// Pre-order, children by name; every inode once, at its first name. enter(id, parent) on the way down, leave(id, parent)
// for directories once all below them is done. Iterative: how deep the tree is was an archive's choice.
template <class Enter, class Leave>
void walk_tree(const FileTree& tree, Enter enter, Leave leave) {
    struct Level {
        InodeId id;
        InodeId parent;
        std::map<std::string, InodeId, std::less<>>::const_iterator next;
    };
    std::vector<bool> seen(tree.inode_count());
    std::vector<Level> stack;
    auto visit = [&](InodeId id, InodeId parent) {
        if (seen[id]) return;
        seen[id] = true;
        enter(id, parent);
        if (tree[id].is_directory()) stack.push_back({id, parent, tree[id].children.begin()});
    };
    visit(FileTree::kRoot, FileTree::kRoot);
    while (!stack.empty()) {
        Level& top = stack.back();
        if (top.next == tree[top.id].children.end()) {
            leave(top.id, top.parent);
            stack.pop_back();
        } else {
            InodeId child = (top.next++)->second;
            visit(child, top.id);
        }
    }
}

bool has_xattr(const Inode& inode, std::string_view name);
void set_xattr(Inode& inode, std::string_view name, std::string_view value);
void remove_xattr(Inode& inode, std::string_view name);

}  // namespace msb::image
