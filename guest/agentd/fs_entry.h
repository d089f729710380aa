// Directory entries of the fs service.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.h"

namespace msb::agentd {

protocol::FsEntry fs_entry(std::string path, const struct stat& info);

// `directory` joined with `name`, lossily converted to UTF-8.
std::string fs_joined(std::string_view directory, std::string_view name);

// What a response of one frame can hold, with room for the envelope around it.
inline constexpr std::size_t kMaxListingBytes = std::size_t{4} * 1024 * 1024 - 64 * 1024;

// The next entries of an open directory, without "." and "..". Stops after `limit` entries, at the
// end, or, having set `full`, when no more would fit one response. Or the errno of readdir(3).
std::expected<std::vector<protocol::FsEntry>, int> read_entries(DIR* directory,
                                                                const std::string& path,
                                                                std::size_t limit, bool& full);

}  // namespace msb::agentd
