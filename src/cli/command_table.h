// Pieces of the command table that live in files of their own.
#pragma once

#include "cli/model.h"

namespace msb::cli {

extern const std::span<const std::span<const Arg>> kRunArgs;
extern const std::span<const std::span<const Arg>> kCreateArgs;

// command_table_image.cpp; the last three are hidden.
extern const Command kImageCommand;
extern const Command kPullCommand;
extern const Command kLoadCommand;
extern const Command kSaveCommand;
extern const Command kRegistryCommand;
extern const Command kImagesCommand;
extern const Command kRmiCommand;
extern const Command kRegistriesCommand;

}  // namespace msb::cli
