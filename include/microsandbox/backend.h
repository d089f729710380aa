// Where sandboxes live. This build has the local backend only.
#pragma once

#include <microsandbox/error.h>
#include <microsandbox/export.h>

#include <filesystem>
#include <optional>
#include <string>

namespace microsandbox {

struct BackendInfo {
    std::string kind;  // "local"
    std::optional<std::string> api_url;
    std::string source;  // MSB_BACKEND, MSB_PROFILE, active_profile, default
    std::optional<std::string> profile;
};

// Which backend the environment and config.json select (spec/sdk.md section 3.1). Throws Error{kInvalidConfig} when the
// selection is contradictory, Error{kUnsupported} when it is a cloud backend.
MICROSANDBOX_API BackendInfo backend_info();

// $MSB_HOME, else ~/.microsandbox.
MICROSANDBOX_API std::filesystem::path home_directory();

// The program SandboxBuilder::create would start as `msb sandbox`; Error{kRuntime} when there is none.
MICROSANDBOX_API std::filesystem::path runtime_binary();

}  // namespace microsandbox
