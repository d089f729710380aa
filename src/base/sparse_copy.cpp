#include "base/sparse_copy.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <span>

#include "base/fd.h"

namespace msb {

namespace {

constexpr std::size_t kCopyBuffer = 64 * 1024;
constexpr std::size_t kKernelCopy = 1 << 30;  // at a time; the kernel cuts it at 2 GiB

// In the kernel where it can. Returns 0, an errno, or -1 when the kernel copies nothing here.
int copy_in_kernel(int from, int to, off_t& at, off_t end) {
    while (at < end) {
        off_t source = at;
        off_t target = at;
        auto wanted = static_cast<std::size_t>(std::min<off_t>(end - at, kKernelCopy));
        ssize_t n = ::copy_file_range(from, &source, to, &target, wanted, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT || errno == EIO))
            return errno;
        if (n <= 0) return -1;
        at += n;
    }
    return 0;
}

int copy_through_buffer(int from, int to, off_t at, off_t end) {
    std::array<std::byte, kCopyBuffer> buffer;
    while (at < end) {
        auto wanted = static_cast<std::size_t>(std::min<off_t>(end - at, kCopyBuffer));
        ssize_t n = ::pread(from, buffer.data(), wanted, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        if (n == 0) return EIO;
        if (int err = pwrite_all(to, std::span(buffer).first(static_cast<std::size_t>(n)),
                                 static_cast<std::uint64_t>(at)))
            return err;
        at += n;
    }
    return 0;
}

}  // namespace

int reflink_file(int from, int to) noexcept {
    return ::ioctl(to, FICLONE, from) == 0 ? 0 : errno;
}

int sparse_copy_file(int from, int to) noexcept {
    struct stat st{};
    if (::fstat(from, &st) != 0) return errno;
    if (::ftruncate(to, st.st_size) != 0) return errno;
    for (off_t at = 0; at < st.st_size;) {
        off_t data = ::lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) break;  // the rest is a hole
        if (data < 0) return errno;
        off_t hole = ::lseek(from, data, SEEK_HOLE);
        if (hole < 0) return errno;
        hole = std::min(hole, st.st_size);
        off_t done = data;
        int err = copy_in_kernel(from, to, done, hole);
        if (err < 0) err = copy_through_buffer(from, to, done, hole);
        if (err != 0) return err;
        at = hole;
    }
    return 0;
}

}  // namespace msb
