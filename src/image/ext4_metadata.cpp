#include "image/ext4_metadata.h"

#include <sys/stat.h>

#include <algorithm>

namespace msb::image::ext4 {

namespace {

constexpr std::uint32_t kJournalMagic = 0xC03B3998;
constexpr std::uint32_t kJournalSuperV2 = 4;
constexpr std::uint32_t kJournalIncompat = 0x13;  // revoke, 64bit, csum v3
constexpr std::size_t kInodeBitmapBytes = kInodesPerGroup / 8;
constexpr std::size_t kDoubleIndirectSlot = 13;

// i_size of the resize inode: all that direct, indirect and double indirect blocks could map.
constexpr std::uint64_t kResizeInodeSize =
    (std::uint64_t{kAddressesPerBlock} * kAddressesPerBlock + kAddressesPerBlock + 12) * kBlockSize;

void put_wide(std::span<std::byte> raw, std::size_t low, std::size_t high, std::uint64_t value) {
    put(raw, low, static_cast<std::uint32_t>(value));
    put(raw, high, static_cast<std::uint32_t>(value >> 32));
}
void put_narrow(std::span<std::byte> raw, std::size_t low, std::size_t high, std::uint32_t value) {
    put(raw, low, static_cast<std::uint16_t>(value));
    put(raw, high, static_cast<std::uint16_t>(value >> 16));
}

}  // namespace

std::string small_last_group_text(const Geometry& geometry) {
    std::uint32_t last = geometry.groups - 1;
    return "invalid ext4 image size: block group " + std::to_string(last) + " has " +
           std::to_string(geometry.group_blocks(last)) + " blocks but needs at least " +
           std::to_string(geometry.metadata_blocks(last)) +
           " metadata blocks; choose a size that leaves either no partial group or a larger final "
           "group";
}

Block super_block(const SuperBlockFields& fields, std::uint32_t group) {
    const Geometry& geometry = fields.geometry;
    Block raw(kSuperSize);
    auto word = [&](std::size_t offset, std::uint64_t value) {
        put(raw, offset, static_cast<std::uint32_t>(value));
    };
    auto half = [&](std::size_t offset, std::uint32_t value) {
        put(raw, offset, static_cast<std::uint16_t>(value));
    };
    word(0x00, std::uint64_t{geometry.groups} * kInodesPerGroup);
    word(0x04, geometry.blocks);
    word(0x0C, fields.free_blocks);
    word(0x10, fields.free_inodes);
    word(0x18, 2);  // block and cluster size 1024 << 2
    word(0x1C, 2);
    word(0x20, kBlocksPerGroup);
    word(0x24, kBlocksPerGroup);
    word(0x28, kInodesPerGroup);
    half(0x36, 0xFFFF);  // no check after a number of mounts
    half(0x38, kSuperMagic);
    half(0x3A, 1);  // clean
    half(0x3C, 1);  // on errors: continue
    word(0x4C, 1);  // revision
    word(0x54, kFirstInode);
    half(0x58, kInodeSize);
    half(0x5A, group);
    word(0x5C, kCompat);
    word(0x60, kIncompat);
    word(0x64, kRoCompat);
    std::memcpy(&raw[0x68], fields.uuid.data(), fields.uuid.size());
    half(0xCE, geometry.reserved);
    word(0xE0, kJournalInode);
    std::memcpy(&raw[0xEC], fields.uuid.data(), fields.uuid.size());  // hash seed
    raw[0xFC] = std::byte{1};                                         // half MD4
    raw[0xFD] = std::byte{1};  // the journal's map is backed up below
    half(0xFE, kDescriptorSize);
    word(0x100, 0x0C);  // default mount options: xattr, ACL
    std::ranges::copy(fields.journal_map, raw.begin() + 0x10C);
    word(0x148, std::uint64_t{kJournalBlocks} * kBlockSize);
    word(0x150, geometry.blocks >> 32);
    word(0x158, fields.free_blocks >> 32);
    half(0x15C, 32);  // extra inode bytes: least and wanted
    half(0x15E, 32);
    raw[0x175] = std::byte{1};  // checksum type: crc32c
    word(0x248, geometry.overhead());
    seal_super(raw);
    return raw;
}

std::uint32_t super_checksum(std::span<const std::byte> raw) {
    return crc32c(0xFFFFFFFF, raw.first(0x3FC));
}

void seal_super(std::span<std::byte> raw) {
    put(raw, 0x3FC, super_checksum(raw));
}

void put_descriptor(std::span<std::byte> raw, const Geometry& geometry, std::uint32_t group,
                    const GroupCounts& counts, std::uint32_t seed) {
    put_wide(raw, 0x00, 0x20, geometry.block_bitmap(group));
    put_wide(raw, 0x04, 0x24, geometry.inode_bitmap(group));
    put_wide(raw, 0x08, 0x28, geometry.inode_table(group));
    put_narrow(raw, 0x0C, 0x2C, counts.free_blocks);
    put_narrow(raw, 0x0E, 0x2E, counts.free_inodes);
    put_narrow(raw, 0x10, 0x30, counts.directories);
    put(raw, 0x12, kGroupFlags);
    put_narrow(raw, 0x18, 0x38, counts.block_bitmap_crc);
    put_narrow(raw, 0x1A, 0x3A, counts.inode_bitmap_crc);
    put_narrow(raw, 0x1C, 0x32, counts.free_inodes);  // unused at the end of the table
    seal_descriptor(raw, group, seed);
}

std::uint16_t descriptor_checksum(std::span<const std::byte> raw, std::uint32_t group,
                                  std::uint32_t seed) {
    std::array<std::byte, kDescriptorSize> copy;
    std::ranges::copy(raw, copy.begin());
    put<std::uint16_t>(copy, 0x1E, 0);
    std::uint32_t crc = crc32c(seed, std::as_bytes(std::span(&group, 1)));
    return static_cast<std::uint16_t>(crc32c(crc, copy));
}

void seal_descriptor(std::span<std::byte> raw, std::uint32_t group, std::uint32_t seed) {
    put(raw, 0x1E, descriptor_checksum(raw, group, seed));
}

void set_bits(std::span<std::byte> bitmap, std::uint32_t from, std::uint32_t to) {
    for (; from < to && from % 8 != 0; ++from)
        bitmap[from / 8] |= static_cast<std::byte>(1 << from % 8);
    for (; from + 8 <= to; from += 8)
        bitmap[from / 8] = std::byte{0xFF};
    for (; from < to; ++from)
        bitmap[from / 8] |= static_cast<std::byte>(1 << from % 8);
}

Block group_bitmaps(const Geometry& geometry, std::uint32_t group, std::uint32_t used_blocks,
                    std::uint32_t used_inodes, std::uint32_t seed, GroupCounts& counts) {
    Block both(std::size_t{2} * kBlockSize);
    std::span<std::byte> blocks = std::span(both).first(kBlockSize);
    std::span<std::byte> inodes = std::span(both).last(kBlockSize);
    set_bits(blocks, 0, used_blocks);
    set_bits(blocks, geometry.group_blocks(group), kBlocksPerGroup);
    set_bits(inodes, 0, used_inodes);
    set_bits(inodes, kInodesPerGroup, kBlockSize * 8);
    counts.free_blocks = geometry.group_blocks(group) - used_blocks;
    counts.free_inodes = kInodesPerGroup - used_inodes;
    counts.block_bitmap_crc = crc32c(seed, blocks);
    counts.inode_bitmap_crc = crc32c(seed, inodes.first(kInodeBitmapBytes));
    return both;
}

Block journal_super(const Ext4Uuid& uuid) {
    Block super(kSuperSize);
    put_big_endian<std::uint32_t>(super, 0x00, kJournalMagic);
    put_big_endian<std::uint32_t>(super, 0x04, kJournalSuperV2);
    put_big_endian<std::uint32_t>(super, 0x0C, kBlockSize);
    put_big_endian<std::uint32_t>(super, 0x10, kJournalBlocks);
    put_big_endian<std::uint32_t>(super, 0x14, 1);  // first block of the log
    put_big_endian<std::uint32_t>(super, 0x18, 1);  // sequence; start 0: empty
    put_big_endian<std::uint32_t>(super, 0x28, kJournalIncompat);
    std::memcpy(&super[0x30], uuid.data(), uuid.size());
    put_big_endian<std::uint32_t>(super, 0x40, 1);  // users
    super[0x50] = std::byte{4};                     // crc32c
    put_big_endian(super, 0xFC, crc32c(0xFFFFFFFF, super));
    return super;
}

Block journal_inode(std::span<const Extent> extents, std::uint32_t seed) {
    Block raw(kInodeSize);
    put<std::uint16_t>(raw, 0x00, S_IFREG | 0600);
    put<std::uint32_t>(raw, 0x04, kJournalBlocks * kBlockSize);
    put<std::uint16_t>(raw, 0x1A, 1);
    put<std::uint32_t>(raw, 0x1C, kJournalBlocks * 8);
    put<std::uint32_t>(raw, 0x20, kExtentsFlag);
    put_extent_root(raw, extents, 0);
    seal_inode(raw, seed, kJournalInode);
    return raw;
}

Block resize_double_indirect(const Geometry& geometry) {
    Block block(kBlockSize);
    for (std::uint32_t r = 0; r < geometry.reserved; ++r)
        put(block, std::size_t{4} * (geometry.gdt + r), 1 + geometry.gdt + r);
    return block;
}

Block resize_indirect_blocks(const Geometry& geometry) {
    std::vector<std::uint32_t> backups = geometry.backup_groups();
    Block blocks(std::size_t{geometry.reserved} * kBlockSize);
    for (std::uint32_t r = 0; r < geometry.reserved; ++r) {
        for (std::size_t i = 0; i < backups.size(); ++i)
            put(blocks, std::size_t{r} * kBlockSize + 4 * i,
                static_cast<std::uint32_t>(geometry.group_start(backups[i]) + 1 + geometry.gdt +
                                           r));
    }
    return blocks;
}

Block resize_inode(const Geometry& geometry, std::uint64_t double_indirect, std::uint32_t seed) {
    std::uint64_t blocks =
        1 + std::uint64_t{geometry.reserved} * (1 + geometry.backup_groups().size());
    Block raw(kInodeSize);
    put<std::uint16_t>(raw, 0x00, S_IFREG | 0600);
    put<std::uint32_t>(raw, 0x04, static_cast<std::uint32_t>(kResizeInodeSize));
    put<std::uint32_t>(raw, 0x6C, static_cast<std::uint32_t>(kResizeInodeSize >> 32));
    put<std::uint16_t>(raw, 0x1A, 1);
    put<std::uint32_t>(raw, 0x1C, static_cast<std::uint32_t>(blocks * 8));
    put<std::uint32_t>(raw, 0x28 + 4 * kDoubleIndirectSlot,
                       static_cast<std::uint32_t>(double_indirect));
    seal_inode(raw, seed, kResizeInode);
    return raw;
}

}  // namespace msb::image::ext4
