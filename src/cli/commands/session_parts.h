// What captured, interactive and streamed sessions share.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands/session.h"

namespace msb::cli {

// The program and its arguments (spec/cli.md section 4.2); nullopt when there is nothing to run.
std::optional<std::vector<std::string>> resolve_command(const microsandbox::Sandbox& sandbox,
                                                        const Session& session);

// Everything but the timeout and standard input.
microsandbox::ExecOptions exec_options(const Session& session);

std::optional<std::chrono::milliseconds> session_timeout(const Session& session);

}  // namespace msb::cli
