#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/error.h"

namespace msb {

void UniqueFd::reset(int fd) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

PipeFds make_pipe() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) throw_os_error(errno, "create pipe");
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

std::pair<UniqueFd, UniqueFd> make_socketpair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0)
        throw_os_error(errno, "create socket pair");
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

UniqueFd duplicate(int fd) {
    int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) throw_os_error(errno, "duplicate descriptor");
    return UniqueFd(copy);
}

void set_cloexec(int fd, bool on) {
    int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0 || ::fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC) != 0)
        throw_os_error(errno, "set close-on-exec");
}

void set_nonblocking(int fd, bool on) {
    int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) != 0)
        throw_os_error(errno, "set non-blocking");
}

std::string read_to_end(int fd, std::size_t limit) {
    std::string content;
    std::array<char, 65536> chunk;
    for (;;) {
        ssize_t n = ::read(fd, chunk.data(), chunk.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw_os_error(errno);
        if (n == 0) return content;
        if (content.size() + static_cast<std::size_t>(n) > limit)
            throw Error(ErrorCode::kIo,
                        "input exceeds the limit of " + std::to_string(limit) + " bytes");
        content.append(chunk.data(), static_cast<std::size_t>(n));
    }
}

std::string read_file(const std::filesystem::path& path, std::size_t limit) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) throw_os_error(errno);
    return read_to_end(fd.get(), limit);
}

int write_all(int fd, std::span<const std::byte> data) noexcept {
    while (!data.empty()) {
        ssize_t n = ::write(fd, data.data(), data.size());
        if (n >= 0) {
            data = data.subspan(static_cast<std::size_t>(n));
        } else if (errno == EAGAIN) {
            pollfd ready{fd, POLLOUT, 0};
            if (::poll(&ready, 1, -1) < 0 && errno != EINTR) return errno;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

int write_all(int fd, std::string_view data) noexcept {
    return write_all(fd, std::as_bytes(std::span(data.data(), data.size())));
}

int pwrite_all(int fd, std::span<const std::byte> data, std::uint64_t offset) noexcept {
    while (!data.empty()) {
        ssize_t n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
        if (n >= 0) {
            data = data.subspan(static_cast<std::size_t>(n));
            offset += static_cast<std::uint64_t>(n);
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

std::ptrdiff_t read_exactly(int fd, std::span<std::byte> data) noexcept {
    std::size_t done = 0;
    while (done < data.size()) {
        ssize_t n = ::read(fd, data.data() + done, data.size() - done);
        if (n > 0) {
            done += static_cast<std::size_t>(n);
        } else if (n == 0) {
            break;
        } else if (errno == EAGAIN) {
            pollfd ready{fd, POLLIN, 0};
            if (::poll(&ready, 1, -1) < 0 && errno != EINTR) return -errno;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return static_cast<std::ptrdiff_t>(done);
}

void publish_file(const std::filesystem::path& path, std::string_view content, unsigned mode) {
    std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
    std::string temporary = (directory / ("." + path.filename().string() + ".XXXXXX")).string();
    UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd) throw_os_error(errno, "create a temporary file in " + directory.string());
    auto fail = [&](int err, const char* what) {
        ::unlink(temporary.c_str());
        throw_os_error(err, std::string(what) + " " + path.string());
    };
    if (int err = write_all(fd.get(), content)) fail(err, "write");
    if (::fchmod(fd.get(), mode) != 0) fail(errno, "set mode of");
    if (::fsync(fd.get()) != 0) fail(errno, "fsync");
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail(errno, "publish");
    UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (parent) ::fsync(parent.get());
}

}  // namespace msb
