// An image made in a temporary directory, and hands to change it with.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/fd.h"
#include "base/hash.h"
#include "base/sparse_copy.h"
#include "disk_fixture.h"
#include "image/ext4_format.h"
#include "image/ext4_grow.h"
#include "image/ext4_io.h"
#include "image/ext4_metadata.h"

namespace msb::image {

inline constexpr std::uint64_t kMib = 1 << 20;

class Ext4GrowTest : public DiskTest {
  protected:
    std::filesystem::path path_ = directory_ / "upper.ext4";

    UniqueFd open() const { return UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC)); }

    void format(std::uint64_t size, const Ext4Uuid& uuid = {}) {
        UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        format_ext4(upper_skeleton(), {}, {.size = size, .uuid = uuid}, fd.get());
    }
    void grow(std::uint64_t size) { grow_ext4(open().get(), size); }
    std::string grow_error(std::uint64_t size) {
        return error_of([&] { grow(size); });
    }
    std::string hash() const { return sha256_hex(read_file(path_)); }
    // The same for comparisons between files, without reading their holes: every block that is not zero.
    std::string fingerprint() const {
        UniqueFd fd = open();
        ext4::ImageFile file(fd.get());
        std::string text = std::to_string(file.size());
        for (off_t at = 0; (at = ::lseek(fd.get(), at, SEEK_DATA)) >= 0;) {
            off_t end = ::lseek(fd.get(), at, SEEK_HOLE);
            for (; at < end; at += ext4::kBlockSize) {
                ext4::Block block =
                    file.read_block(static_cast<std::uint64_t>(at) / ext4::kBlockSize);
                if (block == ext4::Block(ext4::kBlockSize)) continue;
                text += "," + std::to_string(at) + ":";
                text.append(reinterpret_cast<const char*>(block.data()), block.size());
            }
        }
        return sha256_hex(text);
    }

    // Changes the primary superblock; `seal` makes its checksum right again.
    template <class Change>
    void edit_super(Change change, bool seal = true) {
        UniqueFd fd = open();
        ext4::ImageFile file(fd.get());
        ext4::Block raw(ext4::kSuperSize);
        file.read(ext4::kSuperOffset, raw);
        change(std::span<std::byte>(raw));
        if (seal) ext4::seal_super(raw);
        file.write(ext4::kSuperOffset, raw);
    }
    template <class Change>
    void edit_block(std::uint64_t number, Change change) {
        UniqueFd fd = open();
        ext4::ImageFile file(fd.get());
        ext4::Block raw = file.read_block(number);
        change(std::span<std::byte>(raw));
        file.write_block(number, raw);
    }
    void copy_to(const std::filesystem::path& target) const {
        UniqueFd from = open();
        UniqueFd to(::open(target.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        ASSERT_EQ(sparse_copy_file(from.get(), to.get()), 0);
    }
};

}  // namespace msb::image
