#include "image/ext4_format.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "base/fd.h"
#include "image/ext4_layout.h"

namespace msb::image {

namespace {

using namespace ext4;

constexpr std::uint64_t kMaxBlocks = 0xFFFFFFFF;
constexpr std::size_t kInlineExtents = 4;
constexpr std::size_t kLeafExtents = (kBlockSize - 12 - 4) / 12;  // 340: header, entries, checksum
constexpr std::size_t kFastSymlink = 59;
constexpr std::uint32_t kMaxLinks = 65535;
constexpr std::int64_t kMaxTime = 0x3FFFFFFFF;
constexpr std::size_t kDirectoryTail = 12;
constexpr std::size_t kXattrSpace = kInodeSize - 0xA0;  // after the 32 extra bytes of an inode
constexpr std::uint32_t kXattrMagic = 0xEA020000;

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kImage, what);
}

struct Extent {
    std::uint64_t logical = 0;
    std::uint64_t physical = 0;
    std::uint32_t count = 0;
};

using Block = std::vector<std::byte>;

class Formatter {
  public:
    Formatter(const FileTree& tree, const Ext4FileContent& content,
              const Ext4FormatOptions& options, int fd)
        : tree_(tree),
          content_(content),
          options_(options),
          fd_(fd),
          seed_(checksum_seed(options.uuid)),
          plans_(tree.inode_count()) {}

    void run() {
        check_size();
        if (::ftruncate(fd_, static_cast<off_t>(options_.size)) != 0)
            throw_os_error(errno, "size ext4 image");
        number_inodes();
        reserve_fixed_blocks();
        allocate_data();
        write_data();
        write_journal();
        write_resize_inode();
        write_groups();
    }

  private:
    struct Plan {
        std::uint32_t number = 0;
        std::uint64_t size = 0;
        std::vector<Extent> extents;
        std::uint64_t leaf_block = 0;
        std::uint64_t xattr_block = 0;
    };

    void check_size() {
        if (options_.size % kBlockSize != 0)
            fail("invalid ext4 image size: image size must be aligned to 4096 bytes");
        std::uint64_t blocks = options_.size / kBlockSize;
        if (blocks > kMaxBlocks)
            fail("image is too large for ext4 formatting: requested " + std::to_string(blocks) +
                 " blocks, maximum is " + std::to_string(kMaxBlocks) + " blocks");
        if (blocks == 0) fail("image size is too small for ext4 formatting");
        geometry_ = Geometry::of(blocks);
        std::uint32_t last = geometry_.groups - 1;
        if (last > 0 && geometry_.group_blocks(last) < geometry_.metadata_blocks(last))
            fail("invalid ext4 image size: block group " + std::to_string(last) + " has " +
                 std::to_string(geometry_.group_blocks(last)) + " blocks but needs at least " +
                 std::to_string(geometry_.metadata_blocks(last)) +
                 " metadata blocks; choose a size that leaves either no partial group or a larger "
                 "final group");
    }

    void number_inodes() {
        std::uint32_t next = kFirstInode;
        std::uint64_t limit = std::uint64_t{geometry_.groups} * kInodesPerGroup;
        walk_tree(
            tree_,
            [&](InodeId id, InodeId) {
                plans_[id].number = id == FileTree::kRoot ? kRootInode : next++;
                if (plans_[id].number > limit) fail("image size is too small for ext4 formatting");
            },
            [](InodeId, InodeId) {});
        last_inode_ = std::max(next - 1, kFirstInode - 1);
    }

    void reserve_fixed_blocks() {
        cursor_ = geometry_.metadata_blocks(0);
        used_.assign(geometry_.groups, 0);
        double_indirect_ = take_run(1).front().physical;
        plans_[FileTree::kRoot].extents = take_run(1);
        journal_ = take_run(kJournalBlocks);
        if (journal_.size() != 1) fail("ext4 layout error: the journal must be one extent");
    }

    // The next `count` free blocks, strictly in order, as extents.
    std::vector<Extent> take_run(std::uint64_t count, std::uint64_t logical = 0) {
        std::vector<Extent> extents;
        while (count > 0) {
            if (cursor_ >= geometry_.blocks) fail("image size is too small for ext4 formatting");
            auto group = static_cast<std::uint32_t>(cursor_ / kBlocksPerGroup);
            std::uint64_t group_end = geometry_.group_start(group) + geometry_.group_blocks(group);
            auto run = static_cast<std::uint32_t>(
                std::min<std::uint64_t>({count, group_end - cursor_, kMaxExtentBlocks}));
            extents.push_back({logical, cursor_, run});
            used_[group] += run;
            cursor_ += run;
            logical += run;
            count -= run;
            if (cursor_ == group_end && group + 1 < geometry_.groups)
                cursor_ += geometry_.metadata_blocks(group + 1);
        }
        return extents;
    }

    void allocate_data() {
        Plan& root = plans_[FileTree::kRoot];
        root.size = directory_size(FileTree::kRoot);
        if (std::uint64_t blocks = root.size / kBlockSize; blocks > 1) {
            std::vector<Extent> more = take_run(blocks - 1, 1);
            root.extents.insert(root.extents.end(), more.begin(), more.end());
        }
        take_leaf(root);
        walk_tree(
            tree_,
            [&](InodeId id, InodeId) {
                const Inode& inode = tree_[id];
                Plan& plan = plans_[id];
                if (inode.is_regular()) plan.size = inode.size;
                if (inode.is_symlink()) plan.size = inode.target.size();
                bool in_blocks =
                    inode.is_regular() || (inode.is_symlink() && plan.size > kFastSymlink);
                if (in_blocks) allocate(plan);
                if (!inode.xattrs.empty() && xattr_bytes(inode) > kXattrSpace - 4)
                    plan.xattr_block = take_run(1).front().physical;
            },
            [&](InodeId id, InodeId) {
                if (id == FileTree::kRoot) return;
                plans_[id].size = directory_size(id);
                allocate(plans_[id]);
            });
    }

    void allocate(Plan& plan) {
        plan.extents = take_run((plan.size + kBlockSize - 1) / kBlockSize);
        take_leaf(plan);
    }

    void take_leaf(Plan& plan) {
        if (plan.extents.size() <= kInlineExtents) return;
        if (plan.extents.size() > kLeafExtents)
            fail("ext4 layout error: a file needs too many extents");
        plan.leaf_block = take_run(1).front().physical;
    }

    static std::size_t record_length(std::size_t name) { return (8 + name + 3) / 4 * 4; }

    std::uint64_t directory_size(InodeId id) const {
        std::size_t blocks = 1;
        std::size_t used = 2 * record_length(1);
        for (const auto& [name, child] : tree_[id].children) {
            std::size_t length = record_length(name.size());
            if (used + length > kBlockSize - kDirectoryTail) {
                ++blocks;
                used = 0;
            }
            used += length;
        }
        return std::uint64_t{blocks} * kBlockSize;
    }

    void write_directory(InodeId id, InodeId parent) {
        const Plan& plan = plans_[id];
        Block data(plan.size);
        std::size_t block = 0;
        std::size_t used = 0;
        std::size_t last = 0;
        auto close_block = [&] {
            std::size_t end = block + kBlockSize - kDirectoryTail;
            put<std::uint16_t>(data, last + 4, static_cast<std::uint16_t>(end - last));
            put<std::uint16_t>(data, end + 4, kDirectoryTail);
            data[end + 7] = std::byte{0xDE};
            std::uint32_t crc = inode_checksum_base(seed_, plan.number, 0);
            put(data, end + 8,
                crc32c(crc, std::span(data).subspan(block, kBlockSize - kDirectoryTail)));
        };
        auto add = [&](std::string_view name, std::uint32_t number, std::uint8_t type) {
            std::size_t length = record_length(name.size());
            if (used + length > kBlockSize - kDirectoryTail) {
                close_block();
                block += kBlockSize;
                used = 0;
            }
            last = block + used;
            put(data, last, number);
            put<std::uint16_t>(data, last + 4, static_cast<std::uint16_t>(length));
            data[last + 6] = static_cast<std::byte>(name.size());
            data[last + 7] = static_cast<std::byte>(type);
            std::memcpy(&data[last + 8], name.data(), name.size());
            used += length;
        };
        add(".", plan.number, 2);
        add("..", plans_[parent].number, 2);
        for (const auto& [name, child] : tree_[id].children)
            add(name, plans_[child].number, directory_type(tree_[child]));
        close_block();
        write_bytes(plan, 0, data);
    }

    void write_data() {
        walk_tree(
            tree_,
            [&](InodeId id, InodeId) {
                const Inode& inode = tree_[id];
                const Plan& plan = plans_[id];
                if (inode.is_regular() && plan.size > 0) {
                    content_(id, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
                        if (offset > plan.size || bytes.size() > plan.size - offset)
                            fail("ext4 layout error: file content is longer than its inode says");
                        write_bytes(plan, offset, bytes);
                    });
                } else if (inode.is_symlink() && plan.size > kFastSymlink) {
                    write_bytes(plan, 0, std::as_bytes(std::span(inode.target)));
                }
                write_inode(id);
            },
            [&](InodeId id, InodeId parent) { write_directory(id, parent); });
    }

    // Writes file bytes at a logical offset to wherever the extents put them.
    void write_bytes(const Plan& plan, std::uint64_t offset, std::span<const std::byte> bytes) {
        auto extent =
            std::ranges::upper_bound(plan.extents, offset / kBlockSize, {}, &Extent::logical);
        --extent;
        while (!bytes.empty()) {
            std::uint64_t inside = offset - extent->logical * kBlockSize;
            std::uint64_t room = std::uint64_t{extent->count} * kBlockSize - inside;
            std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(room, bytes.size()));
            write_at(extent->physical * kBlockSize + inside, bytes.first(n));
            bytes = bytes.subspan(n);
            offset += n;
            ++extent;
        }
    }

    void write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
        if (int err = pwrite_all(fd_, bytes, offset)) throw_os_error(err, "write ext4 image");
    }
    void write_block(std::uint64_t block, std::span<const std::byte> bytes) {
        write_at(block * kBlockSize, bytes);
    }

    // --- inodes ---

    static void put_extent(std::span<std::byte> record, std::size_t offset, const Extent& extent) {
        put<std::uint32_t>(record, offset, static_cast<std::uint32_t>(extent.logical));
        put<std::uint16_t>(record, offset + 4, static_cast<std::uint16_t>(extent.count));
        put<std::uint16_t>(record, offset + 6, static_cast<std::uint16_t>(extent.physical >> 32));
        put<std::uint32_t>(record, offset + 8, static_cast<std::uint32_t>(extent.physical));
    }
    static void put_extent_header(std::span<std::byte> record, std::size_t entries, std::size_t max,
                                  std::uint16_t depth) {
        put<std::uint16_t>(record, 0, 0xF30A);
        put<std::uint16_t>(record, 2, static_cast<std::uint16_t>(entries));
        put<std::uint16_t>(record, 4, static_cast<std::uint16_t>(max));
        put<std::uint16_t>(record, 6, depth);
    }

    // i_block of an extent-mapped inode; with more than four extents they live in a leaf block.
    void put_extent_tree(std::span<std::byte> raw, const std::vector<Extent>& extents,
                         std::uint64_t leaf_block, std::uint32_t number) {
        std::span<std::byte> tree = raw.subspan(0x28, 60);
        if (leaf_block == 0) {
            put_extent_header(tree, extents.size(), kInlineExtents, 0);
            for (std::size_t i = 0; i < extents.size(); ++i)
                put_extent(tree, 12 + 12 * i, extents[i]);
            return;
        }
        put_extent_header(tree, 1, kInlineExtents, 1);
        put<std::uint32_t>(tree, 16, static_cast<std::uint32_t>(leaf_block));
        put<std::uint16_t>(tree, 20, static_cast<std::uint16_t>(leaf_block >> 32));
        Block leaf(kBlockSize);
        put_extent_header(leaf, extents.size(), kLeafExtents, 0);
        for (std::size_t i = 0; i < extents.size(); ++i)
            put_extent(leaf, 12 + 12 * i, extents[i]);
        std::uint32_t crc = inode_checksum_base(seed_, number, 0);
        put(leaf, kBlockSize - 4, crc32c(crc, std::span(leaf).first(kBlockSize - 4)));
        write_block(leaf_block, leaf);
    }

    void put_times(std::span<std::byte> raw, const Inode& inode) const {
        if (options_.encoding == Ext4Encoding::kUpper) return;
        std::int64_t seconds = std::clamp<std::int64_t>(inode.mtime, INT32_MIN, kMaxTime);
        // 34 bits: the low word is signed and the epoch counts what it overflowed.
        std::uint32_t epoch =
            static_cast<std::uint32_t>((seconds - static_cast<std::int32_t>(seconds)) >> 32) & 3;
        std::uint32_t extra = inode.mtime_nsec << 2 | epoch;
        for (std::size_t offset : {0x08, 0x0C, 0x10, 0x90})
            put(raw, offset, static_cast<std::uint32_t>(seconds));
        for (std::size_t offset : {0x84, 0x88, 0x8C, 0x94})
            put(raw, offset, extra);
    }

    std::uint32_t stored_mode(const Inode& inode) const {
        if (options_.encoding == Ext4Encoding::kUpper && (inode.mode & 07777) == 0 &&
            !inode.is_whiteout())
            return inode.mode | (inode.is_directory() ? 0755 : 0644);
        return inode.mode;
    }

    void write_inode(InodeId id) {
        const Inode& inode = tree_[id];
        const Plan& plan = plans_[id];
        Block raw(kInodeSize);
        bool keep_owner = options_.encoding == Ext4Encoding::kRootfs;
        put<std::uint16_t>(raw, 0x00, static_cast<std::uint16_t>(stored_mode(inode)));
        if (keep_owner) {
            put<std::uint16_t>(raw, 0x02, static_cast<std::uint16_t>(inode.uid));
            put<std::uint16_t>(raw, 0x18, static_cast<std::uint16_t>(inode.gid));
            put<std::uint16_t>(raw, 0x78, static_cast<std::uint16_t>(inode.uid >> 16));
            put<std::uint16_t>(raw, 0x7A, static_cast<std::uint16_t>(inode.gid >> 16));
        }
        put_times(raw, inode);
        put<std::uint32_t>(raw, 0x04, static_cast<std::uint32_t>(plan.size));
        put<std::uint32_t>(raw, 0x6C, static_cast<std::uint32_t>(plan.size >> 32));
        std::uint32_t links =
            inode.is_directory() ? directory_links(tree_, id) : std::max(inode.links, 1U);
        if (links > kMaxLinks) fail("ext4 layout error: an inode has more than 65535 links");
        put<std::uint16_t>(raw, 0x1A, static_cast<std::uint16_t>(links));
        put_content(raw, inode, plan);
        put_xattrs(raw, inode, plan);
        finish_inode(raw, plan.number);
    }

    void put_content(std::span<std::byte> raw, const Inode& inode, const Plan& plan) {
        std::uint64_t blocks = (plan.leaf_block != 0) + (plan.xattr_block != 0);
        for (const Extent& extent : plan.extents)
            blocks += extent.count;
        put<std::uint32_t>(raw, 0x1C, static_cast<std::uint32_t>(blocks * 8));
        put<std::uint16_t>(raw, 0x74, static_cast<std::uint16_t>(blocks * 8 >> 32));
        if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
            std::uint32_t major = inode.device_major;
            std::uint32_t minor = inode.device_minor;
            if (major > 0xFFF || minor > 0xFFFFF)
                fail("ext4 layout error: device number out of range");
            if (major < 256 && minor < 256)
                put<std::uint32_t>(raw, 0x28, major << 8 | minor);
            else
                put<std::uint32_t>(raw, 0x2C, (minor & 0xFF) | major << 8 | (minor & ~0xFFU) << 12);
        } else if (inode.is_symlink() && plan.size <= kFastSymlink) {
            std::memcpy(&raw[0x28], inode.target.data(), inode.target.size());
        } else if (inode.is_directory() || inode.is_regular() || inode.is_symlink()) {
            put<std::uint32_t>(raw, 0x20, kExtentsFlag);
            put_extent_tree(raw, plan.extents, plan.leaf_block, plan.number);
        }
    }

    // --- xattrs: entries grow from the start, values from the end ---

    static std::pair<std::uint8_t, std::string_view> xattr_name(const Xattr& xattr) {
        static constexpr std::pair<std::uint8_t, std::string_view> kPrefixes[] = {
            {1, "user."}, {4, "trusted."}, {6, "security."}};
        for (const auto& [index, prefix] : kPrefixes) {
            if (xattr.name.starts_with(prefix))
                return {index, std::string_view(xattr.name).substr(prefix.size())};
        }
        fail("unsupported xattr prefix");
    }

    static std::size_t xattr_bytes(const Inode& inode) {
        std::size_t bytes = 4;  // the zero word that ends the entries
        for (const Xattr& xattr : inode.xattrs)
            bytes += (16 + xattr_name(xattr).second.size() + 3) / 4 * 4 +
                     (xattr.value.size() + 3) / 4 * 4;
        return bytes;
    }

    // `area` starts at the first entry; value offsets count from `base` bytes before it.
    static void put_xattr_entries(std::span<std::byte> area, std::size_t base, const Inode& inode,
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
            value_end -= (xattr.value.size() + 3) / 4 * 4;
            area[at] = static_cast<std::byte>(name.size());
            area[at + 1] = static_cast<std::byte>(index);
            put<std::uint16_t>(area, at + 2, static_cast<std::uint16_t>(value_end + base));
            put<std::uint32_t>(area, at + 8, static_cast<std::uint32_t>(xattr.value.size()));
            std::memcpy(&area[at + 16], name.data(), name.size());
            std::memcpy(&area[value_end], xattr.value.data(), xattr.value.size());
            if (hashes) put(area, at + 12, xattr_hash(name, xattr.value));
            at += (16 + name.size() + 3) / 4 * 4;
        }
    }

    // ext4_xattr_hash_entry() of the kernel.
    static std::uint32_t xattr_hash(std::string_view name, std::string_view value) {
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

    void put_xattrs(std::span<std::byte> raw, const Inode& inode, const Plan& plan) {
        if (inode.xattrs.empty()) return;
        if (plan.xattr_block == 0) {
            put<std::uint32_t>(raw, 0xA0, kXattrMagic);
            put_xattr_entries(raw.subspan(0xA4), 0, inode, false);
            return;
        }
        if (xattr_bytes(inode) > kBlockSize - 32)
            fail("ext4 layout error: extended attributes do not fit a block");
        Block block(kBlockSize);
        put<std::uint32_t>(block, 0, kXattrMagic);
        put<std::uint32_t>(block, 4, 1);  // reference count
        put<std::uint32_t>(block, 8, 1);  // blocks
        put_xattr_entries(std::span(block).subspan(32), 32, inode, true);
        std::uint64_t number = plan.xattr_block;
        std::uint32_t crc = crc32c(seed_, std::as_bytes(std::span(&number, 1)));
        put(block, 16, crc32c(crc, block));
        write_block(plan.xattr_block, block);
        put<std::uint32_t>(raw, 0x68, static_cast<std::uint32_t>(plan.xattr_block));
        put<std::uint16_t>(raw, 0x76, static_cast<std::uint16_t>(plan.xattr_block >> 32));
    }

    void finish_inode(std::span<std::byte> raw, std::uint32_t number) {
        put<std::uint16_t>(raw, 0x80, 32);
        std::uint32_t crc = crc32c(inode_checksum_base(seed_, number, 0), raw);
        put<std::uint16_t>(raw, 0x7C, static_cast<std::uint16_t>(crc));
        put<std::uint16_t>(raw, 0x82, static_cast<std::uint16_t>(crc >> 16));
        std::uint32_t group = (number - 1) / kInodesPerGroup;
        std::uint32_t index = (number - 1) % kInodesPerGroup;
        write_at(geometry_.inode_table(group) * kBlockSize + std::uint64_t{index} * kInodeSize,
                 raw);
    }

    // --- journal and resize inode ---

    void write_journal() {
        Block super(kSuperSize);
        put_big_endian<std::uint32_t>(super, 0x00, 0xC03B3998);
        put_big_endian<std::uint32_t>(super, 0x04, 4);
        put_big_endian<std::uint32_t>(super, 0x0C, kBlockSize);
        put_big_endian<std::uint32_t>(super, 0x10, kJournalBlocks);
        put_big_endian<std::uint32_t>(super, 0x14, 1);
        put_big_endian<std::uint32_t>(super, 0x18, 1);
        put_big_endian<std::uint32_t>(super, 0x28, 0x13);  // revoke, 64bit, csum v3
        std::memcpy(&super[0x30], options_.uuid.data(), options_.uuid.size());
        put_big_endian<std::uint32_t>(super, 0x40, 1);
        super[0x50] = std::byte{4};  // crc32c
        put_big_endian(super, 0xFC, crc32c(0xFFFFFFFF, super));
        write_block(journal_.front().physical, super);

        Block raw(kInodeSize);
        put<std::uint16_t>(raw, 0x00, S_IFREG | 0600);
        put<std::uint32_t>(raw, 0x04, kJournalBlocks * kBlockSize);
        put<std::uint16_t>(raw, 0x1A, 1);
        put<std::uint32_t>(raw, 0x1C, kJournalBlocks * 8);
        put<std::uint32_t>(raw, 0x20, kExtentsFlag);
        put_extent_tree(raw, journal_, 0, kJournalInode);
        std::copy_n(raw.begin() + 0x28, 60, journal_backup_.begin());
        finish_inode(raw, kJournalInode);
    }

    void write_resize_inode() {
        std::vector<std::uint32_t> backups = geometry_.backup_groups();
        Block double_indirect(kBlockSize);
        for (std::uint32_t r = 0; r < geometry_.reserved; ++r) {
            std::uint32_t primary = 1 + geometry_.gdt + r;
            put(double_indirect, std::size_t{4} * (geometry_.gdt + r), primary);
            if (backups.empty()) continue;
            Block copies(kBlockSize);
            for (std::size_t i = 0; i < backups.size(); ++i)
                put(copies, 4 * i,
                    static_cast<std::uint32_t>(geometry_.group_start(backups[i]) + primary));
            write_block(primary, copies);
        }
        write_block(double_indirect_, double_indirect);

        Block raw(kInodeSize);
        std::uint64_t size =
            (std::uint64_t{kAddressesPerBlock} * kAddressesPerBlock + kAddressesPerBlock + 12) *
            kBlockSize;
        put<std::uint16_t>(raw, 0x00, S_IFREG | 0600);
        put<std::uint32_t>(raw, 0x04, static_cast<std::uint32_t>(size));
        put<std::uint32_t>(raw, 0x6C, static_cast<std::uint32_t>(size >> 32));
        put<std::uint16_t>(raw, 0x1A, 1);
        put<std::uint32_t>(raw, 0x1C,
                           static_cast<std::uint32_t>(
                               (1 + std::uint64_t{geometry_.reserved} * (1 + backups.size())) * 8));
        put<std::uint32_t>(raw, 0x28 + 13 * 4, static_cast<std::uint32_t>(double_indirect_));
        finish_inode(raw, kResizeInode);
    }

    // --- groups and superblock ---

    static void set_bits(Block& bitmap, std::uint32_t from, std::uint32_t to) {
        for (; from < to && from % 8 != 0; ++from)
            bitmap[from / 8] |= static_cast<std::byte>(1 << from % 8);
        for (; from + 8 <= to; from += 8)
            bitmap[from / 8] = std::byte{0xFF};
        for (; from < to; ++from)
            bitmap[from / 8] |= static_cast<std::byte>(1 << from % 8);
    }

    std::uint32_t used_inodes(std::uint32_t group) const {
        std::uint64_t before = std::uint64_t{group} * kInodesPerGroup;
        return last_inode_ <= before ? 0
                                     : static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                           last_inode_ - before, kInodesPerGroup));
    }

    std::vector<std::uint32_t> directories_per_group() {
        std::vector<std::uint32_t> count(geometry_.groups);
        walk_tree(
            tree_,
            [&](InodeId id, InodeId) {
                if (tree_[id].is_directory()) ++count[(plans_[id].number - 1) / kInodesPerGroup];
            },
            [](InodeId, InodeId) {});
        return count;
    }

    void write_groups() {
        std::vector<std::uint32_t> directories = directories_per_group();
        Block descriptors(std::size_t{geometry_.gdt} * kBlockSize);
        std::uint64_t free_blocks = 0;
        std::uint64_t free_inodes = 0;
        for (std::uint32_t group = 0; group < geometry_.groups; ++group) {
            std::uint32_t blocks = geometry_.group_blocks(group);
            std::uint32_t taken = geometry_.metadata_blocks(group) + used_[group];
            Block block_bitmap(kBlockSize);
            set_bits(block_bitmap, 0, taken);
            set_bits(block_bitmap, blocks, kBlocksPerGroup);
            Block inode_bitmap(kBlockSize);
            set_bits(inode_bitmap, 0, used_inodes(group));
            set_bits(inode_bitmap, kInodesPerGroup, kBlocksPerGroup);
            write_block(geometry_.block_bitmap(group), block_bitmap);
            write_block(geometry_.inode_bitmap(group), inode_bitmap);
            std::span<std::byte> raw =
                std::span(descriptors)
                    .subspan(std::size_t{group} * kDescriptorSize, kDescriptorSize);
            put_descriptor(raw, group, blocks - taken, kInodesPerGroup - used_inodes(group),
                           directories[group], crc32c(seed_, block_bitmap),
                           crc32c(seed_, std::span(inode_bitmap).first(kInodesPerGroup / 8)));
            free_blocks += blocks - taken;
            free_inodes += kInodesPerGroup - used_inodes(group);
        }
        for (std::uint32_t group = 0; group < geometry_.groups; ++group) {
            if (!has_super_copy(group)) continue;
            Block super = super_block(group, free_blocks, free_inodes);
            std::uint64_t start = geometry_.group_start(group) * kBlockSize;
            write_at(group == 0 ? kSuperOffset : start, super);
            write_at(start + kBlockSize, descriptors);
        }
    }

    void put_descriptor(std::span<std::byte> raw, std::uint32_t group, std::uint32_t free_blocks,
                        std::uint32_t free_inodes, std::uint32_t directories,
                        std::uint32_t block_crc, std::uint32_t inode_crc) const {
        auto wide = [&](std::size_t low, std::size_t high, std::uint64_t value) {
            put(raw, low, static_cast<std::uint32_t>(value));
            put(raw, high, static_cast<std::uint32_t>(value >> 32));
        };
        auto narrow = [&](std::size_t low, std::size_t high, std::uint32_t value) {
            put(raw, low, static_cast<std::uint16_t>(value));
            put(raw, high, static_cast<std::uint16_t>(value >> 16));
        };
        wide(0x00, 0x20, geometry_.block_bitmap(group));
        wide(0x04, 0x24, geometry_.inode_bitmap(group));
        wide(0x08, 0x28, geometry_.inode_table(group));
        narrow(0x0C, 0x2C, free_blocks);
        narrow(0x0E, 0x2E, free_inodes);
        narrow(0x10, 0x30, directories);
        put(raw, 0x12, kGroupFlags);
        narrow(0x18, 0x38, block_crc);
        narrow(0x1A, 0x3A, inode_crc);
        narrow(0x1C, 0x32, free_inodes);
        std::uint32_t crc = crc32c(seed_, std::as_bytes(std::span(&group, 1)));
        put(raw, 0x1E, static_cast<std::uint16_t>(crc32c(crc, raw)));
    }

    Block super_block(std::uint32_t group, std::uint64_t free_blocks,
                      std::uint64_t free_inodes) const {
        Block raw(kSuperSize);
        auto word = [&](std::size_t offset, std::uint64_t value) {
            put(raw, offset, static_cast<std::uint32_t>(value));
        };
        auto half = [&](std::size_t offset, std::uint32_t value) {
            put(raw, offset, static_cast<std::uint16_t>(value));
        };
        word(0x00, std::uint64_t{geometry_.groups} * kInodesPerGroup);
        word(0x04, geometry_.blocks);
        word(0x0C, free_blocks);
        word(0x10, free_inodes);
        word(0x18, 2);
        word(0x1C, 2);
        word(0x20, kBlocksPerGroup);
        word(0x24, kBlocksPerGroup);
        word(0x28, kInodesPerGroup);
        half(0x36, 0xFFFF);
        half(0x38, 0xEF53);
        half(0x3A, 1);
        half(0x3C, 1);
        word(0x4C, 1);
        word(0x54, kFirstInode);
        half(0x58, kInodeSize);
        half(0x5A, group);
        word(0x5C, kCompat);
        word(0x60, kIncompat);
        word(0x64, kRoCompat);
        std::memcpy(&raw[0x68], options_.uuid.data(), 16);
        half(0xCE, geometry_.reserved);
        word(0xE0, kJournalInode);
        std::memcpy(&raw[0xEC], options_.uuid.data(), 16);
        raw[0xFC] = std::byte{1};
        raw[0xFD] = std::byte{1};
        half(0xFE, kDescriptorSize);
        word(0x100, 0x0C);
        std::ranges::copy(journal_backup_, raw.begin() + 0x10C);
        word(0x148, std::uint64_t{kJournalBlocks} * kBlockSize);
        word(0x150, geometry_.blocks >> 32);
        word(0x158, free_blocks >> 32);
        half(0x15C, 32);
        half(0x15E, 32);
        raw[0x175] = std::byte{1};
        word(0x248, geometry_.overhead());
        put(raw, 0x3FC, crc32c(0xFFFFFFFF, std::span(raw).first(0x3FC)));
        return raw;
    }

    const FileTree& tree_;
    const Ext4FileContent& content_;
    const Ext4FormatOptions& options_;
    int fd_;
    std::uint32_t seed_;
    std::vector<Plan> plans_;
    Geometry geometry_;
    std::uint64_t cursor_ = 0;         // the next block that may be handed out
    std::vector<std::uint32_t> used_;  // blocks handed out per group
    std::uint32_t last_inode_ = 0;
    std::uint64_t double_indirect_ = 0;
    std::vector<Extent> journal_;
    std::array<std::byte, 60> journal_backup_{};
};

}  // namespace

void format_ext4(const FileTree& tree, const Ext4FileContent& content,
                 const Ext4FormatOptions& options, int fd) {
    Formatter(tree, content, options, fd).run();
}

FileTree upper_skeleton() {
    FileTree tree;
    for (const char* name : {"upper", "work"}) {
        Inode directory;
        directory.mode = S_IFDIR | 0755;
        tree.link(FileTree::kRoot, name, tree.create(std::move(directory)));
    }
    return tree;
}

Ext4Uuid random_ext4_uuid() {
    Ext4Uuid uuid;
    if (::getrandom(uuid.data(), uuid.size(), 0) != static_cast<ssize_t>(uuid.size()))
        throw_os_error(errno, "get random bytes");
    uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0F) | 0x40);
    uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3F) | 0x80);
    return uuid;
}

}  // namespace msb::image
