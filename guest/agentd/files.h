// Reading and writing files of an image nobody vouches for: a FIFO, a device or an endless file where
// a text file is expected must not stop an agent that runs as root and single-threaded.
#pragma once

#include <sys/types.h>

#include <expected>
#include <string>
#include <string_view>

namespace msb::agentd {

// Largest /etc/passwd, /etc/group, ... the agent reads.
inline constexpr std::size_t kMaxTextFile = std::size_t{16} << 20;

// The content of a regular file, or the errno (EINVAL: not a regular file, EFBIG: over the limit).
std::expected<std::string, int> read_regular(const std::string& path,
                                             std::size_t limit = kMaxTextFile);

// The content of a kernel pseudo file (sysfs, procfs), "" when it cannot be read.
std::string read_kernel_file(const std::string& path, std::size_t limit = kMaxTextFile);

// Creates or truncates and writes through symbolic links. Returns 0 or the errno.
int write_file(const std::string& path, std::string_view content, mode_t mode);
// Opens for append, creating with `mode`.
int append_file(const std::string& path, std::string_view content, mode_t mode);

// mkdir -p; existing directories are left alone. Returns 0 or the errno.
int make_directories(const std::string& path, mode_t mode = 0755);

bool is_directory(const std::string& path);  // follows symbolic links
bool exists(const std::string& path);        // follows symbolic links
std::string parent_path(const std::string& path);

}  // namespace msb::agentd
