// From the flags of `run` and `create` to the SDK's builder.
#pragma once

#include <microsandbox/builder.h>

#include <string>

#include "cli/commands/commands.h"
#include "cli/create_options.h"

namespace msb::cli {

microsandbox::SandboxBuilder make_builder(const std::string& name, const CreateOptions& options,
                                          const Globals& globals);

}  // namespace msb::cli
