#include "image/ext4_format.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "base/fd.h"
#include "image/ext4_layout.h"
#include "image/ext4_metadata.h"
#include "image/ext4_records.h"

namespace msb::image {

namespace {

using namespace ext4;

constexpr std::uint64_t kMaxBlocks = 0xFFFFFFFF;
constexpr std::size_t kFastSymlink = 59;
constexpr std::uint32_t kMaxLinks = 65535;
constexpr std::int64_t kMaxTime = 0x3FFFFFFFF;

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
            fail(small_last_group_text(geometry_));
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
        root.size = directory_size(tree_, FileTree::kRoot);
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
                if (!xattrs_fit_inode(inode)) plan.xattr_block = take_run(1).front().physical;
            },
            [&](InodeId id, InodeId) {
                if (id == FileTree::kRoot) return;
                plans_[id].size = directory_size(tree_, id);
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

    std::uint32_t inode_crc(std::uint32_t number) const {
        return inode_checksum_base(seed_, number, 0);
    }

    void write_directory(InodeId id, InodeId parent) {
        const Plan& plan = plans_[id];
        Block data = directory_blocks(
            tree_, id, plan.number, plans_[parent].number,
            [&](InodeId child) { return plans_[child].number; }, inode_crc(plan.number));
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
        seal_inode(raw, seed_, plan.number);
        place_inode(raw, plan.number);
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
            put_extent_root(raw, plan.extents, plan.leaf_block);
            if (plan.leaf_block != 0)
                write_block(plan.leaf_block, extent_leaf(plan.extents, inode_crc(plan.number)));
        }
    }

    void put_xattrs(std::span<std::byte> raw, const Inode& inode, const Plan& plan) {
        if (plan.xattr_block == 0) {
            put_inode_xattrs(raw, inode);
            return;
        }
        write_block(plan.xattr_block, xattr_block(inode, plan.xattr_block, seed_));
        put<std::uint32_t>(raw, 0x68, static_cast<std::uint32_t>(plan.xattr_block));
        put<std::uint16_t>(raw, 0x76, static_cast<std::uint16_t>(plan.xattr_block >> 32));
    }

    void place_inode(std::span<const std::byte> raw, std::uint32_t number) {
        std::uint32_t group = (number - 1) / kInodesPerGroup;
        std::uint32_t index = (number - 1) % kInodesPerGroup;
        write_at(geometry_.inode_table(group) * kBlockSize + std::uint64_t{index} * kInodeSize,
                 raw);
    }

    // --- journal and resize inode ---

    void write_journal() {
        write_block(journal_.front().physical, journal_super(options_.uuid));
        Block raw = journal_inode(journal_, seed_);
        std::copy_n(raw.begin() + 0x28, journal_map_.size(), journal_map_.begin());
        place_inode(raw, kJournalInode);
    }

    void write_resize_inode() {
        if (geometry_.groups > 1) write_block(1 + geometry_.gdt, resize_indirect_blocks(geometry_));
        write_block(double_indirect_, resize_double_indirect(geometry_));
        place_inode(resize_inode(geometry_, double_indirect_, seed_), kResizeInode);
    }

    // --- groups and superblock ---

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
        SuperBlockFields fields{
            .geometry = geometry_, .uuid = options_.uuid, .journal_map = journal_map_};
        for (std::uint32_t group = 0; group < geometry_.groups; ++group) {
            GroupCounts counts{.directories = directories[group]};
            write_block(
                geometry_.block_bitmap(group),
                group_bitmaps(geometry_, group, geometry_.metadata_blocks(group) + used_[group],
                              used_inodes(group), seed_, counts));
            put_descriptor(std::span(descriptors)
                               .subspan(std::size_t{group} * kDescriptorSize, kDescriptorSize),
                           geometry_, group, counts, seed_);
            fields.free_blocks += counts.free_blocks;
            fields.free_inodes += counts.free_inodes;
        }
        for (std::uint32_t group = 0; group < geometry_.groups; ++group) {
            if (!has_super_copy(group)) continue;
            std::uint64_t start = geometry_.group_start(group) * kBlockSize;
            write_at(group == 0 ? kSuperOffset : start, super_block(fields, group));
            write_at(start + kBlockSize, descriptors);
        }
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
    std::array<std::byte, kExtentRootSize> journal_map_{};
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
