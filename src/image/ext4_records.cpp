#include "image/ext4_records.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace msb::image::ext4 {

namespace {

constexpr std::uint16_t kExtentMagic = 0xF30A;
constexpr std::size_t kDirectoryTail = 12;
constexpr std::size_t kDirectoryRoom = kBlockSize - kDirectoryTail;
constexpr std::byte kTailType{0xDE};
constexpr std::size_t kXattrStart = 0xA0;  // after the 32 extra bytes of an inode
constexpr std::size_t kXattrHeader = 32;   // of a block
constexpr std::uint32_t kXattrMagic = 0xEA020000;

std::size_t align4(std::size_t size) {
    return (size + 3) / 4 * 4;
}

// --- extents ---

void put_extent(std::span<std::byte> record, std::size_t offset, const Extent& extent) {
    put<std::uint32_t>(record, offset, static_cast<std::uint32_t>(extent.logical));
    put<std::uint16_t>(record, offset + 4, static_cast<std::uint16_t>(extent.count));
    put<std::uint16_t>(record, offset + 6, static_cast<std::uint16_t>(extent.physical >> 32));
    put<std::uint32_t>(record, offset + 8, static_cast<std::uint32_t>(extent.physical));
}

void put_extent_header(std::span<std::byte> record, std::size_t entries, std::size_t max,
                       std::uint16_t depth) {
    put<std::uint16_t>(record, 0, kExtentMagic);
    put<std::uint16_t>(record, 2, static_cast<std::uint16_t>(entries));
    put<std::uint16_t>(record, 4, static_cast<std::uint16_t>(max));
    put<std::uint16_t>(record, 6, depth);
}

// --- directories ---

std::size_t record_length(std::size_t name) {
    return align4(8 + name);
}

// Fills the blocks of one directory, entry by entry.
class DirectoryWriter {
  public:
    DirectoryWriter(std::uint64_t size, std::uint32_t inode_crc)
        : data_(size), inode_crc_(inode_crc) {}

    void add(std::string_view name, std::uint32_t number, std::uint8_t type) {
        std::size_t length = record_length(name.size());
        if (used_ + length > kDirectoryRoom) {
            close_block();
            block_ += kBlockSize;
            used_ = 0;
        }
        last_ = block_ + used_;
        put(data_, last_, number);
        put<std::uint16_t>(data_, last_ + 4, static_cast<std::uint16_t>(length));
        data_[last_ + 6] = static_cast<std::byte>(name.size());
        data_[last_ + 7] = static_cast<std::byte>(type);
        std::memcpy(&data_[last_ + 8], name.data(), name.size());
        used_ += length;
    }

    Block finish() {
        close_block();
        return std::move(data_);
    }

  private:
    // The last entry takes the rest of the block, but for the checksum in its tail.
    void close_block() {
        std::size_t end = block_ + kDirectoryRoom;
        put<std::uint16_t>(data_, last_ + 4, static_cast<std::uint16_t>(end - last_));
        put<std::uint16_t>(data_, end + 4, kDirectoryTail);
        data_[end + 7] = kTailType;
        put(data_, end + 8, crc32c(inode_crc_, std::span(data_).subspan(block_, kDirectoryRoom)));
    }

    Block data_;
    std::uint32_t inode_crc_;
    std::size_t block_ = 0;  // offset of the block being filled
    std::size_t used_ = 0;   // of it
    std::size_t last_ = 0;   // offset of the last entry
};

// --- extended attributes: entries grow from the start, values from the end ---

std::pair<std::uint8_t, std::string_view> xattr_name(const Xattr& xattr) {
    static constexpr std::pair<std::uint8_t, std::string_view> kPrefixes[] = {
        {1, "user."}, {4, "trusted."}, {6, "security."}};
    for (const auto& [index, prefix] : kPrefixes) {
        if (xattr.name.starts_with(prefix))
            return {index, std::string_view(xattr.name).substr(prefix.size())};
    }
    fail("unsupported xattr prefix");
}

std::size_t xattr_bytes(const Inode& inode) {
    std::size_t bytes = 4;  // the zero word that ends the entries
    for (const Xattr& xattr : inode.xattrs)
        bytes += align4(16 + xattr_name(xattr).second.size()) + align4(xattr.value.size());
    return bytes;
}

// ext4_xattr_hash_entry() of the kernel.
std::uint32_t xattr_hash(std::string_view name, std::string_view value) {
    std::uint32_t hash = 0;
    for (char c : name)
        hash = hash << 5 ^ hash >> 27 ^ static_cast<unsigned char>(c);
    for (std::size_t i = 0; i < value.size(); i += 4) {
        std::uint32_t word = 0;
        std::memcpy(&word, value.data() + i, std::min<std::size_t>(4, value.size() - i));
        hash = hash << 16 ^ hash >> 16 ^ word;
    }
    return hash;
}

// `area` starts at the first entry; value offsets count from `base` bytes before it.
void put_xattr_entries(std::span<std::byte> area, std::size_t base, const Inode& inode,
                       bool hashes) {
    std::vector<Xattr> sorted = inode.xattrs;
    std::ranges::sort(sorted, [](const Xattr& a, const Xattr& b) {
        auto [ai, an] = xattr_name(a);
        auto [bi, bn] = xattr_name(b);
        return std::tuple(ai, an.size(), an) < std::tuple(bi, bn.size(), bn);
    });
    std::size_t at = 0;
    std::size_t value_end = area.size();
    for (const Xattr& xattr : sorted) {
        auto [index, name] = xattr_name(xattr);
        value_end -= align4(xattr.value.size());
        area[at] = static_cast<std::byte>(name.size());
        area[at + 1] = static_cast<std::byte>(index);
        put<std::uint16_t>(area, at + 2, static_cast<std::uint16_t>(value_end + base));
        put<std::uint32_t>(area, at + 8, static_cast<std::uint32_t>(xattr.value.size()));
        std::memcpy(&area[at + 16], name.data(), name.size());
        std::memcpy(&area[value_end], xattr.value.data(), xattr.value.size());
        if (hashes) put(area, at + 12, xattr_hash(name, xattr.value));
        at += align4(16 + name.size());
    }
}

}  // namespace

void fail(const std::string& what) {
    throw Error(ErrorCode::kImage, what);
}

void put_extent_root(std::span<std::byte> raw, std::span<const Extent> extents,
                     std::uint64_t leaf_block) {
    std::span<std::byte> root = raw.subspan(0x28, kExtentRootSize);
    if (leaf_block == 0) {
        put_extent_header(root, extents.size(), kInlineExtents, 0);
        for (std::size_t i = 0; i < extents.size(); ++i)
            put_extent(root, 12 + 12 * i, extents[i]);
        return;
    }
    put_extent_header(root, 1, kInlineExtents, 1);
    put<std::uint32_t>(root, 16, static_cast<std::uint32_t>(leaf_block));
    put<std::uint16_t>(root, 20, static_cast<std::uint16_t>(leaf_block >> 32));
}

Block extent_leaf(std::span<const Extent> extents, std::uint32_t inode_crc) {
    Block leaf(kBlockSize);
    put_extent_header(leaf, extents.size(), kLeafExtents, 0);
    for (std::size_t i = 0; i < extents.size(); ++i)
        put_extent(leaf, 12 + 12 * i, extents[i]);
    put(leaf, kBlockSize - 4, crc32c(inode_crc, std::span(leaf).first(kBlockSize - 4)));
    return leaf;
}

std::uint64_t directory_size(const FileTree& tree, InodeId directory) {
    std::size_t blocks = 1;
    std::size_t used = 2 * record_length(1);
    for (const auto& [name, child] : tree[directory].children) {
        std::size_t length = record_length(name.size());
        if (used + length > kDirectoryRoom) {
            ++blocks;
            used = 0;
        }
        used += length;
    }
    return std::uint64_t{blocks} * kBlockSize;
}

Block directory_blocks(const FileTree& tree, InodeId directory, std::uint32_t number,
                       std::uint32_t parent_number,
                       const std::function<std::uint32_t(InodeId)>& number_of,
                       std::uint32_t inode_crc) {
    DirectoryWriter writer(directory_size(tree, directory), inode_crc);
    std::uint8_t type = directory_type(tree[directory]);
    writer.add(".", number, type);
    writer.add("..", parent_number, type);
    for (const auto& [name, child] : tree[directory].children)
        writer.add(name, number_of(child), directory_type(tree[child]));
    return writer.finish();
}

bool xattrs_fit_inode(const Inode& inode) {
    return inode.xattrs.empty() || xattr_bytes(inode) <= kInodeSize - kXattrStart - 4;
}

void put_inode_xattrs(std::span<std::byte> raw, const Inode& inode) {
    if (inode.xattrs.empty()) return;
    put<std::uint32_t>(raw, kXattrStart, kXattrMagic);
    put_xattr_entries(raw.subspan(kXattrStart + 4), 0, inode, false);
}

Block xattr_block(const Inode& inode, std::uint64_t block_number, std::uint32_t seed) {
    if (xattr_bytes(inode) > kBlockSize - kXattrHeader)
        fail("ext4 layout error: extended attributes do not fit a block");
    Block block(kBlockSize);
    put<std::uint32_t>(block, 0, kXattrMagic);
    put<std::uint32_t>(block, 4, 1);  // reference count
    put<std::uint32_t>(block, 8, 1);  // blocks
    put_xattr_entries(std::span(block).subspan(kXattrHeader), kXattrHeader, inode, true);
    std::uint32_t crc = crc32c(seed, std::as_bytes(std::span(&block_number, 1)));
    put(block, 16, crc32c(crc, block));
    return block;
}

std::uint32_t inode_checksum(std::span<const std::byte> raw, std::uint32_t seed,
                             std::uint32_t number) {
    std::array<std::byte, kInodeSize> copy;
    std::ranges::copy(raw, copy.begin());
    put<std::uint16_t>(copy, 0x7C, 0);
    put<std::uint16_t>(copy, 0x82, 0);
    return crc32c(inode_checksum_base(seed, number, get<std::uint32_t>(raw, 0x64)), copy);
}

void seal_inode(std::span<std::byte> raw, std::uint32_t seed, std::uint32_t number) {
    put<std::uint16_t>(raw, 0x80, 32);
    std::uint32_t crc = inode_checksum(raw, seed, number);
    put<std::uint16_t>(raw, 0x7C, static_cast<std::uint16_t>(crc));
    put<std::uint16_t>(raw, 0x82, static_cast<std::uint16_t>(crc >> 16));
}

}  // namespace msb::image::ext4
