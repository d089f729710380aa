#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <thread>

#include "base/error.h"

namespace msb {

namespace {

UniqueFd open_lock_file(const std::filesystem::path& path, unsigned mode) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, mode));
    if (!fd) throw_os_error(errno, "open lock " + path.string());
    return fd;
}

// False when somebody else holds the lock and `wait` is off.
bool lock_description(int fd, LockMode lock, bool wait, const std::filesystem::path& path) {
    int operation = lock == LockMode::kShared ? LOCK_SH : LOCK_EX;
    while (::flock(fd, wait ? operation : operation | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return false;
        if (errno != EINTR) throw_os_error(errno, "lock " + path.string());
    }
    return true;
}

}  // namespace

FileLock FileLock::acquire(const std::filesystem::path& path, LockMode lock, unsigned mode) {
    UniqueFd fd = open_lock_file(path, mode);
    lock_description(fd.get(), lock, true, path);
    return FileLock(std::move(fd));
}

std::optional<FileLock> FileLock::try_acquire(const std::filesystem::path& path, LockMode lock,
                                              unsigned mode) {
    UniqueFd fd = open_lock_file(path, mode);
    if (!lock_description(fd.get(), lock, false, path)) return std::nullopt;
    return FileLock(std::move(fd));
}

std::optional<FileLock> FileLock::acquire_within(const std::filesystem::path& path,
                                                 std::chrono::milliseconds limit,
                                                 std::chrono::milliseconds interval, LockMode lock,
                                                 unsigned mode) {
    // flock(2) has no timeout; polling is what every cooperating launcher does (spec/state.md
    // section 2).
    UniqueFd fd = open_lock_file(path, mode);
    auto deadline = std::chrono::steady_clock::now() + limit;
    while (!lock_description(fd.get(), lock, false, path)) {
        if (std::chrono::steady_clock::now() >= deadline) return std::nullopt;
        std::this_thread::sleep_for(interval);
    }
    return FileLock(std::move(fd));
}

FileLock FileLock::adopt(UniqueFd fd) {
    return FileLock(std::move(fd));
}

}  // namespace msb
