// Completion scripts for shells, made from the command table.
#pragma once

#include <string>
#include <string_view>

#include "cli/model.h"

namespace msb::cli {

// `shell` is bash, elvish, fish, powershell or zsh. Sandbox names are completed with `msb list -q`.
std::string completion_script(const Command& root, std::string_view shell);

}  // namespace msb::cli
