// Growth in order: everything that lies behind the old end, which nobody sees yet; then one journal transaction with all
// that changes before it; then that transaction's blocks in their places. The superblock is among them, so the file system
// has its new size from the moment the transaction is committed, and never half of it.
#include "image/ext4_grow.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "image/ext4_check.h"
#include "image/ext4_io.h"
#include "image/ext4_journal.h"
#include "image/ext4_metadata.h"

namespace msb::image {

using namespace ext4;

namespace {

constexpr std::uint64_t kGroupBytes = std::uint64_t{kBlocksPerGroup} * kBlockSize;
constexpr std::uint32_t kDescriptorsPerBlock = kBlockSize / kDescriptorSize;

// Clears the recover flag in the primary superblock and in every copy that has it.
void clear_recovery(const ImageFile& file, const Geometry& geometry) {
    for (std::uint32_t group = geometry.groups; group-- > 0;) {
        if (!has_super_copy(group)) continue;
        std::uint64_t offset = group == 0 ? kSuperOffset : geometry.group_start(group) * kBlockSize;
        Block raw(kSuperSize);
        file.read(offset, raw);
        auto incompat = get<std::uint32_t>(raw, kSuperIncompat);
        if ((incompat & kRecoverIncompat) == 0) continue;
        put(raw, kSuperIncompat, incompat & ~kRecoverIncompat);
        seal_super(raw);
        file.write(offset, raw);
    }
    file.sync();
}

// The superblock of an image whose journal is empty, after replaying it if need be.
Super recovered_super(const ImageFile& file, FileLength length) {
    Super super = read_super(file, length);
    Journal journal(file, super.journal(), super.uuid);
    if (!super.needs_recovery) {
        if (!journal.empty()) unsupported("journal is not empty");
        return super;
    }
    journal.replay(super.geometry.blocks);
    super = read_super(file, length);
    clear_recovery(file, super.geometry);
    return read_super(file, length);
}

std::uint32_t read_narrow(std::span<const std::byte> raw, std::size_t low, std::size_t high) {
    return get<std::uint16_t>(raw, low) | std::uint32_t{get<std::uint16_t>(raw, high)} << 16;
}

std::span<std::byte> descriptor_of(Block& descriptors, std::uint32_t group) {
    return std::span(descriptors).subspan(std::size_t{group} * kDescriptorSize, kDescriptorSize);
}

void clear_bits(std::span<std::byte> bitmap, std::uint32_t from, std::uint32_t to) {
    for (; from < to; ++from)
        bitmap[from / 8] &= ~static_cast<std::byte>(1 << from % 8);
}

// The geometry after growing: descriptors move into the blocks kept for them.
Geometry grown_geometry(const Geometry& old, std::uint64_t new_size) {
    if (new_size % kBlockSize != 0)
        fail("invalid ext4 image size: image size must be aligned to 4096 bytes");
    if (new_size <= old.blocks * kBlockSize)
        fail("invalid ext4 image size: new size " + std::to_string(new_size) +
             " is not larger than the current " + std::to_string(old.blocks * kBlockSize));
    std::uint64_t capacity =
        std::uint64_t{old.gdt + old.reserved} * kDescriptorsPerBlock * kGroupBytes;
    if (new_size > capacity) throw Ext4CapacityError(new_size, capacity);
    Geometry grown = Geometry::of(new_size / kBlockSize);
    grown.reserved = old.gdt + old.reserved - grown.gdt;
    std::uint32_t last = grown.groups - 1;
    if (grown.group_blocks(last) < grown.metadata_blocks(last)) fail(small_last_group_text(grown));
    return grown;
}

}  // namespace

Ext4CapacityError::Ext4CapacityError(std::uint64_t requested, std::uint64_t maximum)
    : Error(ErrorCode::kImage, "cannot grow ext4 image to " + std::to_string(requested) +
                                   " bytes: group descriptor capacity allows at most " +
                                   std::to_string(maximum) +
                                   " bytes; recreate the image to grow beyond this"),
      maximum_(maximum) {}

struct Ext4Growth::Plan {
    Plan(int fd, std::uint64_t new_size)
        : file(fd),
          super(recovered_super(file, FileLength::kExact)),
          descriptors(read_descriptors(file, super)),
          old(super.geometry),
          grown(grown_geometry(old, new_size)) {
        read_last_group();
    }

    // The old last group may have been cut short; now it is longer.
    void read_last_group() {
        last_bitmap = file.read_block(old.block_bitmap(old.groups - 1));
        std::span<const std::byte> raw = descriptor_of(descriptors, old.groups - 1);
        if (read_narrow(raw, 0x18, 0x38) != crc32c(super.seed, last_bitmap))
            unsupported("group " + std::to_string(old.groups - 1) +
                        " has a block bitmap checksum mismatch");
    }

    void extend_last_group() {
        std::uint32_t group = old.groups - 1;
        std::uint32_t before = old.group_blocks(group);
        std::uint32_t after = grown.group_blocks(group);
        clear_bits(last_bitmap, before, after);
        std::span<std::byte> raw = descriptor_of(descriptors, group);
        std::uint32_t free = read_narrow(raw, 0x0C, 0x2C) + after - before;
        std::uint32_t crc = crc32c(super.seed, last_bitmap);
        put(raw, 0x0C, static_cast<std::uint16_t>(free));
        put(raw, 0x2C, static_cast<std::uint16_t>(free >> 16));
        put(raw, 0x18, static_cast<std::uint16_t>(crc));
        put(raw, 0x38, static_cast<std::uint16_t>(crc >> 16));
        seal_descriptor(raw, group, super.seed);
    }

    // Writes the bitmaps of the new groups and fills in their descriptors.
    void add_groups() {
        descriptors.resize(std::size_t{grown.gdt} * kBlockSize);
        for (std::uint32_t group = old.groups; group < grown.groups; ++group) {
            GroupCounts counts;
            file.write_block(
                grown.block_bitmap(group),
                group_bitmaps(grown, group, grown.metadata_blocks(group), 0, super.seed, counts));
            put_descriptor(descriptor_of(descriptors, group), grown, group, counts, super.seed);
        }
    }

    // The superblock of the new size, everything else in it kept. The copy of `group` says so.
    Block new_super(std::uint32_t group) {
        std::uint64_t free_blocks = 0;
        std::uint64_t free_inodes = 0;
        for (std::uint32_t g = 0; g < grown.groups; ++g) {
            std::span<const std::byte> raw = descriptor_of(descriptors, g);
            free_blocks += read_narrow(raw, 0x0C, 0x2C);
            free_inodes += read_narrow(raw, 0x0E, 0x2E);
        }
        Block raw = super.raw;
        put(raw, 0x00, grown.groups * kInodesPerGroup);
        put(raw, 0x04, static_cast<std::uint32_t>(grown.blocks));
        put(raw, 0x150, static_cast<std::uint32_t>(grown.blocks >> 32));
        put(raw, 0x0C, static_cast<std::uint32_t>(free_blocks));
        put(raw, 0x158, static_cast<std::uint32_t>(free_blocks >> 32));
        put(raw, 0x10, static_cast<std::uint32_t>(free_inodes));
        put(raw, 0x5A, static_cast<std::uint16_t>(group));
        put(raw, kSuperReservedGdt, static_cast<std::uint16_t>(grown.reserved));
        auto overhead = static_cast<std::uint32_t>(grown.overhead());
        if (super.legacy) put(raw, kSuperLegacyOverhead, overhead);
        // A kernel that mounted a legacy image counted for itself, and trusts that number for ever.
        if (!super.legacy || get<std::uint32_t>(raw, kSuperOverhead) != 0)
            put(raw, kSuperOverhead, overhead);
        seal_super(raw);
        return raw;
    }

    // Block 0 as it will be: the superblock stands behind the boot sector's place.
    Block first_block(bool recover) {
        Block block = file.read_block(0);
        Block raw = new_super(0);
        if (recover) {
            put(raw, kSuperIncompat, kIncompat | kRecoverIncompat);
            seal_super(raw);
        }
        std::ranges::copy(raw, block.begin() + kSuperOffset);
        return block;
    }

    // All that changes before the old end. Copies of the superblock behind it are written at once.
    BlockMap changes() {
        BlockMap blocks;
        blocks[0] = first_block(true);
        blocks[old.block_bitmap(old.groups - 1)] = last_bitmap;
        for (std::uint32_t group = 0; group < grown.groups; ++group) {
            if (!has_super_copy(group)) continue;
            std::uint64_t start = grown.group_start(group);
            bool visible = group < old.groups;
            auto place = [&](std::uint64_t block, Block bytes) {
                if (visible)
                    blocks[block] = std::move(bytes);
                else
                    file.write_block(block, bytes);
            };
            if (group != 0) {
                Block copy = new_super(group);
                copy.resize(kBlockSize);
                place(start, std::move(copy));
            }
            for (std::uint32_t i = 0; i < grown.gdt; ++i)
                place(start + 1 + i,
                      Block(descriptors.begin() + std::ptrdiff_t{i} * kBlockSize,
                            descriptors.begin() + std::ptrdiff_t{i + 1} * kBlockSize));
        }
        if (!super.legacy) add_resize_inode(blocks);
        std::erase_if(blocks, [&](const auto& entry) {
            return file.read_block(entry.first) == entry.second;
        });
        return blocks;
    }

    void add_resize_inode(BlockMap& blocks) {
        Block indirect = resize_indirect_blocks(grown);
        for (std::uint32_t r = 0; r < grown.reserved; ++r)
            blocks[1 + grown.gdt + r] =
                Block(indirect.begin() + std::ptrdiff_t{r} * kBlockSize,
                      indirect.begin() + std::ptrdiff_t{r + 1} * kBlockSize);
        blocks[super.double_indirect()] = resize_double_indirect(grown);
        // The inode is changed in its block of the table, and its times stay what they are.
        std::uint64_t table = grown.inode_table(0);
        Block inodes = file.read_block(table);
        std::span<std::byte> raw =
            std::span(inodes).subspan((kResizeInode - 1) * kInodeSize, kInodeSize);
        Block wanted = resize_inode(grown, super.double_indirect(), super.seed);
        put(raw, 0x1C, get<std::uint32_t>(wanted, 0x1C));
        seal_inode(raw, super.seed, kResizeInode);
        blocks[table] = std::move(inodes);
    }

    void set_recovery() {
        Block raw = super.raw;
        put(raw, kSuperIncompat, kIncompat | kRecoverIncompat);
        seal_super(raw);
        file.write(kSuperOffset, raw);
    }

    void apply() {
        file.resize(grown.blocks * kBlockSize);
        extend_last_group();
        add_groups();
        BlockMap blocks = changes();
        Journal journal(file, super.journal(), super.uuid);
        journal.log(blocks);
        set_recovery();
        file.sync();
        journal.commit();
        for (const auto& [number, bytes] : blocks)
            file.write_block(number, bytes);
        file.sync();
        journal.retire();
        file.sync();
        file.write_block(0, first_block(false));
        file.sync();
    }

    ImageFile file;
    Super super;
    Block descriptors;
    Geometry old;
    Geometry grown;
    Block last_bitmap;
};

Ext4Growth::Ext4Growth(int fd, std::uint64_t new_size)
    : plan_(std::make_unique<Plan>(fd, new_size)) {}

Ext4Growth::~Ext4Growth() = default;

void Ext4Growth::apply() {
    plan_->apply();
}

void grow_ext4(int fd, std::uint64_t new_size) {
    Ext4Growth(fd, new_size).apply();
}

void settle_ext4_growth(int fd) {
    ImageFile file(fd);
    Super super = recovered_super(file, FileLength::kAtLeast);
    if (file.size() > super.bytes()) file.resize(super.bytes());
}

void check_ext4(int fd) {
    ImageFile file(fd);
    Super super = read_super(file, FileLength::kExact);
    if (super.needs_recovery || !Journal(file, super.journal(), super.uuid).empty())
        unsupported("journal is not empty");
    read_descriptors(file, super);
}

}  // namespace msb::image
