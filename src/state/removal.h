// Private to state: deleting a sandbox's directory.
#pragma once

#include <string_view>

#include "state/home.h"

namespace msb::state {

// Removes <sandboxes>/<name> with everything in it; missing is success. Symlinks are removed, never followed. A name that
// could not have been created (it might point outside of the directory) is refused.
// Throws Error{kInvalidConfig} or Error{kIo}.
void remove_sandbox_directory(const StateRoots& roots, std::string_view name);

}  // namespace msb::state
