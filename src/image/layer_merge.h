// Stacks layers into one tree (spec/images.md section 8).
#pragma once

#include <span>
#include <unordered_map>
#include <unordered_set>

#include "image/file_tree.h"

namespace msb::image {

// Applies layers from bottom to top onto an empty root, one at a time: only the result and the layer in hand are in
// memory. Whiteouts and opaque directories do their work and are gone from the result.
class LayerMerger {
  public:
    void add(const FileTree& layer);
    FileTree take();

  private:
    void take_directory(const Inode& above, InodeId target);
    InodeId copy(const FileTree& layer, InodeId id);

    FileTree merged_;
    std::unordered_map<InodeId, InodeId> copies_;  // of the layer being added, by its inode
    std::unordered_set<InodeId> inserted_;         // directories this layer brought whole
};

inline FileTree merge_layers(std::span<const FileTree> layers) {
    LayerMerger merger;
    for (const FileTree& layer : layers)
        merger.add(layer);
    return merger.take();
}

}  // namespace msb::image
