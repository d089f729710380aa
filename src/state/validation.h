// Limits and messages of spec/state.md section 8 and spec/sdk.md section 4.1. Every function throws
// Error{kInvalidConfig} with the exact text, or returns normally.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "state/home.h"
#include "state/sandbox_config.h"

namespace msb::state {

inline constexpr std::size_t kMaxHostnameBytes = 64;
inline constexpr std::size_t kMaxSecretPlaceholderBytes = 1024;

// Empty names differ in text: the builder's and a stored row's.
enum class NameOrigin { kBuilder, kStored };
void validate_sandbox_name(std::string_view name, NameOrigin origin = NameOrigin::kBuilder);
void validate_volume_name(std::string_view name);

void validate_hostname(std::string_view hostname);  // an explicit one
// The default: the name if it fits in 64 bytes, else its first 55 bytes, '-', 8 hex of its SHA-256.
std::string derived_hostname(std::string_view name);

void validate_label_key(std::string_view key);
bool is_reserved_label_key(
    std::string_view key);  // empty or a reserved prefix: image labels are dropped
void validate_labels(const std::map<std::string, std::string>& labels);
void validate_env(const std::vector<EnvVar>& env);
void validate_resources(const Resources& resources);
// Source present, root disk rules, patches fit the image. Touches no file.
void validate_image(const SandboxConfig& config);
// Source present; bind path and disk image exist and have the right type.
void validate_image_source(const SandboxConfig& config);
void validate_root_disk(const OciImage& image, const SandboxConfig& config);
void validate_rlimits(const std::vector<Rlimit>& rlimits);
// Normalises every guest path, checks all mounts, then sorts them by (component count, path).
void validate_and_sort_mounts(std::vector<Mount>& mounts);
// "/x//y/" -> "/x/y". Throws for a relative path, '..', separators ':' ';' ',' and the root.
std::string normalize_guest_mount_path(std::string_view guest);
void validate_init(const InitConfig& init);
void validate_vsock(const std::vector<VsockRoute>& routes, DeploymentProfile profile);
void validate_secrets(const SecretsConfig& secrets);
// entrypoint and cmd: `entrypoint executable must not be empty`, `cmd token at index 1 contains a NUL byte`.
void validate_command(const RuntimeOptions& runtime);

// Everything in the builder's order (sdk.md section 4.1); normalises and sorts the mounts.
void validate_builder(SandboxConfig& config);
// What create and start check again: hostname, name + socket length, image source, env, labels, mounts, init.
void validate_for_create(SandboxConfig& config, const StateRoots& roots,
                         NameOrigin origin = NameOrigin::kBuilder);

}  // namespace msb::state
