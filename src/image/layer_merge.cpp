#include "image/layer_merge.h"

#include <vector>

namespace msb::image {

namespace {

// The inode without its children and without the marker that has done its work.
Inode shell(const Inode& inode) {
    Inode bare = inode;
    bare.children.clear();
    remove_xattr(bare, kOpaqueXattr);
    return bare;
}

}  // namespace

void LayerMerger::add(const FileTree& layer) {
    copies_.clear();
    inserted_.clear();
    struct Work {
        InodeId from;  // directory of the layer
        InodeId to;    // directory of the result
    };
    // A layer's root says nothing of the result's: its metadata and markers have no effect.
    std::vector<Work> pending{{FileTree::kRoot, FileTree::kRoot}};
    while (!pending.empty()) {
        Work work = pending.back();
        pending.pop_back();
        for (const auto& [name, child] : layer[work.from].children) {
            const Inode& above = layer[child];
            const InodeId* below = merged_.lookup(work.to, name);
            if (above.is_whiteout() && !inserted_.contains(work.to)) {
                merged_.unlink(work.to, name);
            } else if (above.is_directory() && below != nullptr && merged_[*below].is_directory()) {
                InodeId target = *below;
                take_directory(above, target);
                pending.push_back({child, target});
            } else if (above.is_directory()) {
                // A directory that is new here goes in whole, with the whiteout devices it holds.
                merged_.unlink(work.to, name);
                InodeId made = merged_.create(shell(above));
                merged_.link(work.to, name, made);
                inserted_.insert(made);
                pending.push_back({child, made});
            } else {
                merged_.unlink(work.to, name);
                merged_.link(work.to, name, copy(layer, child));
            }
        }
    }
}

FileTree LayerMerger::take() {
    recount_links(merged_);
    return std::move(merged_);
}

void LayerMerger::take_directory(const Inode& above, InodeId target) {
    Inode next = shell(above);
    Inode& current = merged_[target];
    if (!has_xattr(above, kOpaqueXattr)) next.children = std::move(current.children);
    current = std::move(next);
}

// One inode of the layer is one inode of the result, however many names it has.
InodeId LayerMerger::copy(const FileTree& layer, InodeId id) {
    auto [it, fresh] = copies_.try_emplace(id, 0);
    if (fresh) it->second = merged_.create(shell(layer[id]));
    return it->second;
}

}  // namespace msb::image
