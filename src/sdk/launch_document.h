// From a stored configuration to what `msb sandbox` is told (spec/sandbox-process.md sections 2 to 4).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_lock.h"
#include "contract/launch_config.h"
#include "contract/process_args.h"
#include "sdk/local_backend.h"
#include "state/sandbox_config.h"

namespace msb::sdk {

// Throws what this build cannot run, before anything is changed: Error{kUnsupported} for directory roots and for
// directory, file and named mounts.
void require_runnable(const state::SandboxConfig& config);

// The file a disk's path leads to. Throws Error{kInvalidConfig} "disk image host path does not exist: P (<os error>)".
std::string canonical_disk_path(const std::string& path);

// entrypoint + cmd, `override` replacing cmd. Empty lists count as unset. Throws Error{kNoDefaultCommand},
// Error{kInvalidConfig} `cmd token at index 1 contains a NUL byte` (`cmd override` for the override).
std::vector<std::string> default_command(
    const state::SandboxConfig& config,
    const std::optional<std::vector<std::string>>& override = {});

// Locks the image files the sandbox attaches, writable ones exclusively (spec/filesystem.md section 17.3). The
// descriptions are for the sandbox process to inherit.
// Throws Error{kInvalidConfig} for conflicts and for one file attached twice.
std::vector<FileLock> lock_disks(const state::SandboxConfig& config);

// `startup`: the background workload of this launch, empty for none.
contract::LaunchConfig launch_config(const LocalBackend& backend,
                                     const state::SandboxConfig& config, int network_slot,
                                     const std::vector<std::string>& startup);

contract::ProcessArgs process_args(const state::SandboxConfig& config, std::int64_t sandbox_id,
                                   bool detached);

}  // namespace msb::sdk
