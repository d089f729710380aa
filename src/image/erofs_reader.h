// Reads the EROFS images this folder and upstream write (spec/images.md section 9.2): uncompressed 64-byte inodes, plain
// and inline data, inline xattrs. Anything else is refused. Offsets and counts are never trusted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "image/file_tree.h"

namespace msb::image {

// A node as it stands in the image.
struct ErofsNode {
    std::uint32_t nid = 0;
    Inode inode;  // without children and data; start_block is set for regular files
    std::uint64_t data_offset = 0;  // in the image file; 0 when there is none
    std::uint64_t inline_offset = 0;
    std::uint64_t inline_size = 0;
};

class ErofsReader {
  public:
    // Maps the image; the cache directory is ours, so a file that shrinks under the map is not expected.
    // Throws Error{kImage} "not a usable EROFS image: ..." when it is not a valid artifact (section 6).
    static ErofsReader open(const std::filesystem::path& path);
    static ErofsReader from_fd(int fd);
    explicit ErofsReader(std::span<const std::byte> image);  // not owned; for tests and fuzzing
    ErofsReader(ErofsReader&& other) noexcept;
    ErofsReader& operator=(ErofsReader&&) = delete;
    ~ErofsReader();

    std::uint32_t blocks() const { return static_cast<std::uint32_t>(image_.size() / 4096); }
    std::uint32_t root() const { return root_nid_; }

    ErofsNode node(std::uint32_t nid) const;
    struct Entry {
        std::string name;
        std::uint32_t nid;
    };
    std::vector<Entry> entries(const ErofsNode& directory) const;
    std::string symlink_target(const ErofsNode& node) const;
    // A regular file's bytes, straight from the image.
    std::span<const std::byte> file_data(const ErofsNode& node) const;
    // The same by what load() keeps of a regular file: Inode::start_block and size.
    std::span<const std::byte> data_at(std::uint32_t start_block, std::uint64_t size) const;

    // The whole tree; hard links are one inode. `layer` is recorded in every regular file.
    // Throws Error{kImage} on cycles, too many inodes, or anything malformed.
    FileTree load(std::uint32_t layer = 0) const;

  private:
    std::span<const std::byte> range(std::uint64_t offset, std::uint64_t length) const;
    std::vector<std::byte> content(const ErofsNode& node) const;
    void read_super_block();
    std::vector<Xattr> read_xattrs(std::uint64_t offset, std::uint64_t length) const;

    std::span<const std::byte> image_;
    bool mapped_ = false;
    std::uint32_t root_nid_ = 0;
    std::uint64_t meta_offset_ = 0;
};

// Whether the file is a valid artifact: what makes a cache entry a hit.
bool is_valid_erofs(const std::filesystem::path& path);

}  // namespace msb::image
