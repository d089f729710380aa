#include "image/ext4_io.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/fd.h"

namespace msb::image::ext4 {

void unsupported(const std::string& reason) {
    throw Error(ErrorCode::kImage, "unsupported ext4 image: " + reason);
}

std::uint64_t ImageFile::size() const {
    struct stat st{};
    if (::fstat(fd_, &st) != 0) throw_os_error(errno, "stat ext4 image");
    if (!S_ISREG(st.st_mode)) unsupported("not a regular file");
    return static_cast<std::uint64_t>(st.st_size);
}

void ImageFile::resize(std::uint64_t size) const {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) throw_os_error(errno, "size ext4 image");
}

void ImageFile::read(std::uint64_t offset, std::span<std::byte> bytes) const {
    while (!bytes.empty()) {
        ssize_t n = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw_os_error(errno, "read ext4 image");
        if (n == 0) unsupported("file ends early");
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
}

Block ImageFile::read_block(std::uint64_t block) const {
    return read_blocks(block, 1);
}

Block ImageFile::read_blocks(std::uint64_t block, std::size_t count) const {
    Block bytes(count * kBlockSize);
    read(block * kBlockSize, bytes);
    return bytes;
}

void ImageFile::write(std::uint64_t offset, std::span<const std::byte> bytes) const {
    if (int err = pwrite_all(fd_, bytes, offset)) throw_os_error(err, "write ext4 image");
}

void ImageFile::write_block(std::uint64_t block, std::span<const std::byte> bytes) const {
    write(block * kBlockSize, bytes);
}

void ImageFile::erase(std::uint64_t block, std::uint64_t count) const {
    if (::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(block * kBlockSize),
                    static_cast<off_t>(count * kBlockSize)) == 0)
        return;
    Block zero(kBlockSize);
    for (std::uint64_t i = 0; i < count; ++i)
        write_block(block + i, zero);
}

void ImageFile::sync() const {
    if (::fsync(fd_) != 0) throw_os_error(errno, "sync ext4 image");
}

}  // namespace msb::image::ext4
