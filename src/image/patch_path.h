// Guest paths of patches and host files that are copied: what both kinds of root check the same way.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace msb::image {

inline constexpr std::size_t kMaxPatchPath = 4096;
inline constexpr std::size_t kMaxPatchName = 255;
inline constexpr std::size_t kMaxPatchDepth = 1024;  // components of one path
inline constexpr std::uint64_t kMaxCopiedEntries = 1'000'000;

[[noreturn]] void patch_failed(const std::string& what);

// The components of a path. Throws Error{kPatchFailed} "patch path must be absolute: 'P'", "patch path must not be '/'",
// "patch path escapes rootfs: 'P'". "." and doubled slashes count for nothing.
std::vector<std::string> parse_patch_path(const std::string& path);
// For directory roots only the canonical spelling: also "patch path must not have a trailing slash: 'P'", "patch path must
// be canonical: 'P'", "patch path must not contain '..': 'P'".
std::vector<std::string> parse_canonical_patch_path(const std::string& path);

// "/a/b" of the first `count` components.
std::string joined_path(std::span<const std::string> components, std::size_t count);

// "symlink patch target must be non-empty and contain no null bytes"
void check_symlink_target(const std::string& target);

// "regular file", "directory", "symlink", "character device", "block device", "fifo", "socket"
std::string_view kind_name(std::uint32_t mode);

// Texts both kinds of root use.
[[noreturn]] void fail_exists(const std::string& path);
[[noreturn]] void fail_not_a_directory(const std::string& parent, std::string_view kind);
[[noreturn]] void fail_entry_exists(std::string_view name);
[[noreturn]] void fail_mkdir(const std::string& path, std::string_view kind);
// `why`: "target is not a regular file"
[[noreturn]] void fail_append(const std::string& path, std::string_view why, std::uint32_t mode);

// A host file to copy. Follows symbolic links; never waits (a fifo is refused, not opened).
// Throws "patch source is not a regular file: X", or X and the OS's text.
struct CopySource {
    UniqueFd fd;
    std::uint32_t permissions = 0;  // 07777
    std::uint64_t size = 0;
};
CopySource open_copy_source(const std::string& path);

// Everything below a host directory, parents before children, without following links. `name` is relative to the
// directory, as components; the directory itself comes first, with none. Regular files are open.
struct CopyEntry {
    std::vector<std::string> name;
    std::uint32_t mode = 0;  // st_mode
    dev_t device = 0;        // identity of directories
    ino_t inode = 0;
    std::string target;  // symbolic links
    CopySource file;     // regular files
};
// Throws "CopyDir source contains an unsupported file type: 'X'", "patch source is not a directory: X", "CopyDir source
// has more than N entries: X", or X and the OS's text.
void walk_copy_source(const std::string& path, const std::function<void(const CopyEntry&)>& visit);

}  // namespace msb::image
