// The sandbox's own mounts: host directories and files, disks, tmpfs
// (spec/guest-agent.md section 5.3).
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "protocol/messages.h"

namespace msb::agentd {

using UserMount = std::variant<protocol::DirMount, protocol::FileMount, protocol::DiskMount,
                               protocol::TmpfsMount>;

// The path as it was asked for.
const std::string& mount_path(const UserMount& mount);

// Collapses "//", "." and a trailing '/'. Throws Failure for relative paths, ".." and "/".
std::string normalized_mount_path(const std::string& path);

// All mounts of a bootstrap, parents before children, with the security profile applied.
// Throws Failure when two share a path or a file would contain another mount.
std::vector<UserMount> plan_user_mounts(const protocol::Bootstrap& bootstrap);

// Data of a tmpfs: "size=16777216,mode=1777".
std::string tmpfs_data(const protocol::TmpfsMount& mount);

// Performs the plan. Throws Failure.
void mount_user_mounts(const std::vector<UserMount>& plan);

}  // namespace msb::agentd
