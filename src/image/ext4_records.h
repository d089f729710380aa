// The records that make up ext4's inodes: extent trees, directory blocks, extended attributes, checksums (Linux,
// fs/ext4/{ext4_extents,ext4,xattr}.h; spec/images.md section 11). Encoding only: nothing here knows where a record goes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "image/ext4_layout.h"
#include "image/file_tree.h"

namespace msb::image::ext4 {

using Block = std::vector<std::byte>;

// A run of blocks of one file.
struct Extent {
    std::uint64_t logical = 0;
    std::uint64_t physical = 0;
    std::uint32_t count = 0;
};
inline constexpr std::size_t kInlineExtents = 4;  // in the inode itself
// In a leaf block: after the header and before the checksum.
inline constexpr std::size_t kLeafExtents = (kBlockSize - 12 - 4) / 12;
inline constexpr std::size_t kExtentRootSize = 60;

// Throws Error{kImage}.
[[noreturn]] void fail(const std::string& what);

// i_block of an extent-mapped inode; `raw` is the inode. More than four extents live in `leaf_block`.
void put_extent_root(std::span<std::byte> raw, std::span<const Extent> extents,
                     std::uint64_t leaf_block);
// `inode_crc` is inode_checksum_base() of the owner, here and below.
Block extent_leaf(std::span<const Extent> extents, std::uint32_t inode_crc);

// Bytes of a directory's blocks.
std::uint64_t directory_size(const FileTree& tree, InodeId directory);
// Its blocks: ".", "..", the children in byte order.
Block directory_blocks(const FileTree& tree, InodeId directory, std::uint32_t number,
                       std::uint32_t parent_number,
                       const std::function<std::uint32_t(InodeId)>& number_of,
                       std::uint32_t inode_crc);

// Extended attributes stand in the inode when they fit, else in one block of their own.
bool xattrs_fit_inode(const Inode& inode);
void put_inode_xattrs(std::span<std::byte> raw, const Inode& inode);
Block xattr_block(const Inode& inode, std::uint64_t block_number, std::uint32_t seed);

// i_extra_isize and the checksum: the last thing done to an inode.
void seal_inode(std::span<std::byte> raw, std::uint32_t seed, std::uint32_t number);
// The checksum of `raw` as it should be, over its own generation.
std::uint32_t inode_checksum(std::span<const std::byte> raw, std::uint32_t seed,
                             std::uint32_t number);

}  // namespace msb::image::ext4
