#include "image/lower_layers.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace msb::image {

LowerLayers::LowerLayers(std::span<const std::filesystem::path> layers)
    : paths_(layers.begin(), layers.end()) {}

void LowerLayers::open_layers() {
    if (layers_.size() == paths_.size()) return;
    layers_.clear();
    for (const std::filesystem::path& path : paths_ | std::views::reverse)
        layers_.push_back(std::make_unique<ErofsReader>(ErofsReader::open(path)));
}

std::optional<ErofsNode> LowerLayers::child(const Node& directory, std::string_view name) {
    for (const ErofsReader::Entry& entry : directory.layer->entries(directory.node)) {
        if (entry.name == name) return directory.layer->node(entry.nid);
    }
    return std::nullopt;
}

std::optional<LowerLayers::Node> LowerLayers::lookup(std::span<const std::string> components) {
    open_layers();
    // The directories that make up the one at the path so far, top first.
    std::vector<Node> stack;
    for (const auto& layer : layers_)
        stack.push_back({layer.get(), layer->node(layer->root())});
    for (std::size_t i = 0; i < components.size(); ++i) {
        std::vector<Node> next;
        for (const Node& directory : stack) {
            std::optional<ErofsNode> found = child(directory, components[i]);
            if (!found) continue;
            if (found->inode.is_whiteout()) break;
            bool is_directory = found->inode.is_directory();
            bool opaque = has_xattr(found->inode, kOpaqueXattr);
            // Below a directory only directories contribute; anything else ends what is seen.
            if (!is_directory && !next.empty()) break;
            next.push_back({directory.layer, *std::move(found)});
            if (!is_directory || opaque) break;
        }
        if (next.empty()) return std::nullopt;
        if (i + 1 == components.size()) return std::move(next.front());
        if (!next.front().node.inode.is_directory()) return std::nullopt;
        stack = std::move(next);
    }
    if (stack.empty()) return std::nullopt;
    return std::move(stack.front());
}

}  // namespace msb::image
