// Whole-file flock(2) locks. The existence of a lock file means nothing; only a held lock does.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>

#include "base/fd.h"

namespace msb {

enum class LockMode { kShared, kExclusive };

// The lock lives as long as the open file description: also in processes that inherit the
// descriptor.
class FileLock {
  public:
    // Opens (creating with `mode`, never truncating) and locks, waiting as long as it takes. Throws
    // Error{kIo}.
    static FileLock acquire(const std::filesystem::path& path, LockMode lock = LockMode::kExclusive,
                            unsigned mode = 0666);
    // nullopt when another description holds it.
    static std::optional<FileLock> try_acquire(const std::filesystem::path& path,
                                               LockMode lock = LockMode::kExclusive,
                                               unsigned mode = 0666);
    // Polls every `interval` until `limit` has passed; nullopt then.
    static std::optional<FileLock> acquire_within(
        const std::filesystem::path& path, std::chrono::milliseconds limit,
        std::chrono::milliseconds interval = std::chrono::milliseconds(50),
        LockMode lock = LockMode::kExclusive, unsigned mode = 0666);
    // Takes over a description that already holds a lock (descriptor 99 of the launch contract).
    static FileLock adopt(UniqueFd fd);

    int fd() const noexcept { return fd_.get(); }
    UniqueFd release_fd() noexcept { return std::move(fd_); }

  private:
    explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace msb
