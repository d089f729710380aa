#include "image/erofs_writer.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/fd.h"
#include "image/crc32c.h"
#include "image/erofs_format.h"

namespace msb::image {

namespace {

using namespace erofs;

constexpr std::uint64_t kMaxBlocks = 0xFFFFFFFE;

std::uint64_t blocks_of(std::uint64_t bytes) {
    return (bytes + kBlockSize - 1) / kBlockSize;
}
std::uint64_t align_up(std::uint64_t value, std::uint64_t to) {
    return (value + to - 1) / to * to;
}

void write_at(int fd, std::span<const std::byte> bytes, std::uint64_t offset) {
    if (int err = pwrite_all(fd, bytes, offset)) throw_os_error(err, "write EROFS image");
}

// Gathers what is written at growing offsets into large writes; gaps stay holes.
class SequentialWriter {
  public:
    explicit SequentialWriter(int fd) : fd_(fd) { buffer_.reserve(kCapacity); }

    void write(std::uint64_t offset, std::span<const std::byte> bytes) {
        bool near = offset >= end() && offset - end() < kBlockSize;
        if (!near || buffer_.size() + (offset - end()) + bytes.size() > kCapacity) flush();
        if (buffer_.empty()) start_ = offset;
        buffer_.resize(static_cast<std::size_t>(offset - start_));
        if (bytes.size() > kCapacity) {
            flush();
            write_at(fd_, bytes, offset);
            return;
        }
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    }
    void flush() {
        write_at(fd_, buffer_, start_);
        buffer_.clear();
        start_ = 0;
    }

  private:
    static constexpr std::size_t kCapacity = 1 << 20;
    std::uint64_t end() const { return start_ + buffer_.size(); }
    int fd_;
    std::uint64_t start_ = 0;
    std::vector<std::byte> buffer_;
};

// Copies ranges of the spool, joining neighbours: files that follow each other in the archive and in the image become
// one system call.
class RangeCopier {
  public:
    RangeCopier(int from, int to) : from_(from), to_(to) {}

    void copy(std::uint64_t source, std::uint64_t target, std::uint64_t length) {
        std::uint64_t gap = source - (source_ + length_);
        bool continues = length_ > 0 && source >= source_ + length_ && gap < kBlockSize &&
                         target == target_ + length_ + gap;
        if (continues) {
            length_ += gap + length;
            return;
        }
        flush();
        source_ = source;
        target_ = target;
        length_ = length;
    }

    void flush() {
        while (length_ > 0) {
            auto source = static_cast<off_t>(source_);
            auto target = static_cast<off_t>(target_);
            ssize_t n = ::copy_file_range(from_, &source, to_, &target, length_, 0);
            if (n < 0 &&
                (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP))
                n = copy_by_hand();
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) throw_os_error(errno, "copy layer data");
            if (n == 0)
                throw Error(ErrorCode::kImage, "the layer spool is shorter than its tree says");
            source_ += static_cast<std::uint64_t>(n);
            target_ += static_cast<std::uint64_t>(n);
            length_ -= static_cast<std::uint64_t>(n);
        }
    }

  private:
    ssize_t copy_by_hand() {
        std::vector<std::byte> buffer(std::min<std::uint64_t>(length_, 1 << 20));
        ssize_t n = ::pread(from_, buffer.data(), buffer.size(), static_cast<off_t>(source_));
        if (n > 0) write_at(to_, std::span(buffer).first(static_cast<std::size_t>(n)), target_);
        return n;
    }

    int from_;
    int to_;
    std::uint64_t source_ = 0;
    std::uint64_t target_ = 0;
    std::uint64_t length_ = 0;
};

std::vector<std::byte> xattr_body(const Inode& inode) {
    if (inode.xattrs.empty()) return {};
    std::vector<Xattr> sorted = inode.xattrs;
    std::ranges::sort(sorted, {}, &Xattr::name);
    std::vector<std::byte> body(kXattrHeaderSize);
    auto append = [&](const void* data, std::size_t size) {
        const auto* bytes = static_cast<const std::byte*>(data);
        body.insert(body.end(), bytes, bytes + size);
    };
    for (const Xattr& xattr : sorted) {
        const auto* prefix = std::ranges::find_if(
            kXattrPrefixes, [&](const XattrPrefix& p) { return xattr.name.starts_with(p.text); });
        if (prefix == std::end(kXattrPrefixes))
            throw Error(ErrorCode::kImage, "unsupported xattr prefix");
        std::string_view suffix = std::string_view(xattr.name).substr(prefix->text.size());
        if (suffix.size() > 255 || xattr.value.size() > 65535)
            throw Error(ErrorCode::kImage, "extended attribute is too long");
        XattrEntry entry{static_cast<std::uint8_t>(suffix.size()), prefix->index,
                         static_cast<std::uint16_t>(xattr.value.size())};
        append(&entry, sizeof entry);
        append(suffix.data(), suffix.size());
        append(xattr.value.data(), xattr.value.size());
        body.resize(align_up(body.size(), 4));
    }
    return body;
}

std::uint32_t device_number(const Inode& inode) {
    std::uint32_t minor = inode.device_minor;
    return (minor & 0xFF) | (inode.device_major << 8) | ((minor & ~0xFFU) << 12);
}

struct Name {
    std::string_view text;
    InodeId inode;
};

// One image: a planning walk that gives every inode its place, then a writing walk in the same order.
class ImageWriter {
  public:
    ImageWriter(const FileTree& tree, int spool, int out,
                std::span<const std::uint32_t> layer_blocks, bool fsmeta)
        : tree_(tree),
          out_(out),
          layer_blocks_(layer_blocks),
          fsmeta_(fsmeta),
          copier_(spool, out),
          meta_(out),
          data_(out),
          plans_(tree.inode_count()) {}

    ErofsSummary write() {
        std::uint64_t table_end =
            kDeviceSlotOffset + kDeviceSlotSize * (fsmeta_ ? layer_blocks_.size() : 0);
        meta_block_ = fsmeta_ ? blocks_of(table_end) : 1;
        walk_tree(tree_, [this](InodeId id, InodeId) { plan(id); }, [](InodeId, InodeId) {});
        data_block_ = meta_block_ + blocks_of(meta_end_);
        std::uint64_t total = data_block_ + data_blocks_;
        if (total > kMaxBlocks)
            throw Error(ErrorCode::kImage, "the image is larger than EROFS can address");

        if (::ftruncate(out_, static_cast<off_t>(total * kBlockSize)) != 0)
            throw_os_error(errno, "size EROFS image");
        walk_tree(
            tree_, [this](InodeId id, InodeId parent) { emit(id, parent); },
            [](InodeId, InodeId) {});
        meta_.flush();
        data_.flush();
        copier_.flush();
        write_super_block(total);
        return {inode_count_, static_cast<std::uint32_t>(total)};
    }

  private:
    struct Plan {
        Layout layout = Layout::kPlain;
        std::uint64_t offset = 0;  // of the inode, from the metadata start
        std::uint64_t size = 0;
        std::uint64_t first_block = 0;  // from the data start
        std::uint64_t blocks = 0;
    };

    void plan(InodeId id) {
        const Inode& inode = tree_[id];
        Plan& plan = plans_[id];
        ++inode_count_;
        plan.offset = align_up(meta_end_, kSlotSize);
        plan.size = inode.is_directory() ? directory_size(id)
                    : inode.is_symlink() ? inode.target.size()
                    : inode.is_regular() ? inode.size
                                         : 0;
        std::uint64_t head = sizeof(ExtendedInode) + xattr_body(inode).size();
        std::uint64_t inline_bytes = 0;
        if (fsmeta_ && inode.is_regular()) {
            plan.layout = plan.size > 0 ? Layout::kChunk : Layout::kPlain;
            if (plan.size > 0)
                inline_bytes = align_up(head, sizeof(ChunkIndex)) - head +
                               blocks_of(plan.size) * sizeof(ChunkIndex);
        } else if (plan.size > 0) {
            std::uint64_t tail = plan.size % kBlockSize;
            bool fits = head + tail <= kBlockSize - plan.offset % kBlockSize;
            if (tail != 0 && !inode.is_regular() && fits) {
                plan.layout = Layout::kInline;
                plan.blocks = plan.size / kBlockSize;
                inline_bytes = tail;
            } else {
                plan.blocks = blocks_of(plan.size);
            }
        }
        plan.first_block = data_blocks_;
        data_blocks_ += plan.blocks;
        meta_end_ = plan.offset + head + inline_bytes;
    }

    // Names in byte order; "." and ".." take their places among them.
    std::vector<Name> names(InodeId id, InodeId parent) const {
        std::vector<Name> list;
        list.reserve(tree_[id].children.size() + 2);
        list.push_back({".", id});
        list.push_back({"..", parent});
        for (const auto& [name, child] : tree_[id].children)
            list.push_back({name, child});
        std::ranges::sort(list, {}, &Name::text);
        return list;
    }

    // How many of the names from `first` on fit in one block, and the bytes they take.
    static std::pair<std::size_t, std::size_t> fill_block(std::span<const Name> list) {
        std::size_t bytes = 0;
        std::size_t count = 0;
        for (const Name& name : list) {
            std::size_t more = sizeof(DirectoryEntry) + name.text.size();
            if (bytes + more > kBlockSize) break;
            bytes += more;
            ++count;
        }
        return {count, bytes};
    }

    std::uint64_t directory_size(InodeId id) const {
        std::vector<Name> list = names(id, id);
        std::span<const Name> rest = list;
        std::uint64_t size = 0;
        while (!rest.empty()) {
            auto [count, bytes] = fill_block(rest);
            rest = rest.subspan(count);
            size += rest.empty() ? bytes : kBlockSize;
        }
        return size;
    }

    std::uint64_t nid(InodeId id) const { return plans_[id].offset / kSlotSize; }

    std::vector<std::byte> directory_data(InodeId id, InodeId parent) const {
        std::vector<Name> list = names(id, parent);
        std::span<const Name> rest = list;
        std::vector<std::byte> data;
        while (!rest.empty()) {
            auto [count, bytes] = fill_block(rest);
            std::size_t block = data.size();
            data.resize(block + (count == rest.size() ? bytes : kBlockSize));
            std::size_t name_offset = count * sizeof(DirectoryEntry);
            for (std::size_t i = 0; i < count; ++i) {
                const Name& name = rest[i];
                DirectoryEntry entry{nid(name.inode), static_cast<std::uint16_t>(name_offset),
                                     directory_type(tree_[name.inode]), 0};
                std::memcpy(&data[block + i * sizeof entry], &entry, sizeof entry);
                std::memcpy(&data[block + name_offset], name.text.data(), name.text.size());
                name_offset += name.text.size();
            }
            rest = rest.subspan(count);
        }
        return data;
    }

    void emit(InodeId id, InodeId parent) {
        const Inode& inode = tree_[id];
        const Plan& plan = plans_[id];
        std::vector<std::byte> xattrs = xattr_body(inode);
        ExtendedInode raw{};
        raw.format = static_cast<std::uint16_t>(1 | static_cast<unsigned>(plan.layout) << 1);
        raw.xattr_count =
            xattrs.empty() ? 0
                           : static_cast<std::uint16_t>((xattrs.size() - kXattrHeaderSize) / 4 + 1);
        raw.mode = static_cast<std::uint16_t>(inode.mode);
        raw.size = plan.size;
        raw.address = address(inode, plan);
        raw.ino = static_cast<std::uint32_t>(nid(id));
        raw.uid = inode.uid;
        raw.gid = inode.gid;
        raw.mtime = static_cast<std::uint64_t>(inode.mtime);
        raw.mtime_nsec = inode.mtime_nsec;
        raw.links = id == FileTree::kRoot  ? 2
                    : inode.is_directory() ? directory_links(tree_, id)
                    : inode.is_regular()   ? inode.links
                                           : 1;

        std::uint64_t at = meta_block_ * kBlockSize + plan.offset;
        meta_.write(at, std::as_bytes(std::span(&raw, 1)));
        meta_.write(at + sizeof raw, xattrs);
        emit_content(id, parent, at + sizeof raw + xattrs.size());
    }

    std::uint32_t address(const Inode& inode, const Plan& plan) const {
        if (plan.layout == Layout::kChunk) return kChunkIndexes;
        if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) return device_number(inode);
        if (S_ISFIFO(inode.mode) || S_ISSOCK(inode.mode)) return 0;
        return plan.blocks > 0 ? static_cast<std::uint32_t>(data_block_ + plan.first_block)
                               : kNullAddress;
    }

    void emit_content(InodeId id, InodeId parent, std::uint64_t after_inode) {
        const Inode& inode = tree_[id];
        const Plan& plan = plans_[id];
        std::uint64_t data_at = (data_block_ + plan.first_block) * kBlockSize;
        if (plan.layout == Layout::kChunk) {
            emit_chunks(inode, plan, align_up(after_inode, sizeof(ChunkIndex)));
        } else if (inode.is_regular()) {
            for (const DataPiece& piece : inode.data)
                copier_.copy(piece.source_offset, data_at + piece.logical_offset, piece.length);
        } else if (plan.size > 0) {
            std::vector<std::byte> content;
            if (inode.is_directory()) {
                content = directory_data(id, parent);
            } else {
                auto bytes = std::as_bytes(std::span(inode.target));
                content.assign(bytes.begin(), bytes.end());
            }
            std::size_t in_blocks =
                plan.layout == Layout::kInline ? plan.blocks * kBlockSize : content.size();
            data_.write(data_at, std::span(content).first(in_blocks));
            meta_.write(after_inode, std::span(content).subspan(in_blocks));
        }
    }

    void emit_chunks(const Inode& inode, const Plan& plan, std::uint64_t at) {
        std::vector<ChunkIndex> chunks(blocks_of(plan.size));
        for (std::size_t i = 0; i < chunks.size(); ++i)
            chunks[i] = {0, static_cast<std::uint16_t>(inode.layer + 1),
                         static_cast<std::uint32_t>(inode.start_block + i)};
        meta_.write(at, std::as_bytes(std::span(chunks)));
    }

    void write_super_block(std::uint64_t total) {
        std::vector<std::byte> head(meta_block_ * kBlockSize);
        SuperBlock super{};
        super.magic = kMagic;
        super.feature_compat = kCompatSbChecksum;
        super.block_bits = 12;
        super.inodes = inode_count_;
        super.blocks = static_cast<std::uint32_t>(total);
        super.meta_block = static_cast<std::uint32_t>(meta_block_);
        if (fsmeta_) {
            super.feature_incompat = kIncompatChunkedFile | kIncompatDeviceTable;
            super.extra_devices = static_cast<std::uint16_t>(layer_blocks_.size());
            super.device_table_slot = kDeviceSlotOffset / kDeviceSlotSize;
            std::uint64_t mapped = total;
            for (std::size_t i = 0; i < layer_blocks_.size(); ++i) {
                DeviceSlot slot{};
                slot.blocks = layer_blocks_[i];
                slot.mapped_block = static_cast<std::uint32_t>(mapped);
                mapped += layer_blocks_[i];
                if (mapped > kMaxBlocks)
                    throw Error(ErrorCode::kImage, "the layers are larger than EROFS can address");
                std::memcpy(&head[kDeviceSlotOffset + i * sizeof slot], &slot, sizeof slot);
            }
        }
        std::memcpy(&head[kSuperOffset], &super, sizeof super);
        super.checksum =
            crc32c(0xFFFFFFFF, std::span(head).subspan(kSuperOffset, kBlockSize - kSuperOffset));
        std::memcpy(&head[kSuperOffset], &super, sizeof super);
        write_at(out_, head, 0);
    }

    const FileTree& tree_;
    int out_;
    std::span<const std::uint32_t> layer_blocks_;
    bool fsmeta_;
    RangeCopier copier_;
    SequentialWriter meta_;
    SequentialWriter data_;
    std::vector<Plan> plans_;
    std::uint64_t inode_count_ = 0;
    std::uint64_t meta_block_ = 0;
    std::uint64_t meta_end_ = 0;     // bytes, from the metadata start
    std::uint64_t data_block_ = 0;   // absolute
    std::uint64_t data_blocks_ = 0;  // handed out so far
};

}  // namespace

ErofsSummary write_layer_image(const FileTree& tree, int spool, int out) {
    return ImageWriter(tree, spool, out, {}, false).write();
}

ErofsSummary write_fsmeta(const FileTree& merged, std::span<const std::uint32_t> layer_blocks,
                          int out) {
    constexpr std::size_t kMaxLayers =
        4096;  // device ids are 16 bits; a descriptor of more extents helps nobody
    if (layer_blocks.size() > kMaxLayers)
        throw Error(ErrorCode::kImage, "image has more than 4096 layers");
    return ImageWriter(merged, -1, out, layer_blocks, true).write();
}

}  // namespace msb::image
