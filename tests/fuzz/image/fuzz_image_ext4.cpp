// ext4 images a guest has written, given to the grower: superblock, descriptors, inodes, journal. The input is a list of
// edits to a freshly formatted image; checksums are made right again, so that what they guard is reached.
//
// input := edit*      edit := region (1 byte) block (1) offset (2) length (1) bytes
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "image/ext4_check.h"
#include "image/ext4_format.h"
#include "image/ext4_grow.h"
#include "image/ext4_metadata.h"

namespace {

using namespace msb::image;
using namespace msb::image::ext4;

constexpr std::uint64_t kSize = std::uint64_t{140} << 20;  // two groups, the second cut short
// Without and with a new group that has copies of the metadata.
constexpr std::uint64_t kGrownSize = std::uint64_t{300} << 20;
constexpr std::uint64_t kFarGrownSize = std::uint64_t{500} << 20;
constexpr std::uint32_t kLogBlocks = 24;  // of the journal: what edits reach
constexpr std::uint32_t kJournalMagic = 0xC03B3998;

struct Template {
    msb::UniqueFd fd{::memfd_create("template", MFD_CLOEXEC)};
    std::vector<std::uint64_t> blocks;  // that are not zero
    std::vector<Block> bytes;
    Super super;

    Template() {
        format_ext4(upper_skeleton(), {}, {.size = kSize}, fd.get());
        ImageFile file(fd.get());
        super = read_super(file, FileLength::kExact);
        for (off_t at = 0; (at = ::lseek(fd.get(), at, SEEK_DATA)) >= 0; at += kBlockSize) {
            blocks.push_back(static_cast<std::uint64_t>(at) / kBlockSize);
            bytes.push_back(file.read_block(blocks.back()));
        }
    }
};

std::uint32_t journal_seed(const Template& base) {
    return crc32c(0xFFFFFFFF, std::as_bytes(std::span(base.super.uuid)));
}

std::uint32_t big_endian(std::span<const std::byte> raw, std::size_t offset) {
    return __builtin_bswap32(get<std::uint32_t>(raw, offset));
}

// Gives descriptor, revoke and commit blocks of the log, and the data they list, the checksums they ought to have.
void seal_log(const ImageFile& file, const Template& base) {
    std::uint32_t seed = journal_seed(base);
    std::uint64_t first = base.super.journal().physical;
    for (std::uint32_t at = 1; at < kLogBlocks; ++at) {
        Block block = file.read_block(first + at);
        if (big_endian(block, 0) != kJournalMagic) continue;
        std::uint32_t type = big_endian(block, 4);
        std::uint32_t sequence = get<std::uint32_t>(block, 8);
        std::size_t place = type == 2 ? 16 : kBlockSize - 4;
        if (type == 1) {
            std::uint32_t data = at + 1;
            for (std::size_t tag = 12; tag + 20 <= kBlockSize && data < kLogBlocks; ++data) {
                std::uint32_t flags = big_endian(block, tag + 4);
                std::uint32_t crc = crc32c(seed, std::as_bytes(std::span(&sequence, 1)));
                put_big_endian(block, tag + 12, crc32c(crc, file.read_block(first + data)));
                if ((flags & 8) != 0) break;
                tag += (flags & 2) != 0 ? 16 : 32;
            }
        }
        put<std::uint32_t>(block, place, 0);
        put_big_endian(block, place, crc32c(seed, block));
        file.write_block(first + at, block);
    }
    Block super(kSuperSize);
    file.read(first * kBlockSize, super);
    put<std::uint32_t>(super, 0xFC, 0);
    put_big_endian(super, 0xFC, crc32c(0xFFFFFFFF, super));
    file.write(first * kBlockSize, super);
}

void seal_metadata(const ImageFile& file, const Template& base) {
    Block raw(kSuperSize);
    file.read(kSuperOffset, raw);
    seal_super(raw);
    file.write(kSuperOffset, raw);
    Block descriptors = file.read_block(1);
    for (std::uint32_t group = 0; group < 4; ++group)
        seal_descriptor(std::span(descriptors).subspan(group * 64, 64), group, base.super.seed);
    file.write_block(1, descriptors);
    std::uint64_t table = base.super.geometry.inode_table(0);
    Block inodes = file.read_block(table);
    for (std::uint32_t number : {kResizeInode, kJournalInode})
        seal_inode(std::span(inodes).subspan((number - 1) * kInodeSize, kInodeSize),
                   base.super.seed, number);
    file.write_block(table, inodes);
}

// The first block of what an edit of each region changes.
std::uint64_t region_block(const Template& base, std::uint8_t region, std::uint8_t block) {
    const Geometry& geometry = base.super.geometry;
    switch (region % 6) {
        case 0:
            return 0;
        case 1:
            return 1 + block % 4;
        case 2:
            return geometry.inode_table(0);
        case 3:
            return base.super.journal().physical + block % kLogBlocks;
        case 4:
            return base.super.double_indirect();
        default:
            return geometry.block_bitmap(geometry.groups - 1);
    }
}

void apply_edits(const ImageFile& file, const Template& base, std::span<const std::uint8_t> input) {
    while (input.size() >= 5) {
        std::uint64_t block = region_block(base, input[0], input[1]);
        std::size_t offset = (input[2] | std::size_t{input[3]} << 8) % kBlockSize;
        std::size_t length =
            std::min<std::size_t>({input[4], input.size() - 5, kBlockSize - offset});
        file.write(block * kBlockSize + offset, std::as_bytes(input.subspan(5, length)));
        input = input.subspan(5 + length);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Template base;
    if (size < 1) return 0;
    msb::UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC));
    ImageFile file(fd.get());
    file.resize(kSize);
    for (std::size_t i = 0; i < base.blocks.size(); ++i)
        file.write_block(base.blocks[i], base.bytes[i]);
    apply_edits(file, base, std::span(data, size).subspan(1));
    if ((data[0] & 1) == 0) seal_metadata(file, base);
    if ((data[0] & 2) == 0) seal_log(file, base);
    std::uint64_t size_wanted = (data[0] & 8) != 0 ? kFarGrownSize : kGrownSize;
    bool grown = false;
    try {
        if ((data[0] & 4) != 0) settle_ext4_growth(fd.get());
        grow_ext4(fd.get(), size_wanted);
        grown = true;
        // What was grown passes every check that growing makes, and can be grown again.
        check_ext4(fd.get());
        grow_ext4(fd.get(), size_wanted + (std::uint64_t{64} << 20));
    } catch (const msb::Error& e) {
        if (grown) {
            std::fprintf(stderr, "grown image is refused: %s\n", e.what());
            std::abort();
        }
    }
    return 0;
}
