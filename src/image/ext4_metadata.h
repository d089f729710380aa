// The metadata of a whole file system that the formatter and the grower both write: superblock, group descriptors,
// bitmaps, journal superblock, resize inode (spec/images.md section 11).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "image/ext4_format.h"
#include "image/ext4_layout.h"
#include "image/ext4_records.h"

namespace msb::image::ext4 {

// "invalid ext4 image size: block group G has A blocks but needs at least B metadata blocks; ..."
std::string small_last_group_text(const Geometry& geometry);

struct SuperBlockFields {
    Geometry geometry;
    Ext4Uuid uuid{};
    std::uint64_t free_blocks = 0;
    std::uint64_t free_inodes = 0;
    std::array<std::byte, kExtentRootSize> journal_map{};  // i_block of the journal inode
};
// The copy that stands in `group`: 1024 bytes, sealed.
Block super_block(const SuperBlockFields& fields, std::uint32_t group);
std::uint32_t super_checksum(std::span<const std::byte> raw);
void seal_super(std::span<std::byte> raw);

struct GroupCounts {
    std::uint32_t free_blocks = 0;
    std::uint32_t free_inodes = 0;
    std::uint32_t directories = 0;
    std::uint32_t block_bitmap_crc = 0;
    std::uint32_t inode_bitmap_crc = 0;
};
// 64 bytes, sealed; `raw` is zero.
void put_descriptor(std::span<std::byte> raw, const Geometry& geometry, std::uint32_t group,
                    const GroupCounts& counts, std::uint32_t seed);
std::uint16_t descriptor_checksum(std::span<const std::byte> raw, std::uint32_t group,
                                  std::uint32_t seed);
void seal_descriptor(std::span<std::byte> raw, std::uint32_t group, std::uint32_t seed);

void set_bits(std::span<std::byte> bitmap, std::uint32_t from, std::uint32_t to);
// Block and inode bitmap of a group, one after the other as they stand on disk, with `used_blocks` and `used_inodes` taken
// from the start; `counts` gets the free counts and the checksums.
Block group_bitmaps(const Geometry& geometry, std::uint32_t group, std::uint32_t used_blocks,
                    std::uint32_t used_inodes, std::uint32_t seed, GroupCounts& counts);

// The journal's superblock: an empty log of `kJournalBlocks`.
Block journal_super(const Ext4Uuid& uuid);
Block journal_inode(std::span<const Extent> extents, std::uint32_t seed);

// The resize inode keeps the blocks behind the descriptors, in every group with a copy, for the descriptors of groups to
// come: its double indirect block lists the primary ones, each of which lists its copies.
Block resize_double_indirect(const Geometry& geometry);
// The primary reserved blocks, all of them in order. Without backups they are zero.
Block resize_indirect_blocks(const Geometry& geometry);
Block resize_inode(const Geometry& geometry, std::uint64_t double_indirect, std::uint32_t seed);

}  // namespace msb::image::ext4
