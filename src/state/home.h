// Where everything lives: the home directory and every path below it (spec/state.md section 1).
//
// Nothing here touches the file system except where a function says so; no directory is created ahead of need.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace msb::state {

// Unix socket paths on Linux hold at most 107 bytes and a NUL (sun_path[108]).
inline constexpr std::size_t kMaxSocketPathBytes = 108;  // a path must be shorter than this
inline constexpr std::size_t kMaxSandboxNameBytes = 128;

// First 24 / 32 lowercase hex digits of SHA-256 over the name: the parts of socket and lock paths.
std::string h24(std::string_view name);
std::string h32(std::string_view name);

// The home directory by the environment alone: $MSB_HOME verbatim (relative stays relative, empty counts as unset), else
// $HOME/.microsandbox (the passwd home when HOME is unset), else ./.microsandbox. This is the home that locates
// config.json and the TLS authority; the data home can differ (config.json `home`, see global_config.h).
std::filesystem::path environment_home();

// $MSB_CONFIG_PATH (empty counts as unset), else environment_home()/config.json.
std::filesystem::path config_file_path();

// config.json `paths.*`: directories that replace the default ones.
struct PathOverrides {
    std::optional<std::filesystem::path> cache;
    std::optional<std::filesystem::path> sandboxes;
    std::optional<std::filesystem::path> volumes;
    std::optional<std::filesystem::path> snapshots;
    std::optional<std::filesystem::path> logs;
    std::optional<std::filesystem::path> secrets;

    bool operator==(const PathOverrides&) const = default;
};

// The two roots the sandbox process knows (it gets them in its launch JSON, not a home).
struct StateRoots {
    std::filesystem::path run;        // <home>/run
    std::filesystem::path sandboxes;  // <home>/sandboxes or paths.sandboxes
};

// Every path of section 1.1. Value type; cheap to copy.
class HomePaths {
  public:
    explicit HomePaths(std::filesystem::path home, PathOverrides overrides = {});

    const std::filesystem::path& home() const { return home_; }

    std::filesystem::path database_dir() const;        // db/
    std::filesystem::path database() const;            // db/msb.db
    std::filesystem::path migration_lock() const;      // db/msb.db.migration.lock
    std::filesystem::path downgrade_journals() const;  // db/self-downgrade/

    std::filesystem::path sandboxes() const;
    std::filesystem::path sandbox_dir(std::string_view name) const;
    std::filesystem::path sandbox_upper(std::string_view name) const;      // upper.ext4
    std::filesystem::path sandbox_flat_root(std::string_view name) const;  // rootfs.raw
    std::filesystem::path sandbox_logs(std::string_view name) const;       // logs/
    std::filesystem::path sandbox_runtime(std::string_view name) const;    // runtime/
    std::filesystem::path sandbox_scripts(std::string_view name) const;    // runtime/scripts/
    std::filesystem::path sandbox_ssh(std::string_view name) const;        // ssh/ (0700)

    std::filesystem::path volumes() const;
    std::filesystem::path volume_dir(std::string_view name) const;
    std::filesystem::path volume_disk(std::string_view name) const;  // <volume>/disk.raw
    std::filesystem::path volume_lock(std::string_view name) const;  // volumes/.locks/<name>.lock

    std::filesystem::path snapshots() const;
    std::filesystem::path cache() const;
    std::filesystem::path logs() const;
    std::filesystem::path secrets() const;
    std::filesystem::path registry_secret(
        std::string_view secret_name) const;  // secrets/registries/<name>
    std::filesystem::path tls() const;
    std::filesystem::path ssh() const;
    std::filesystem::path bin() const;
    std::filesystem::path lib() const;

    std::filesystem::path run() const;
    std::filesystem::path creation_lock(
        std::string_view name) const;  // run/creation-locks/<h32>.lock
    std::filesystem::path lifecycle_lock(std::string_view name) const;  // run/locks/<h32>.lock
    std::filesystem::path cpu_leases() const;                           // run/cpu-leases/ (0700)
    std::filesystem::path writeback_leases() const;  // run/writeback-leases/ (0700)

    StateRoots roots() const { return {run(), sandboxes()}; }

    // "/msb-met-<16 hex FNV-1a-64 of the home path bytes>-v3", the POSIX shared memory of the metrics registry.
    std::string metrics_shm_name() const;

  private:
    std::filesystem::path home_;
    PathOverrides overrides_;
};

// The same from the roots alone.
std::filesystem::path lifecycle_lock_path(const StateRoots& roots, std::string_view name);
std::filesystem::path creation_lock_path(const StateRoots& roots, std::string_view name);

// Throws Error{kInvalidConfig} "sandbox runtime socket path is too long: shortest derived path is N bytes, ..." when
// agent.sock or control.sock of the sandbox would not fit a socket address. Both must, before any state is written.
void check_socket_path_length(const StateRoots& roots, std::string_view name);

}  // namespace msb::state
