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

UniqueFd make_unnamed_file(const std::filesystem::path& directory) noexcept {
    UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    // Not every file system makes files without names.
    std::string name = directory.native() + "/unnamed-XXXXXX";
    fd.reset(::mkostemp(name.data(), O_CLOEXEC));
    if (fd) ::unlink(name.c_str());
    return fd;
}

int sync_directory(const std::filesystem::path& directory) noexcept {
    UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd && ::fsync(fd.get()) == 0 ? 0 : errno;
}

ReplacementFile::ReplacementFile(std::filesystem::path target)
    : target_(std::move(target)),
      directory_(target_.has_parent_path() ? target_.parent_path() : "."),
      temporary_((directory_ / ("." + target_.filename().string() + ".XXXXXX")).native()),
      fd_(::mkostemp(temporary_.data(), O_CLOEXEC)) {}

ReplacementFile::~ReplacementFile() {
    if (fd_ && !temporary_.empty()) ::unlink(temporary_.c_str());
}

int ReplacementFile::publish(unsigned mode, bool durable) noexcept {
    if (::fchmod(fd_.get(), mode) != 0 || (durable && ::fsync(fd_.get()) != 0) ||
        ::rename(temporary_.c_str(), target_.c_str()) != 0)
        return errno;
    temporary_.clear();
    if (durable) sync_directory(directory_);
    return 0;
}

void publish_file(const std::filesystem::path& path, std::string_view content, unsigned mode) {
    ReplacementFile file(path);
    if (file.fd() < 0)
        throw_os_error(errno, "create a temporary file in " + file.directory().string());
    if (int err = write_all(file.fd(), content)) throw_os_error(err, "write " + path.string());
    if (int err = file.publish(mode, true)) throw_os_error(err, "publish " + path.string());
}

}  // namespace msb
