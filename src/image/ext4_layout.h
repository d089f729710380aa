// The geometry and on-disk records that the formatter and the grower share (Linux, fs/ext4/ext4.h and
// include/linux/jbd2.h; spec/images.md section 11).
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "image/crc32c.h"

namespace msb::image::ext4 {

inline constexpr std::uint32_t kBlockSize = 4096;
inline constexpr std::uint32_t kBlocksPerGroup = 32768;
inline constexpr std::uint32_t kInodesPerGroup = 8192;
inline constexpr std::uint32_t kInodeSize = 256;
inline constexpr std::uint32_t kInodeTableBlocks =
    kInodesPerGroup * kInodeSize / kBlockSize;  // 512
inline constexpr std::uint32_t kDescriptorSize = 64;
inline constexpr std::uint32_t kReservedGdtBlocks = 256;
inline constexpr std::uint32_t kJournalBlocks = 16384;
inline constexpr std::uint32_t kSuperOffset = 1024;
inline constexpr std::uint32_t kSuperSize = 1024;
inline constexpr std::uint16_t kSuperMagic = 0xEF53;
inline constexpr std::uint32_t kAddressesPerBlock = kBlockSize / 4;

inline constexpr std::uint32_t kRootInode = 2;
inline constexpr std::uint32_t kResizeInode = 7;
inline constexpr std::uint32_t kJournalInode = 8;
inline constexpr std::uint32_t kFirstInode = 11;

inline constexpr std::uint32_t kCompat = 0x3C;    // has_journal ext_attr resize_inode dir_index
inline constexpr std::uint32_t kIncompat = 0xC2;  // filetype extents 64bit
inline constexpr std::uint32_t kRoCompat =
    0x46B;  // sparse_super large_file huge_file dir_nlink extra_isize metadata_csum
inline constexpr std::uint16_t kGroupFlags = 4;  // INODE_ZEROED
inline constexpr std::uint32_t kExtentsFlag = 0x80000;
inline constexpr std::uint32_t kMaxExtentBlocks = 32768;

// Little-endian fields at byte offsets: the format is a table of offsets, and so is the code.
template <class Int>
void put(std::span<std::byte> record, std::size_t offset, Int value) {
    std::memcpy(record.data() + offset, &value, sizeof value);
}
template <class Int>
Int get(std::span<const std::byte> record, std::size_t offset) {
    Int value;
    std::memcpy(&value, record.data() + offset, sizeof value);
    return value;
}
template <class Int>
void put_big_endian(std::span<std::byte> record, std::size_t offset, Int value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
        record[offset + i] = static_cast<std::byte>(value >> 8 * (sizeof value - 1 - i));
}

// Groups 0, 1 and the powers of 3, 5 and 7 carry copies of the superblock and of the group descriptors.
inline bool has_super_copy(std::uint32_t group) {
    if (group <= 1) return true;
    for (std::uint32_t base : {3U, 5U, 7U}) {
        std::uint64_t power = base;
        while (power < group)
            power *= base;
        if (power == group) return true;
    }
    return false;
}

// Where things are in a file system of `blocks` blocks with `gdt` descriptor blocks and `reserved` blocks kept for more.
struct Geometry {
    std::uint64_t blocks = 0;
    std::uint32_t groups = 0;
    std::uint32_t gdt = 0;
    std::uint32_t reserved = kReservedGdtBlocks;

    static Geometry of(std::uint64_t blocks) {
        Geometry g;
        g.blocks = blocks;
        g.groups = static_cast<std::uint32_t>((blocks + kBlocksPerGroup - 1) / kBlocksPerGroup);
        g.gdt = (g.groups * kDescriptorSize + kBlockSize - 1) / kBlockSize;
        return g;
    }
    std::uint64_t group_start(std::uint32_t group) const {
        return std::uint64_t{group} * kBlocksPerGroup;
    }
    std::uint32_t group_blocks(std::uint32_t group) const {
        std::uint64_t left = blocks - group_start(group);
        return left < kBlocksPerGroup ? static_cast<std::uint32_t>(left) : kBlocksPerGroup;
    }
    std::uint32_t super_blocks(std::uint32_t group) const {
        return has_super_copy(group) ? 1 + gdt + reserved : 0;
    }
    std::uint64_t block_bitmap(std::uint32_t group) const {
        return group_start(group) + super_blocks(group);
    }
    std::uint64_t inode_bitmap(std::uint32_t group) const { return block_bitmap(group) + 1; }
    std::uint64_t inode_table(std::uint32_t group) const { return block_bitmap(group) + 2; }
    std::uint32_t metadata_blocks(std::uint32_t group) const {
        return super_blocks(group) + 2 + kInodeTableBlocks;
    }
    std::uint64_t overhead() const {
        std::uint64_t sum = 0;
        for (std::uint32_t g = 0; g < groups; ++g)
            sum += metadata_blocks(g);
        return sum;
    }
    std::vector<std::uint32_t> backup_groups() const {
        std::vector<std::uint32_t> list;
        for (std::uint32_t g = 1; g < groups; ++g) {
            if (has_super_copy(g)) list.push_back(g);
        }
        return list;
    }
};

inline std::uint32_t checksum_seed(std::span<const std::uint8_t, 16> uuid) {
    return crc32c(0xFFFFFFFF, std::as_bytes(uuid));
}

// crc(seed, le32 inode number || le32 generation || bytes)
inline std::uint32_t inode_checksum_base(std::uint32_t seed, std::uint32_t number,
                                         std::uint32_t generation) {
    std::uint32_t words[2] = {number, generation};
    return crc32c(seed, std::as_bytes(std::span(words)));
}

}  // namespace msb::image::ext4
