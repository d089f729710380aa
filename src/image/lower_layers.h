// What an image holds at a path, looked up in its layer images without merging them (spec/images.md section 14).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "image/erofs_reader.h"

namespace msb::image {

class LowerLayers {
  public:
    // Layer images, bottom first; opened when first needed, which is when Error{kImage} and Error{kIo} come.
    explicit LowerLayers(std::span<const std::filesystem::path> layers);

    struct Node {
        const ErofsReader* layer = nullptr;
        ErofsNode node;
    };
    // The node a guest would see, by the rules of whiteouts and opaque directories, not following symbolic links: nullopt
    // also when a parent is not a directory.
    std::optional<Node> lookup(std::span<const std::string> components);

  private:
    void open_layers();
    static std::optional<ErofsNode> child(const Node& directory, std::string_view name);

    std::vector<std::filesystem::path> paths_;
    std::vector<std::unique_ptr<ErofsReader>> layers_;  // top first
};

}  // namespace msb::image
