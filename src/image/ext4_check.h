// Whether an ext4 image is one of ours, to the byte where the format is constant (spec/images.md section 12).
//
// Two shapes are taken: the formatter's, and the legacy one of uppers made before 0.6.9, which has no resize inode, keeps
// its reserved descriptor blocks zero and counts its overhead in another field.
#pragma once

#include <cstdint>

#include "image/ext4_format.h"
#include "image/ext4_io.h"
#include "image/ext4_layout.h"

namespace msb::image::ext4 {

inline constexpr std::uint32_t kLegacyCompat = 0x2C;     // without resize_inode
inline constexpr std::uint32_t kRecoverIncompat = 0x04;  // the journal is not empty
inline constexpr std::size_t kSuperIncompat = 0x60;
inline constexpr std::size_t kSuperReservedGdt = 0xCE;
inline constexpr std::size_t kSuperOverhead = 0x248;
inline constexpr std::size_t kSuperLegacyOverhead = 0x194;  // where the others count errors

// How long the file may be.
enum class FileLength : std::uint8_t {
    kExact,    // as the superblock says
    kAtLeast,  // a growth may have lengthened it
};

struct Super {
    Block raw;  // 1024 bytes
    Geometry geometry;
    Ext4Uuid uuid{};
    std::uint32_t seed = 0;
    bool legacy = false;
    bool needs_recovery = false;

    std::uint64_t double_indirect() const { return geometry.metadata_blocks(0); }
    Extent journal() const {
        return {0, geometry.metadata_blocks(0) + (legacy ? 1 : 2), kJournalBlocks};
    }
    std::uint64_t bytes() const { return geometry.blocks * kBlockSize; }
};

// Reads and checks the primary superblock and the journal inode. Throws unsupported().
Super read_super(const ImageFile& file, FileLength length);

// Reads and checks the group descriptors of a file system whose journal is empty, its orphan list and the resize inode
// with all its blocks. Gives the descriptors' blocks. Throws unsupported().
Block read_descriptors(const ImageFile& file, const Super& super);

}  // namespace msb::image::ext4
