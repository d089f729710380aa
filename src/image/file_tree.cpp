#include "image/file_tree.h"

#include <algorithm>

namespace msb::image {

FileTree::FileTree() {
    Inode root;
    root.mode = S_IFDIR | 0755;
    inodes_.push_back(std::move(root));
}

InodeId FileTree::create(Inode inode) {
    inode.links = 0;
    inodes_.push_back(std::move(inode));
    return static_cast<InodeId>(inodes_.size() - 1);
}

void FileTree::link(InodeId directory, std::string_view name, InodeId id) {
    inodes_[directory].children.emplace(name, id);
    ++inodes_[id].links;
}

void FileTree::unlink(InodeId directory, std::string_view name) {
    auto& children = inodes_[directory].children;
    auto it = children.find(name);
    if (it == children.end()) return;
    --inodes_[it->second].links;
    children.erase(it);
}

const InodeId* FileTree::lookup(InodeId directory, std::string_view name) const {
    const auto& children = inodes_[directory].children;
    auto it = children.find(name);
    return it == children.end() ? nullptr : &it->second;
}

std::uint32_t directory_links(const FileTree& tree, InodeId directory) {
    std::uint32_t links = 2;
    for (const auto& [name, child] : tree[directory].children)
        links += tree[child].is_directory();
    return links;
}

std::uint8_t directory_type(const Inode& inode) {
    switch (inode.mode & S_IFMT) {
        case S_IFREG:
            return 1;
        case S_IFDIR:
            return 2;
        case S_IFCHR:
            return 3;
        case S_IFBLK:
            return 4;
        case S_IFIFO:
            return 5;
        case S_IFSOCK:
            return 6;
        case S_IFLNK:
            return 7;
        default:
            return 0;
    }
}

void recount_links(FileTree& tree) {
    for (InodeId id = 0; id < tree.inode_count(); ++id)
        tree[id].links = 0;
    std::vector<InodeId> pending{FileTree::kRoot};
    while (!pending.empty()) {
        InodeId directory = pending.back();
        pending.pop_back();
        for (const auto& [name, child] : tree[directory].children) {
            ++tree[child].links;
            if (tree[child].is_directory()) pending.push_back(child);
        }
    }
}

bool has_xattr(const Inode& inode, std::string_view name) {
    return std::ranges::any_of(inode.xattrs, [&](const Xattr& x) { return x.name == name; });
}

void set_xattr(Inode& inode, std::string_view name, std::string_view value) {
    remove_xattr(inode, name);
    inode.xattrs.push_back({std::string(name), std::string(value)});
}

void remove_xattr(Inode& inode, std::string_view name) {
    std::erase_if(inode.xattrs, [&](const Xattr& x) { return x.name == name; });
}

}  // namespace msb::image
