// Whole-file and whole-tree operations of the fs service. They may take long: worker threads only.
#pragma once

#include <string>

namespace msb::agentd {

// Content and permission bits of a regular file; overwrites. Returns 0, EINVAL when the source is not a
// regular file, or the errno.
int copy_file(const std::string& source, const std::string& destination);

// Removes a directory and everything below it, never following a symbolic link; a symbolic link is
// removed itself, another file is ENOTDIR. Needs one descriptor per level and no recursion.
int remove_tree(const std::string& path);

}  // namespace msb::agentd
