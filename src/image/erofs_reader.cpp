#include "image/erofs_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "image/erofs_format.h"

namespace msb::image {

namespace {

using namespace erofs;

constexpr std::size_t kMaxInodes = 4'000'000;
constexpr std::uint64_t kMaxDirectoryBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxSymlink = 65536;

[[noreturn]] void malformed(const std::string& what) {
    throw Error(ErrorCode::kImage, "not a usable EROFS image: " + what);
}

template <class T>
T copy_at(std::span<const std::byte> bytes, std::size_t offset = 0) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

}  // namespace

ErofsReader::ErofsReader(std::span<const std::byte> image) : image_(image) {
    read_super_block();
}

ErofsReader::ErofsReader(ErofsReader&& other) noexcept
    : image_(other.image_),
      mapped_(std::exchange(other.mapped_, false)),
      root_nid_(other.root_nid_),
      meta_offset_(other.meta_offset_) {}

ErofsReader::~ErofsReader() {
    if (mapped_) ::munmap(const_cast<std::byte*>(image_.data()), image_.size());
}

ErofsReader ErofsReader::from_fd(int fd) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) throw_os_error(errno, "stat EROFS image");
    if (!S_ISREG(st.st_mode)) malformed("not a regular file");
    if (st.st_size <= 0 || st.st_size % kBlockSize != 0)
        malformed("its length is not a multiple of 4096");
    void* map = ::mmap(nullptr, static_cast<std::size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) throw_os_error(errno, "map EROFS image");
    std::span<const std::byte> image(static_cast<const std::byte*>(map),
                                     static_cast<std::size_t>(st.st_size));
    try {
        ErofsReader reader(image);
        reader.mapped_ = true;
        return reader;
    } catch (...) {
        ::munmap(map, image.size());
        throw;
    }
}

ErofsReader ErofsReader::open(const std::filesystem::path& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) throw_os_error(errno, path.string());
    return from_fd(fd.get());
}

std::span<const std::byte> ErofsReader::range(std::uint64_t offset, std::uint64_t length) const {
    if (offset > image_.size() || length > image_.size() - offset)
        malformed("it points outside itself");
    return image_.subspan(offset, length);
}

void ErofsReader::read_super_block() {
    if (image_.empty() || image_.size() % kBlockSize != 0)
        malformed("its length is not a multiple of 4096");
    auto super = copy_at<SuperBlock>(range(kSuperOffset, sizeof(SuperBlock)));
    if (super.magic != kMagic) malformed("no EROFS magic");
    if (super.block_bits != 12) malformed("block size is not 4096");
    root_nid_ = super.root_nid;
    meta_offset_ = std::uint64_t{super.meta_block} * kBlockSize;
    if (!node(root_nid_).inode.is_directory()) malformed("its root is not a directory");
}

std::vector<Xattr> ErofsReader::read_xattrs(std::uint64_t offset, std::uint64_t length) const {
    std::span<const std::byte> body = range(offset, length);
    std::vector<Xattr> xattrs;
    if (body.size() < kXattrHeaderSize) return xattrs;
    if (body[4] != std::byte{0}) malformed("shared xattrs");
    std::size_t at = kXattrHeaderSize;
    while (at < body.size()) {
        if (body.size() - at < sizeof(XattrEntry)) malformed("truncated xattr");
        auto entry = copy_at<XattrEntry>(body, at);
        at += sizeof entry;
        if (body.size() - at < std::size_t{entry.name_length} + entry.value_length)
            malformed("truncated xattr");
        const auto* prefix = std::ranges::find(kXattrPrefixes, entry.prefix, &XattrPrefix::index);
        if (prefix == std::end(kXattrPrefixes)) malformed("unsupported xattr prefix");
        const char* text = reinterpret_cast<const char*>(body.data()) + at;
        xattrs.push_back({std::string(prefix->text) + std::string(text, entry.name_length),
                          std::string(text + entry.name_length, entry.value_length)});
        at += entry.name_length + std::size_t{entry.value_length};
        at = (at + 3) / 4 * 4;
    }
    return xattrs;
}

ErofsNode ErofsReader::node(std::uint32_t nid) const {
    std::uint64_t offset = meta_offset_ + std::uint64_t{nid} * kSlotSize;
    auto raw = copy_at<ExtendedInode>(range(offset, sizeof(ExtendedInode)));
    if ((raw.format & 1) == 0) malformed("compact inode");
    auto layout = static_cast<Layout>(raw.format >> 1 & 7);
    if (layout != Layout::kPlain && layout != Layout::kInline) malformed("unsupported data layout");

    ErofsNode node;
    node.nid = nid;
    Inode& inode = node.inode;
    inode.mode = raw.mode;
    inode.uid = raw.uid;
    inode.gid = raw.gid;
    inode.mtime = static_cast<std::int64_t>(raw.mtime);
    inode.mtime_nsec = raw.mtime_nsec;
    std::uint64_t xattr_bytes =
        raw.xattr_count == 0 ? 0 : kXattrHeaderSize + (std::uint64_t{raw.xattr_count} - 1) * 4;
    inode.xattrs = read_xattrs(offset + sizeof raw, xattr_bytes);
    if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
        inode.device_major = raw.address >> 8 & 0xFFF;
        inode.device_minor = (raw.address & 0xFF) | (raw.address >> 12 & 0xFFF00);
        return node;
    }
    if (!inode.is_regular() && !inode.is_directory() && !inode.is_symlink()) return node;

    inode.size = raw.size;
    if (layout == Layout::kInline) {
        if (inode.is_regular()) malformed("inline regular file");
        node.inline_size = raw.size % kBlockSize;
        node.inline_offset = offset + sizeof raw + xattr_bytes;
        range(node.inline_offset, node.inline_size);
    }
    if (std::uint64_t in_blocks = raw.size - node.inline_size; in_blocks > 0) {
        if (raw.address == kNullAddress) malformed("data without a start block");
        node.data_offset = std::uint64_t{raw.address} * kBlockSize;
        range(node.data_offset, in_blocks);
        inode.start_block = raw.address;
    }
    return node;
}

std::vector<std::byte> ErofsReader::content(const ErofsNode& node) const {
    std::uint64_t in_blocks = node.inode.size - node.inline_size;
    std::span<const std::byte> head =
        in_blocks > 0 ? range(node.data_offset, in_blocks) : std::span<const std::byte>{};
    std::span<const std::byte> tail = range(node.inline_offset, node.inline_size);
    std::vector<std::byte> bytes(head.begin(), head.end());
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    return bytes;
}

std::string ErofsReader::symlink_target(const ErofsNode& node) const {
    if (node.inode.size > kMaxSymlink) malformed("symlink target is too long");
    std::vector<std::byte> bytes = content(node);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> ErofsReader::file_data(const ErofsNode& node) const {
    if (node.inode.size == 0) return {};
    return range(node.data_offset, node.inode.size);
}

std::span<const std::byte> ErofsReader::data_at(std::uint32_t start_block,
                                                std::uint64_t size) const {
    if (size == 0) return {};
    return range(std::uint64_t{start_block} * kBlockSize, size);
}

std::vector<ErofsReader::Entry> ErofsReader::entries(const ErofsNode& directory) const {
    if (directory.inode.size > kMaxDirectoryBytes) malformed("directory is too long");
    std::vector<std::byte> bytes = content(directory);
    std::vector<Entry> list;
    for (std::size_t start = 0; start < bytes.size(); start += kBlockSize) {
        std::span<const std::byte> block = std::span(bytes).subspan(
            start, std::min<std::size_t>(kBlockSize, bytes.size() - start));
        if (block.size() < sizeof(DirectoryEntry)) malformed("truncated directory block");
        std::size_t table_end = copy_at<DirectoryEntry>(block).name_offset;
        std::size_t count = table_end / sizeof(DirectoryEntry);
        if (count == 0 || table_end % sizeof(DirectoryEntry) != 0 || table_end > block.size())
            malformed("bad directory block");
        for (std::size_t i = 0; i < count; ++i) {
            auto entry = copy_at<DirectoryEntry>(block, i * sizeof(DirectoryEntry));
            std::size_t end =
                i + 1 < count
                    ? copy_at<DirectoryEntry>(block, (i + 1) * sizeof(DirectoryEntry)).name_offset
                    : block.size();
            if (entry.name_offset < table_end || entry.name_offset > end || end > block.size())
                malformed("bad directory entry");
            std::string name(reinterpret_cast<const char*>(block.data()) + entry.name_offset,
                             end - entry.name_offset);
            if (i + 1 == count)
                name.resize(
                    std::min(name.size(), name.find('\0')));  // the last name of a padded block
            if (name == "." || name == "..") continue;
            if (name.empty() || name.size() > kMaxNameLength ||
                name.find_first_of(std::string_view("/\0", 2)) != std::string::npos)
                malformed("bad name in a directory");
            if (entry.nid > 0xFFFFFFFF) malformed("nid is too large");
            list.push_back({std::move(name), static_cast<std::uint32_t>(entry.nid)});
        }
    }
    return list;
}

FileTree ErofsReader::load(std::uint32_t layer) const {
    FileTree tree;
    std::unordered_map<std::uint32_t, InodeId>
        known;  // nid -> inode, for hard links and to refuse cycles
    struct Work {
        ErofsNode node;
        InodeId id;
    };
    ErofsNode root_node = node(root_nid_);
    Inode root = root_node.inode;
    root.size = 0;
    tree[FileTree::kRoot] = std::move(root);
    known.emplace(root_nid_, FileTree::kRoot);
    std::vector<Work> pending{{std::move(root_node), FileTree::kRoot}};
    while (!pending.empty()) {
        Work work = std::move(pending.back());
        pending.pop_back();
        for (Entry& entry : entries(work.node)) {
            if (tree.lookup(work.id, entry.name) != nullptr)
                malformed("duplicate name in a directory");
            auto seen = known.find(entry.nid);
            if (seen != known.end()) {
                if (tree[seen->second].is_directory()) malformed("directory cycle");
                tree.link(work.id, entry.name, seen->second);
                continue;
            }
            if (known.size() >= kMaxInodes) malformed("too many inodes");
            ErofsNode child = node(entry.nid);
            Inode inode = child.inode;
            bool directory = inode.is_directory();
            if (inode.is_symlink()) inode.target = symlink_target(child);
            if (!inode.is_regular()) inode.size = 0;
            inode.layer = layer;
            InodeId id = tree.create(std::move(inode));
            tree.link(work.id, entry.name, id);
            known.emplace(entry.nid, id);
            if (directory) pending.push_back({std::move(child), id});
        }
    }
    return tree;
}

bool is_valid_erofs(const std::filesystem::path& path) {
    try {
        ErofsReader::open(path);
        return true;
    } catch (const Error&) {
        return false;
    }
}

}  // namespace msb::image
