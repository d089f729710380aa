#include "agentd/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"

namespace msb::agentd {

namespace {

std::expected<std::string, int> read_all(int fd, std::size_t limit) {
    std::string content;
    std::array<char, 4096> chunk;
    for (;;) {
        ssize_t n = ::read(fd, chunk.data(), chunk.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return std::unexpected(errno);
        if (n == 0) return content;
        if (content.size() + static_cast<std::size_t>(n) > limit) return std::unexpected(EFBIG);
        content.append(chunk.data(), static_cast<std::size_t>(n));
    }
}

int write_opened(const std::string& path, std::string_view content, int flags, mode_t mode) {
    // O_NONBLOCK: opening a FIFO without a reader fails instead of waiting for one.
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | flags, mode));
    if (!fd) return errno;
    return write_all(fd.get(), content);
}

}  // namespace

std::expected<std::string, int> read_regular(const std::string& path, std::size_t limit) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd) return std::unexpected(errno);
    struct stat info;
    if (::fstat(fd.get(), &info) != 0) return std::unexpected(errno);
    if (!S_ISREG(info.st_mode)) return std::unexpected(EINVAL);
    return read_all(fd.get(), limit);
}

std::string read_kernel_file(const std::string& path, std::size_t limit) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return {};
    return read_all(fd.get(), limit).value_or(std::string());
}

int write_file(const std::string& path, std::string_view content, mode_t mode) {
    return write_opened(path, content, O_TRUNC, mode);
}

int append_file(const std::string& path, std::string_view content, mode_t mode) {
    return write_opened(path, content, O_APPEND, mode);
}

int make_directories(const std::string& path, mode_t mode) {
    if (::mkdir(path.c_str(), mode) == 0) return 0;
    if (errno == EEXIST) return is_directory(path) ? 0 : EEXIST;
    if (errno != ENOENT) return errno;
    for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
        if (::mkdir(path.substr(0, at).c_str(), mode) != 0 && errno != EEXIST) return errno;
    }
    if (::mkdir(path.c_str(), mode) == 0) return 0;
    int err = errno;
    return err == EEXIST && is_directory(path) ? 0 : err;
}

bool is_directory(const std::string& path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool exists(const std::string& path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
}

std::string parent_path(const std::string& path) {
    std::size_t end = path.find_last_not_of('/');
    if (end == std::string::npos) return path.empty() ? "." : "/";
    std::size_t slash = path.rfind('/', end);
    if (slash == std::string::npos) return ".";
    std::size_t last = path.find_last_not_of('/', slash);
    return last == std::string::npos ? "/" : path.substr(0, last + 1);
}

}  // namespace msb::agentd
