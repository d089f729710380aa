// Changing config.json, which belongs to the user and has keys that this program does not know.
//
// A change is a read, an edit of the document and the publication of a whole new file, under a lock, so that of two
// programs that change it at once neither undoes the other. Everything else in the file stays: unknown keys, the order of
// keys, numbers; only the layout becomes the pretty form (2 spaces a level).
#pragma once

#include <filesystem>
#include <string>

#include "state/global_config.h"

namespace msb::state {

// Takes `registries.hosts.<host>.auth` away, and the host's entry if nothing else is in it. False, and nothing is
// written, when there is none.
//
// `file` may be a symbolic link: what it points to is replaced, with its mode and, when we may, its owner kept. The lock is
// flock(2) on "<file>.lock" beside it (mode 0600), which stays.
// Throws Error{kInvalidConfig} "failed to parse config `P`: ..." for a document that the local reader would discard (it is
// left as it is), Error{kIo} when it cannot be read or written.
bool remove_registry_auth(const std::filesystem::path& file, const std::string& host);

}  // namespace msb::state
