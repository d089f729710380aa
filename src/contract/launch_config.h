// What a launcher (SDK, CLI, upstream SDKs) tells `msb sandbox`: the JSON document of descriptor 96 and the older argv
// form, both read into one structure (spec/sandbox-process.md sections 4 and 19).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.h"

namespace msb::contract {

enum class CpuPlacement { kInherit, kAuto, kSpread, kCompact };
enum class TransparentHugepage { kAlways, kMadvise, kNever };
enum class DeploymentProfile { kSingleTenant, kMultiTenant };
enum class NumaMode { kPreferSingle, kStrictSingle, kInherit };
enum class MemoryPlacement { kFollowCpu, kInherit };
enum class VsockType { kStream, kDatagram };

std::string_view to_string(CpuPlacement value) noexcept;  // "inherit", "auto", "spread", "compact"
std::string_view to_string(TransparentHugepage value) noexcept;  // "always", "madvise", "never"

struct PlacementProfile {
    NumaMode numa = NumaMode::kInherit;
    MemoryPlacement memory = MemoryPlacement::kInherit;
    bool operator==(const PlacementProfile&) const = default;
};

// A background workload the sandbox process starts itself once the guest is ready.
struct StartupCommand {
    std::string cmd;
    std::vector<std::string> args;
    std::vector<std::string> env;  // "KEY=VALUE"
    std::optional<std::string> cwd;
    std::optional<std::string> user;
    bool operator==(const StartupCommand&) const = default;
};

struct MetricsSlot {
    std::string shm_name;
    std::uint32_t slot = 0;
    std::uint64_t generation = 0;
    bool operator==(const MetricsSlot&) const = default;
};

struct MetricsConfig {
    std::uint64_t sample_interval_ms = 1000;
    bool disabled = false;
    std::optional<MetricsSlot> slot;
    // No sampling at all: the slot is then ignored.
    bool off() const noexcept { return disabled || sample_interval_ms == 0; }
    bool operator==(const MetricsConfig&) const = default;
};

// Which of the fields decide: see rootfs selection in section 4.2.
struct Rootfs {
    std::optional<std::filesystem::path> path;  // directory served by virtio-fs
    bool follow_root_symlinks = false;
    std::optional<std::filesystem::path> disk;
    std::optional<std::string> disk_format;  // absent = raw
    bool disk_readonly = false;
    std::optional<std::filesystem::path> upper;
    std::optional<std::string> upper_format;  // absent = raw
    bool operator==(const Rootfs&) const = default;
};

// The network document is not interpreted here: `config` and `outbound_proxy` are its compact JSON text ("" = absent).
// It may hold secret values: never log it.
struct NetworkDocument {
    bool enabled = true;         // key `enabled` of `config`
    std::string config = "{}";   // NetworkConfig object
    std::string outbound_proxy;  // 0.6.18 envelope only
    bool operator==(const NetworkDocument&) const = default;
};

struct FileMountSpec {
    std::string mount;  // grammar of mount_spec.h; the host path is the file itself
    std::string filename;
    bool operator==(const FileMountSpec&) const = default;
};

struct VsockRoute {
    std::filesystem::path host_socket;
    std::uint32_t port = 0;
    VsockType type = VsockType::kStream;
    bool operator==(const VsockRoute&) const = default;
};

struct LaunchConfig {
    std::filesystem::path db_path;
    std::uint64_t db_connect_timeout_secs = 30;
    std::filesystem::path log_dir;
    std::filesystem::path runtime_dir;
    std::filesystem::path sandboxes_dir;
    std::filesystem::path run_dir;  // "" = inferred, see effective_run_dir()
    std::filesystem::path cpu_lease_dir;
    std::filesystem::path writeback_lease_dir;
    CpuPlacement cpu_placement = CpuPlacement::kInherit;
    std::optional<std::string> placement_profile_name;
    std::optional<PlacementProfile> placement_profile;
    std::filesystem::path agent_sock;
    std::filesystem::path
        libkrunfw_path;  // carried for upstream launchers; this engine has no use for it
    TransparentHugepage thp = TransparentHugepage::kMadvise;
    std::optional<std::uint64_t> block_writeback_limit_bytes;
    std::optional<std::uint64_t> block_writeback_pool_bytes;
    std::optional<StartupCommand> startup;
    std::optional<std::uint64_t> max_duration_secs;
    std::optional<std::uint64_t> idle_timeout_secs;
    MetricsConfig metrics;
    Rootfs rootfs;
    std::vector<std::string> mounts;  // grammar of mount_spec.h, parsed at boot
    std::vector<FileMountSpec> file_mounts;
    std::vector<std::string> disks;  // grammar of mount_spec.h
    std::optional<std::filesystem::path> init_path;
    protocol::Bootstrap bootstrap;  // Bytes inside are owned
    std::optional<std::filesystem::path> exec_path;
    std::vector<std::string> exec_args;
    std::optional<NetworkDocument> network;  // nullopt: networking on, default policy
    DeploymentProfile deployment_profile = DeploymentProfile::kSingleTenant;
    std::uint64_t sandbox_slot = 0;
    std::vector<VsockRoute> vsock;

    bool network_enabled() const noexcept { return !network || network->enabled; }
    bool operator==(const LaunchConfig&) const = default;
};

// what() is the part after "invalid launch config: ", e.g. "missing field `lifecycle` at line 1 column 812".
class LaunchConfigError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A document larger than this is refused (a launch document with many secrets and mounts stays far below).
inline constexpr std::size_t kMaxLaunchConfigBytes = 64u << 20;

// Reads 0.6.14, 0.6.18 and 0.5.10 documents (both network generations; `env`/`workdir` instead of `bootstrap`).
// Throws LaunchConfigError. Does not touch the file system.
LaunchConfig parse_launch_config(std::string_view json);

// Compact JSON of the 0.6.18 generation, keys in the order of section 4.5.
std::string write_launch_config(const LaunchConfig& config);

// `run_dir`, or what section 7 infers when it is empty.
std::filesystem::path effective_run_dir(const LaunchConfig& config);

// The `placement_profile_name` check of section 4.1: "placement profile `N` is not defined in
// runtime.placement_profiles", nullopt when fine.
std::optional<std::string> placement_profile_problem(const LaunchConfig& config);

}  // namespace msb::contract
