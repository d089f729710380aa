// The writable disk of a sandbox with a layered OCI root: `<sandbox dir>/upper.ext4` (spec/images.md section 12).
//
// A raw sparse ext4 file system with /upper and /work in it, which overlayfs in the guest takes as upper and work
// directory. Formatting one takes a few milliseconds and about a megabyte whatever its size, because blocks that hold
// nothing stay holes; so no master is kept and every disk gets its own UUID.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "image/patch.h"

namespace msb::image {

// Makes `path`, replacing what is there, with `size_mib` MiB (state::kDefaultManagedRootDiskMib by default). It appears
// whole or not at all; a killed process leaves at most `<path>.part`, which the next call replaces.
// Throws Error{kCustom} "failed to create upper.ext4: <reason>", e.g. "... invalid ext4 image size: block group 1 has ...".
void create_upper(const std::filesystem::path& path, std::uint32_t size_mib,
                  const UpperContent& content);
// Without patches.
void create_upper(const std::filesystem::path& path, std::uint32_t size_mib);

// Makes `path` from a captured upper (a snapshot's): a reflink, else a sparse copy. Not grown.
// Throws Error{kCustom} "failed to create upper.ext4: <reason>".
void create_upper_from(const std::filesystem::path& captured, const std::filesystem::path& path);

// Before each start and at `modify`: grows the file when it is smaller than `size_mib`, and leaves a larger one alone.
// Returns whether it grew. Nobody else may have the file open. A file that was not cleanly unmounted is replayed first.
// Throws Error{kCustom}: "failed to grow upper.ext4: <reason>"; "cannot grow oci upper size to T MiB: the existing
// upper.ext4 can grow to at most M MiB; recreate the sandbox for a larger upper".
bool grow_upper(const std::filesystem::path& path, std::uint32_t size_mib);

// What `modify` answers to a smaller size: "root disk size A MiB is smaller than the current B MiB; shrink is not
// supported (recreate the sandbox instead)".
std::string shrink_refusal(std::uint32_t requested_mib, std::uint32_t current_mib);

}  // namespace msb::image
