// config.json, shared by two readers with different failure behaviour (spec/state.md section 11), and what follows from
// it: the data home, default values, the backend.
//
//  - The profile reader (load_profiles) fails on any syntax or type error of its own part.
//  - The local reader (load_local_config) fails on nothing: any error in its part silently discards the whole local
//    configuration. (A syntax error has stopped the profile reader before.)
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "state/database.h"
#include "state/home.h"
#include "state/sandbox_config.h"

namespace msb::state {

struct SandboxDefaults {
    std::uint8_t cpus = 1;
    std::uint32_t memory_mib = 512;
    CpuPlacement cpu_placement = CpuPlacement::kInherit;
    std::optional<std::string> placement_profile;
    ThpPolicy thp = ThpPolicy::kMadvise;
    std::optional<RootDisk> oci_root_disk;
    std::optional<std::uint32_t> oci_upper_size_mib;  // deprecated spelling of a managed root disk
    std::string shell = "/bin/sh";
    std::optional<std::string> workdir;
    std::uint64_t metrics_sample_interval_ms = 1000;  // 0: off
    bool disable_metrics_sample = false;

    bool operator==(const SandboxDefaults&) const = default;
};

struct BlockWriteback {
    enum class Mode : std::uint8_t { kAuto, kFixed, kOff } mode = Mode::kAuto;
    std::optional<std::uint64_t> per_disk_mib;  // of kFixed
    std::optional<std::uint64_t> pool_mib;      // of kAuto and kFixed

    bool operator==(const BlockWriteback&) const = default;
};

struct PlacementProfile {
    enum class Numa : std::uint8_t { kPreferSingle, kStrictSingle, kInherit } numa = Numa::kInherit;
    enum class Memory : std::uint8_t { kFollowCpu, kInherit } memory = Memory::kInherit;

    bool operator==(const PlacementProfile&) const = default;
};

struct RegistryAuth {
    std::string username;
    std::optional<std::string> store;         // "keyring"
    std::optional<std::string> password_env;  // host variable
    std::optional<std::string> secret_name;   // file under secrets/registries

    bool operator==(const RegistryAuth&) const = default;
};

struct RegistryHost {
    bool insecure = false;
    std::optional<RegistryAuth> auth;

    bool operator==(const RegistryHost&) const = default;
};

struct LocalConfig {
    std::optional<std::filesystem::path> home;
    std::optional<ConfigLogLevel> log_level;
    std::optional<DeploymentProfile> deployment_profile;
    std::optional<std::string> database_url;  // parsed, never used
    DatabaseOptions database;
    std::optional<std::filesystem::path> msb_path;  // paths.msb
    std::optional<std::filesystem::path> libkrunfw_path;
    PathOverrides paths;
    SandboxDefaults sandbox_defaults;
    BlockWriteback block_writeback;
    std::map<std::string, PlacementProfile> placement_profiles;
    std::optional<std::filesystem::path> registry_ca_certs;
    std::map<std::string, RegistryHost> registry_hosts;
    std::uint64_t ssh_inactivity_timeout_secs = 600;  // 0: never
    std::uint32_t metrics_capacity = 0;               // 0: 1024 slots

    // The data home (config.json `home`, else environment_home()) with the path overrides.
    HomePaths home_paths() const;

    bool operator==(const LocalConfig&) const = default;
};

inline constexpr std::size_t kMaxConfigBytes = 16 << 20;  // far beyond any real file; bounds memory

// The local part of config.json. Missing file: defaults. Unreadable, wrong syntax or any type error: defaults, silently.
LocalConfig load_local_config();
LocalConfig load_local_config(const std::filesystem::path& file);
// The same, but a problem is Error{kInvalidConfig} "failed to parse config `P`: ..." (registry subcommands).
LocalConfig load_local_config_strict(const std::filesystem::path& file);
LocalConfig parse_local_config(std::string_view text);  // throws Error{kJson}

// The rules of `sandbox_defaults` and `runtime.block_writeback` that are checked when a sandbox is
// built from them: throws Error{kInvalidConfig}.
void validate_sandbox_defaults(const LocalConfig& config);
// The root disk an OCI sandbox gets when it names none: sandbox_defaults.oci.*, else managed 4096.
RootDisk default_root_disk(const SandboxDefaults& defaults);
// Sizes that depend on other values are filled in (managed 4096; tmpfs max(1, memory/2)); flat stays for the image code.
RootDisk resolve_root_disk(RootDisk disk, std::uint32_t memory_mib);

// --- Backend -------------------------------------------------------------------------------------------------------

struct Backend {
    enum class Kind : std::uint8_t { kLocal, kCloud } kind = Kind::kLocal;
    std::string source =
        "default";  // MSB_BACKEND, MSB_API_KEY, MSB_PROFILE, active_profile, default
    std::optional<std::string> profile;
    std::optional<std::string> api_url;
};

// Chooses from MSB_BACKEND, MSB_PROFILE, config.json (sdk.md section 3.1). Reads config.json unless MSB_BACKEND=local.
// Throws Error{kInvalidConfig}: "failed to read SDK config at P: E", "failed to parse SDK config at P: E", the profile errors.
// Credentials of a cloud choice are checked here as upstream does, and never kept.
Backend choose_backend();
// Throws Error{kUnsupported} "<operation> is not supported by this backend: use a local backend" unless the choice is
// local: this implementation only runs sandboxes on this machine. `operation` is one of sdk.md section 2.2, e.g.
// "Sandbox::create".
void require_local_backend(const Backend& backend, std::string_view operation);

}  // namespace msb::state
