#include "state/locks.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/error.h"
#include "base/text.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

// Modes of the lock files before the umask (spec/state.md section 1.1).
constexpr unsigned kPrivateLockMode = 0600;
constexpr unsigned kSharedLockMode = 0666;

void create_parent(const fs::path& file) {
    std::error_code error;
    fs::create_directories(file.parent_path(), error);
    if (error) throw_os_error(error.value(), "create directory " + file.parent_path().string());
}

[[noreturn]] void still_owned(std::string_view name) {
    throw Error(ErrorCode::kSandboxStillRunning,
                "sandbox " + msb::quoted(name) + " runtime still owns its lifecycle lock");
}

// 0, or the errno of flock(2); EINTR is retried.
int lock_fd(int fd, int operation) {
    while (::flock(fd, operation) != 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

}  // namespace

FileLock lock_creation(const StateRoots& roots, std::string_view name) {
    const fs::path path = creation_lock_path(roots, name);
    create_parent(path);
    return FileLock::acquire(path, LockMode::kExclusive, kPrivateLockMode);
}

std::optional<FileLock> try_lock_lifecycle(const StateRoots& roots, std::string_view name) {
    const fs::path path = lifecycle_lock_path(roots, name);
    create_parent(path);
    return FileLock::try_acquire(path, LockMode::kExclusive, kSharedLockMode);
}

FileLock lock_lifecycle(const StateRoots& roots, std::string_view name,
                        std::chrono::milliseconds limit) {
    const fs::path path = lifecycle_lock_path(roots, name);
    create_parent(path);
    auto lock = FileLock::acquire_within(path, limit, kLifecycleLockPoll, LockMode::kExclusive,
                                         kSharedLockMode);
    if (!lock) still_owned(name);
    return std::move(*lock);
}

FileLock lock_lifecycle_blocking(const StateRoots& roots, std::string_view name) {
    const fs::path path = lifecycle_lock_path(roots, name);
    create_parent(path);
    return FileLock::acquire(path, LockMode::kExclusive, kSharedLockMode);
}

FileLock lock_volume(const HomePaths& home, std::string_view volume) {
    const fs::path path = home.volume_lock(volume);
    create_parent(path);
    return FileLock::acquire(path, LockMode::kExclusive, kSharedLockMode);
}

FileLock lock_migration(const HomePaths& home) {
    const fs::path path = home.migration_lock();
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kSharedLockMode));
    if (!fd)
        throw Error(ErrorCode::kRuntime,
                    "open migration lock " + path.string() + ": " + os_error_text(errno));
    if (int error = lock_fd(fd.get(), LOCK_EX))
        throw Error(ErrorCode::kRuntime,
                    "lock migration file " + path.string() + ": " + os_error_text(error));
    return FileLock::adopt(std::move(fd));
}

FileLock lock_disk_image(const fs::path& image, bool read_only, std::string_view volume) {
    UniqueFd fd(::open(image.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY));
    if (!fd) throw_os_error(errno, "open disk image " + image.string());
    const int error = lock_fd(fd.get(), (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB);
    if (error == EWOULDBLOCK) {
        const std::string what = volume.empty() ? "disk image " + msb::quoted(image.string())
                                                : "volume " + msb::quoted(volume);
        throw Error(ErrorCode::kInvalidConfig,
                    what + " is already attached with an incompatible disk mode");
    }
    if (error != 0) throw_os_error(error, "lock disk image " + image.string());
    return FileLock::adopt(std::move(fd));
}

}  // namespace msb::state
