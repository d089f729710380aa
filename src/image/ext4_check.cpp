#include "image/ext4_check.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "image/ext4_metadata.h"

namespace msb::image::ext4 {

namespace {

// Fields of the superblock that never change after formatting: offset, bytes, value, name.
struct Constant {
    std::size_t offset;
    std::size_t width;
    std::uint32_t value;
    const char* name;
};
constexpr std::array kConstants = std::to_array<Constant>({
    {0x08, 4, 0, "reserved block count"},
    {0x14, 4, 0, "first data block"},
    {0x18, 4, 2, "block size"},
    {0x1C, 4, 2, "cluster size"},
    {0x20, 4, kBlocksPerGroup, "blocks per group"},
    {0x24, 4, kBlocksPerGroup, "clusters per group"},
    {0x28, 4, kInodesPerGroup, "inodes per group"},
    {0x3A, 2, 1, "state"},
    {0x3C, 2, 1, "error behaviour"},
    {0x48, 4, 0, "creator"},
    {0x4C, 4, 1, "revision"},
    {0x54, 4, kFirstInode, "first inode"},
    {0x58, 2, kInodeSize, "inode size"},
    {0x5A, 2, 0, "group number"},
    {0x64, 4, kRoCompat, "read-only compatible features"},
    {0xE0, 4, kJournalInode, "journal inode"},
    {0xE4, 4, 0, "journal device"},
    {0xFC, 1, 1, "hash version"},
    {0xFD, 1, 1, "journal backup type"},
    {0xFE, 2, kDescriptorSize, "descriptor size"},
    {0x100, 4, 0x0C, "default mount options"},
    {0x104, 4, 0, "first meta block group"},
    {0x154, 4, 0, "reserved block count"},
    {0x15C, 2, 32, "extra inode size"},
    {0x15E, 2, 32, "extra inode size"},
    {0x174, 1, 0, "flexible group size"},
    {0x175, 1, 1, "checksum type"},
    {0x270, 4, 0, "checksum seed"},
    {0x280, 4, 0, "orphan file"},
});

constexpr std::size_t kInodeMap = 0x28;
constexpr std::size_t kJournalMapCopy = 0x10C;

std::uint64_t read_width(std::span<const std::byte> raw, const Constant& field) {
    switch (field.width) {
        case 1:
            return static_cast<std::uint8_t>(raw[field.offset]);
        case 2:
            return get<std::uint16_t>(raw, field.offset);
        default:
            return get<std::uint32_t>(raw, field.offset);
    }
}

std::uint64_t wide(std::span<const std::byte> raw, std::size_t low, std::size_t high) {
    return get<std::uint32_t>(raw, low) | std::uint64_t{get<std::uint32_t>(raw, high)} << 32;
}
std::uint32_t narrow(std::span<const std::byte> raw, std::size_t low, std::size_t high) {
    return get<std::uint16_t>(raw, low) | std::uint32_t{get<std::uint16_t>(raw, high)} << 16;
}

std::uint32_t stored_inode_checksum(std::span<const std::byte> raw) {
    return narrow(raw, 0x7C, 0x82);
}

Block read_inode(const ImageFile& file, const Super& super, std::uint32_t number) {
    Block raw(kInodeSize);
    file.read(super.geometry.inode_table(0) * kBlockSize + std::uint64_t{number - 1} * kInodeSize,
              raw);
    return raw;
}

void check_features(Super& super) {
    std::span<const std::byte> raw = super.raw;
    auto compat = get<std::uint32_t>(raw, 0x5C);
    auto incompat = get<std::uint32_t>(raw, kSuperIncompat);
    if (compat != kCompat && compat != kLegacyCompat) unsupported("unexpected compatible features");
    if ((incompat & ~kRecoverIncompat) != kIncompat)
        unsupported("unexpected incompatible features");
    super.legacy = compat == kLegacyCompat;
    super.needs_recovery = (incompat & kRecoverIncompat) != 0;
    for (const Constant& field : kConstants) {
        if (read_width(raw, field) != field.value)
            unsupported(std::string("unexpected ") + field.name);
    }
    if (!super.legacy && get<std::uint32_t>(raw, 0x194) != 0)
        unsupported("filesystem has recorded errors");
}

void check_geometry(Super& super, std::uint64_t file_size, FileLength length) {
    std::uint64_t blocks = wide(super.raw, 0x04, 0x150);
    bool fits = length == FileLength::kExact ? file_size == blocks * kBlockSize
                                             : file_size / kBlockSize >= blocks;
    // The group count is 32 bits wide, and so are all block numbers of this geometry.
    if (blocks == 0 || blocks > 0xFFFFFFFF || !fits)
        unsupported("file length does not match superblock block count");
    super.geometry = Geometry::of(blocks);
    std::uint32_t reserved = get<std::uint16_t>(super.raw, kSuperReservedGdt);
    // A file system starts with kReservedGdtBlocks behind its descriptors and turns them into descriptors as it grows. A
    // legacy one may keep none.
    std::uint32_t least = super.legacy ? 0 : kReservedGdtBlocks + 1;
    if (reserved > kReservedGdtBlocks || super.geometry.gdt + reserved < least)
        unsupported("unexpected reserved descriptor block count");
    super.geometry.reserved = reserved;
    std::uint32_t last = super.geometry.groups - 1;
    if (super.geometry.group_blocks(last) < super.geometry.metadata_blocks(last))
        unsupported("the last group does not hold its metadata");
    if (super.journal().physical + kJournalBlocks > super.geometry.group_blocks(0))
        unsupported("the first group does not hold the journal");
    if (get<std::uint32_t>(super.raw, 0x00) !=
        std::uint64_t{super.geometry.groups} * kInodesPerGroup)
        unsupported("unexpected inode count");
}

void check_journal_inode(const ImageFile& file, const Super& super) {
    Block raw = read_inode(file, super, kJournalInode);
    if (stored_inode_checksum(raw) != inode_checksum(raw, super.seed, kJournalInode))
        unsupported("journal inode checksum mismatch");
    Extent location = super.journal();
    Block expected = journal_inode(std::span(&location, 1), super.seed);
    auto map_of = [](std::span<const std::byte> inode) {
        return inode.subspan(kInodeMap, kExtentRootSize);
    };
    if (!std::ranges::equal(map_of(raw), map_of(expected)) ||
        get<std::uint16_t>(raw, 0) != (S_IFREG | 0600) ||
        wide(raw, 0x04, 0x6C) != std::uint64_t{kJournalBlocks} * kBlockSize ||
        get<std::uint32_t>(raw, 0x20) != kExtentsFlag)
        unsupported("unexpected journal inode");
    if (!std::ranges::equal(map_of(raw),
                            std::span(super.raw).subspan(kJournalMapCopy, kExtentRootSize)))
        unsupported("journal inode differs from its copy in the superblock");
}

void check_descriptor(std::span<const std::byte> raw, const Super& super, std::uint32_t group) {
    const Geometry& geometry = super.geometry;
    std::string subject = "group " + std::to_string(group) + " has ";
    if (get<std::uint16_t>(raw, 0x1E) != descriptor_checksum(raw, group, super.seed))
        unsupported(subject + "a descriptor checksum mismatch");
    if (wide(raw, 0x00, 0x20) != geometry.block_bitmap(group) ||
        wide(raw, 0x04, 0x24) != geometry.inode_bitmap(group) ||
        wide(raw, 0x08, 0x28) != geometry.inode_table(group))
        unsupported(subject + "unexpected metadata locations");
    if (get<std::uint16_t>(raw, 0x12) != kGroupFlags) unsupported(subject + "unexpected flags");
    if (narrow(raw, 0x0C, 0x2C) > geometry.group_blocks(group) - geometry.metadata_blocks(group) ||
        narrow(raw, 0x0E, 0x2E) > kInodesPerGroup)
        unsupported(subject + "impossible free counts");
}

void check_resize_inode(const ImageFile& file, const Super& super) {
    Block raw = read_inode(file, super, kResizeInode);
    if (super.legacy) {
        if (std::ranges::any_of(raw, [](std::byte b) { return b != std::byte{0}; }))
            unsupported("unexpected resize inode");
        return;
    }
    Block expected = resize_inode(super.geometry, super.double_indirect(), super.seed);
    // Mode, size, links, blocks, map; times are not looked at.
    bool same = get<std::uint16_t>(raw, 0) == get<std::uint16_t>(expected, 0) &&
                wide(raw, 0x04, 0x6C) == wide(expected, 0x04, 0x6C) &&
                get<std::uint16_t>(raw, 0x1A) == get<std::uint16_t>(expected, 0x1A) &&
                get<std::uint32_t>(raw, 0x1C) == get<std::uint32_t>(expected, 0x1C) &&
                std::ranges::equal(std::span(raw).subspan(kInodeMap, kExtentRootSize),
                                   std::span(expected).subspan(kInodeMap, kExtentRootSize));
    if (!same) unsupported("unexpected resize inode");
    if (stored_inode_checksum(raw) != inode_checksum(raw, super.seed, kResizeInode))
        unsupported("resize inode checksum mismatch");
    const Geometry& geometry = super.geometry;
    if (file.read_block(super.double_indirect()) != resize_double_indirect(geometry) ||
        file.read_blocks(1 + geometry.gdt, geometry.reserved) != resize_indirect_blocks(geometry))
        unsupported("resize inode has unexpected blocks");
}

}  // namespace

Super read_super(const ImageFile& file, FileLength length) {
    Super super;
    super.raw.resize(kSuperSize);
    std::uint64_t file_size = file.size();
    if (file_size < kSuperOffset + kSuperSize) unsupported("file is too short");
    file.read(kSuperOffset, super.raw);
    if (get<std::uint16_t>(super.raw, 0x38) != kSuperMagic)
        unsupported("superblock magic mismatch");
    if (get<std::uint32_t>(super.raw, 0x3FC) != super_checksum(super.raw))
        unsupported("superblock checksum mismatch");
    std::ranges::copy(std::as_writable_bytes(std::span(super.raw)).subspan(0x68, super.uuid.size()),
                      std::as_writable_bytes(std::span(super.uuid)).begin());
    super.seed = checksum_seed(super.uuid);
    check_features(super);
    if (!std::ranges::equal(std::span(super.raw).subspan(0xEC, super.uuid.size()),
                            std::as_bytes(std::span(super.uuid))))
        unsupported("unexpected hash seed");
    check_geometry(super, file_size, length);
    check_journal_inode(file, super);
    return super;
}

Block read_descriptors(const ImageFile& file, const Super& super) {
    if (get<std::uint32_t>(super.raw, 0xE8) != 0)
        unsupported("filesystem has a pending orphan inode list");
    Block descriptors = file.read_blocks(1, super.geometry.gdt);
    for (std::uint32_t group = 0; group < super.geometry.groups; ++group)
        check_descriptor(
            std::span(descriptors).subspan(std::size_t{group} * kDescriptorSize, kDescriptorSize),
            super, group);
    check_resize_inode(file, super);
    return descriptors;
}

}  // namespace msb::image::ext4
