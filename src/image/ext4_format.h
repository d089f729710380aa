// Makes ext4 file systems in one pass: the writable upper of a sandbox and flat root disks (spec/images.md section 11).
//
// One geometry and one feature set, so that any disk made here passes the strict checks of the grower (ext4_grow.h) and
// of upstream. Blocks that hold nothing stay holes: an 8 GiB upper takes about a megabyte.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "image/file_tree.h"

namespace msb::image {

using Ext4Uuid = std::array<std::uint8_t, 16>;

enum class Ext4Encoding {
    kUpper,   // owners and times are 0; permission bits 0 become 0755 and 0644
    kRootfs,  // metadata is kept
};

// Gives the bytes of regular file `id` in pieces, by calling `write` with growing offsets; what it does not write reads
// as zero.
using Ext4PieceWriter = std::function<void(std::uint64_t offset, std::span<const std::byte> bytes)>;
using Ext4FileContent = std::function<void(InodeId id, const Ext4PieceWriter& write)>;

struct Ext4FormatOptions {
    std::uint64_t size = 0;  // bytes; a multiple of 4096
    Ext4Uuid uuid{};
    Ext4Encoding encoding = Ext4Encoding::kUpper;
};

// Formats `fd`, an empty file open for writing, with the content of `tree`.
// Throws Error{kImage}: "invalid ext4 image size: ...", "image size is too small for ext4 formatting", ...
void format_ext4(const FileTree& tree, const Ext4FileContent& content,
                 const Ext4FormatOptions& options, int fd);

// The tree of a fresh upper: /upper and /work.
FileTree upper_skeleton();

// A random (version 4) UUID.
Ext4Uuid random_ext4_uuid();

}  // namespace msb::image
