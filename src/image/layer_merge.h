// Stacks layers into one tree (spec/images.md section 8).
#pragma once

#include <span>

#include "image/file_tree.h"

namespace msb::image {

// Applies `layers` from bottom to top onto an empty root. Whiteouts and opaque directories do their work and are gone
// from the result.
FileTree merge_layers(std::span<const FileTree> layers);

}  // namespace msb::image
