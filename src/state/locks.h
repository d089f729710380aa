// The flock(2) locks of spec/state.md section 2. Parent directories are created on demand; lock files are never removed.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string_view>

#include "base/file_lock.h"
#include "state/home.h"

namespace msb::state {

// How long a launcher, remove or replace waits for the lifecycle lock, and how often it looks.
inline constexpr std::chrono::milliseconds kLifecycleLockWait{5000};
inline constexpr std::chrono::milliseconds kLifecycleLockPoll{50};

// Serialises create, start and remove of one name. Blocks without limit.
FileLock lock_creation(const StateRoots& roots, std::string_view name);

// Ownership of a sandbox: held by the runtime process (inherited as descriptor 99) until it dies. nullopt: someone owns it.
std::optional<FileLock> try_lock_lifecycle(const StateRoots& roots, std::string_view name);
// Throws Error{kSandboxStillRunning} `sandbox "N" runtime still owns its lifecycle lock` after `limit`.
FileLock lock_lifecycle(const StateRoots& roots, std::string_view name,
                        std::chrono::milliseconds limit = kLifecycleLockWait);
// For a runtime started without descriptor 99: blocks until the owner exits.
FileLock lock_lifecycle_blocking(const StateRoots& roots, std::string_view name);

// Volume create and remove, and creation of a sandbox that mounts the volume. Blocks without limit.
FileLock lock_volume(const HomePaths& home, std::string_view volume);

// Opening and migrating the database. Blocks without limit.
// Throws Error{kRuntime} "open migration lock P: E" or "lock migration file P: E".
FileLock lock_migration(const HomePaths& home);

// The lock on a disk image file itself: shared for a read-only attachment, exclusive otherwise, never waiting. Opened
// O_RDONLY or O_RDWR accordingly, without creating it. The runtime inherits the description. `volume` is the named
// volume the image belongs to, empty for a user's own file.
// Throws Error{kInvalidConfig} `volume "N" is already attached with an incompatible disk mode` or
// `disk image "P" is already attached with an incompatible disk mode`; Error{kIo} when it cannot be opened.
FileLock lock_disk_image(const std::filesystem::path& image, bool read_only,
                         std::string_view volume = {});

}  // namespace msb::state
