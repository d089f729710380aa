// Who we are to a registry (spec/images.md section 3.2).
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "image/registry_auth.h"

namespace msb::image {

// `registries.hosts.<host>.auth` of config.json: exactly one source must be set.
struct ConfiguredAuth {
    std::string username;
    std::optional<std::string> store;         // "keyring"
    std::optional<std::string> password_env;  // variable of this process
    std::optional<std::string> secret_name;   // file in CredentialSources::secrets_directory
};

struct CredentialSources {
    std::optional<BasicCredentials> explicit_credentials;
    bool anonymous = false;                            // nothing below is asked
    std::map<std::string, ConfiguredAuth> configured;  // by registry name
    std::filesystem::path secrets_directory;           // <home>/secrets/registries
    // The folder of Docker's config.json; nullopt: $DOCKER_CONFIG, else ~/.docker.
    std::optional<std::filesystem::path> docker_config_directory;
    std::chrono::milliseconds helper_timeout{30'000};
};

inline constexpr std::size_t kMaxDockerConfigBytes = 4 << 20;
inline constexpr std::size_t kMaxHelperOutput = 64 * 1024;
inline constexpr std::size_t kMaxSecretBytes = 64 * 1024;

// The first source that has something for the registry; nullopt is anonymous.
// Throws Error{kInvalidConfig} "registry auth for R: ..." for a faulty entry of config.json. A faulty Docker config or
// helper counts as having nothing; the log says so.
std::optional<BasicCredentials> resolve_credentials(const CredentialSources& sources,
                                                    const std::string& registry,
                                                    std::stop_token stop);

}  // namespace msb::image
