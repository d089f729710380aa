// Writes EROFS images: one for each layer, and the metadata image that joins an image's layers (spec/images.md
// section 9). The output depends on the tree alone, byte for byte.
#pragma once

#include <cstdint>
#include <span>

#include "image/file_tree.h"

namespace msb::image {

struct ErofsSummary {
    std::uint64_t inodes = 0;
    std::uint32_t blocks = 0;  // file length / 4096
};

// The image of one layer. File data is copied from `spool` (see layer_ingest.h) to `out`, an empty file open for
// writing. Throws Error{kImage}, Error{kIo}.
ErofsSummary write_layer_image(const FileTree& tree, int spool, int out);

// The metadata image of a merged tree whose regular files name their layer and start block. `layer_blocks[i]` is the
// length of layer image i (0 = bottom) in blocks.
ErofsSummary write_fsmeta(const FileTree& merged, std::span<const std::uint32_t> layer_blocks,
                          int out);

}  // namespace msb::image
