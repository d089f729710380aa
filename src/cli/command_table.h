// Pieces of the command table that live in files of their own.
#pragma once

#include "cli/model.h"

namespace msb::cli {

extern const std::span<const std::span<const Arg>> kRunArgs;
extern const std::span<const std::span<const Arg>> kCreateArgs;

}  // namespace msb::cli
