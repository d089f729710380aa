// The part of the EROFS on-disk format that layer images and fsmeta use (Linux, fs/erofs/erofs_fs.h; spec/images.md
// section 9). All integers are little-endian; x86-64 and arm64 hosts store them as they are.
#pragma once

#include <cstdint>
#include <string_view>

namespace msb::image::erofs {

inline constexpr std::uint32_t kBlockSize = 4096;
inline constexpr std::uint32_t kSlotSize = 32;  // inodes start on slots; a nid counts slots
inline constexpr std::uint32_t kSuperOffset = 1024;
inline constexpr std::uint32_t kMagic = 0xE0F5E1E2;
inline constexpr std::uint32_t kCompatSbChecksum = 1;
inline constexpr std::uint32_t kIncompatChunkedFile = 0x04;
inline constexpr std::uint32_t kIncompatDeviceTable = 0x08;
inline constexpr std::uint32_t kNullAddress = 0xFFFFFFFF;
inline constexpr std::uint32_t kChunkIndexes =
    0x20;  // chunk of one block, indexes rather than block map
inline constexpr std::uint32_t kDeviceSlotOffset = 1152;
inline constexpr std::uint32_t kDeviceSlotSize = 128;
inline constexpr std::uint32_t kMaxNameLength = 255;

struct [[gnu::packed]] SuperBlock {
    std::uint32_t magic;
    std::uint32_t checksum;
    std::uint32_t feature_compat;
    std::uint8_t block_bits;
    std::uint8_t ext_slots;
    std::uint16_t root_nid;
    std::uint64_t inodes;
    std::uint64_t epoch;
    std::uint32_t epoch_nsec;
    std::uint32_t blocks;
    std::uint32_t meta_block;
    std::uint32_t xattr_block;
    std::uint8_t uuid[16];
    std::uint8_t volume_name[16];
    std::uint32_t feature_incompat;
    std::uint16_t compression;
    std::uint16_t extra_devices;
    std::uint16_t device_table_slot;  // in units of 128 bytes
    std::uint8_t reserved[38];
};
static_assert(sizeof(SuperBlock) == 128);

enum class Layout : std::uint16_t { kPlain = 0, kInline = 2, kChunk = 4 };

struct [[gnu::packed]] ExtendedInode {
    std::uint16_t format;  // 1 (extended) | layout << 1
    std::uint16_t xattr_count;
    std::uint16_t mode;
    std::uint16_t reserved;
    std::uint64_t size;
    std::uint32_t address;  // start block, device number or chunk format
    std::uint32_t ino;
    std::uint32_t uid;
    std::uint32_t gid;
    std::uint64_t mtime;
    std::uint32_t mtime_nsec;
    std::uint32_t links;
    std::uint8_t reserved2[16];
};
static_assert(sizeof(ExtendedInode) == 64);

inline constexpr std::uint32_t kXattrHeaderSize = 12;
struct [[gnu::packed]] XattrEntry {
    std::uint8_t name_length;
    std::uint8_t prefix;
    std::uint16_t value_length;
};

struct [[gnu::packed]] ChunkIndex {
    std::uint16_t advise;
    std::uint16_t device;
    std::uint32_t block;
};
static_assert(sizeof(ChunkIndex) == 8);

struct [[gnu::packed]] DirectoryEntry {
    std::uint64_t nid;
    std::uint16_t name_offset;
    std::uint8_t type;
    std::uint8_t reserved;
};
static_assert(sizeof(DirectoryEntry) == 12);

struct [[gnu::packed]] DeviceSlot {
    std::uint8_t tag[64];
    std::uint32_t blocks;
    std::uint32_t mapped_block;
    std::uint8_t reserved[56];
};
static_assert(sizeof(DeviceSlot) == kDeviceSlotSize);

// Xattr name prefixes that are stored as a number; 0 for names that have none of them.
struct XattrPrefix {
    std::uint8_t index;
    std::string_view text;
};
inline constexpr XattrPrefix kXattrPrefixes[] = {{1, "user."}, {4, "trusted."}, {6, "security."}};

}  // namespace msb::image::erofs
