#include "runtime/rotating_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

namespace msb::runtime {

int RotatingFile::open() {
    UniqueFd fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!fd) return errno;
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) return errno;
    size_ = static_cast<std::uint64_t>(info.st_size);
    fd_ = std::move(fd);
    return 0;
}

// Renames, never copies: readers follow inodes. A rename that fails leaves the live file growing, which is better than
// losing lines.
void RotatingFile::rotate() {
    const std::string base = path_.string();
    for (int n = contract::kLogRotatedFiles; n >= 1; --n) {
        const std::string from = n == 1 ? base : base + "." + std::to_string(n - 1);
        (void)::rename(from.c_str(), (base + "." + std::to_string(n)).c_str());
    }
    (void)open();
}

int RotatingFile::write(std::string_view record) {
    if (!fd_) return EBADF;
    if (size_ + record.size() > limit_ && size_ > 0) rotate();
    const int error = write_all(fd_.get(), record);
    if (error == 0) {
        size_ += record.size();
        return 0;
    }
    struct stat info{};
    if (::fstat(fd_.get(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) > size_) {
        // Part of the record is on disk: cut it off again, so that the file stays made of whole lines.
        [[maybe_unused]] const int best_effort = ::ftruncate(fd_.get(), static_cast<off_t>(size_));
    }
    return error;
}

}  // namespace msb::runtime
