// SandboxConfig: the JSON document in sandbox.config and sandbox.active_config (spec/state.md section 9).
//
// Reading is strict about types, tags and duplicate keys, lenient about unknown keys (which a rewrite drops). Writing is
// compact, in upstream's key order, byte for byte. Defaults below are those of a missing key.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "state/mount_config.h"
#include "state/network_config.h"

namespace msb::state {

// --- Root image --------------------------------------------------------------------------------------------------

struct BindImage {
    std::string path;
    bool follow_root_symlinks = false;

    bool operator==(const BindImage&) const = default;
};

struct ManagedRootDisk {
    std::optional<std::uint32_t> size_mib;
    bool operator==(const ManagedRootDisk&) const = default;
};
struct TmpfsRootDisk {
    std::optional<std::uint32_t> size_mib;
    bool operator==(const TmpfsRootDisk&) const = default;
};
struct DiskImageRootDisk {
    std::string path;
    DiskFormat format = DiskFormat::kRaw;
    std::optional<std::string> fstype;
    bool operator==(const DiskImageRootDisk&) const = default;
};
enum class CloneStrategy : std::uint8_t { kAuto, kCopy, kReflink };
struct FlatRootDisk {
    std::optional<std::uint32_t> size_mib;
    std::optional<std::string> fstype;
    CloneStrategy clone = CloneStrategy::kAuto;
    bool operator==(const FlatRootDisk&) const = default;
};
using RootDisk = std::variant<ManagedRootDisk, TmpfsRootDisk, DiskImageRootDisk, FlatRootDisk>;

inline constexpr std::uint32_t kDefaultManagedRootDiskMib = 4096;

struct OciImage {
    std::string reference;
    std::optional<RootDisk> root_disk;

    bool operator==(const OciImage&) const = default;
};

struct DiskImage {
    std::string path;
    DiskFormat format = DiskFormat::kRaw;
    std::optional<std::string> fstype;

    bool operator==(const DiskImage&) const = default;
};

using Image = std::variant<OciImage, BindImage, DiskImage>;

// --- Sections ----------------------------------------------------------------------------------------------------

enum class CpuPlacement : std::uint8_t { kInherit, kAuto, kSpread, kCompact };
enum class ThpPolicy : std::uint8_t { kMadvise, kAlways, kNever };
enum class ConfigLogLevel : std::uint8_t { kError, kWarn, kInfo, kDebug, kTrace };
enum class PullPolicy : std::uint8_t { kIfMissing, kAlways, kNever };
enum class SecurityProfile : std::uint8_t { kDefault, kRestricted };
enum class DeploymentProfile : std::uint8_t { kSingleTenant, kMultiTenant };

std::string_view to_string(CpuPlacement placement);     // "inherit" ...
std::string_view to_string(ThpPolicy policy);           // "madvise" ...
std::string_view to_string(ConfigLogLevel level);       // "error" ...
std::string_view to_string(PullPolicy policy);          // "IfMissing" ...
std::string_view to_string(SecurityProfile profile);    // "default", "restricted"
std::string_view to_string(DeploymentProfile profile);  // "single_tenant", "multi_tenant"

struct Resources {
    std::uint8_t cpus = 1;
    std::uint32_t memory_mib = 512;
    std::uint8_t max_cpus = 1;           // = cpus when the key is absent
    std::uint32_t max_memory_mib = 512;  // = memory_mib when the key is absent
    CpuPlacement cpu_placement = CpuPlacement::kInherit;
    std::optional<std::string> placement_profile;
    ThpPolicy thp = ThpPolicy::kMadvise;

    bool operator==(const Resources&) const = default;
};

struct RuntimeOptions {
    std::optional<std::string> workdir;
    std::optional<std::string> shell;
    std::map<std::string, std::string> scripts;  // name -> whole body
    std::optional<std::vector<std::string>> entrypoint;
    std::optional<std::vector<std::string>> cmd;
    std::optional<std::string> hostname;
    std::optional<std::string> user;
    std::optional<ConfigLogLevel> log_level;
    std::optional<std::uint64_t> metrics_sample_interval_ms = 1000;  // nullopt and 0: off
    bool disable_metrics_sample = false;

    bool operator==(const RuntimeOptions&) const = default;
};

struct EnvVar {
    std::string key;
    std::string value;

    bool operator==(const EnvVar&) const = default;
};

enum class RlimitResource : std::uint8_t {
    kCpu,
    kFsize,
    kData,
    kStack,
    kCore,
    kRss,
    kNproc,
    kNofile,
    kMemlock,
    kAs,
    kLocks,
    kSigpending,
    kMsgqueue,
    kNice,
    kRtprio,
    kRttime,
};
std::string_view to_string(RlimitResource resource);  // "Nofile": documents
std::string_view rlimit_name(
    RlimitResource resource);  // "nofile": messages, launch JSON, command line
std::optional<RlimitResource> parse_rlimit_name(std::string_view name);  // case-insensitive

struct Rlimit {
    RlimitResource resource = RlimitResource::kNofile;
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;

    bool operator==(const Rlimit&) const = default;
};

// Patches: changes baked into the root file system at create.
struct TextPatch {
    std::string path, content;
    std::optional<std::uint32_t> mode;
    bool replace = false;
    bool operator==(const TextPatch&) const = default;
};
struct FilePatch {
    std::string path;
    std::string content;  // bytes
    std::optional<std::uint32_t> mode;
    bool replace = false;
    bool operator==(const FilePatch&) const = default;
};
struct CopyFilePatch {
    std::string src, dst;
    std::optional<std::uint32_t> mode;
    bool replace = false;
    bool operator==(const CopyFilePatch&) const = default;
};
struct CopyDirPatch {
    std::string src, dst;
    bool replace = false;
    bool operator==(const CopyDirPatch&) const = default;
};
struct SymlinkPatch {
    std::string target, link;
    bool replace = false;
    bool operator==(const SymlinkPatch&) const = default;
};
struct MkdirPatch {
    std::string path;
    std::optional<std::uint32_t> mode;
    bool operator==(const MkdirPatch&) const = default;
};
struct RemovePatch {
    std::string path;
    bool operator==(const RemovePatch&) const = default;
};
struct AppendPatch {
    std::string path, content;
    bool operator==(const AppendPatch&) const = default;
};
using Patch = std::variant<TextPatch, FilePatch, CopyFilePatch, CopyDirPatch, SymlinkPatch,
                           MkdirPatch, RemovePatch, AppendPatch>;

enum class VsockType : std::uint8_t { kStream, kDatagram };
struct VsockRoute {
    std::string host_socket;
    std::uint32_t port = 0;
    VsockType socket_type = VsockType::kStream;

    bool operator==(const VsockRoute&) const = default;
};

// Hand-off of PID 1.
struct InitConfig {
    std::string cmd;  // absolute path or "auto"
    std::vector<std::string> args;
    std::vector<std::pair<std::string, std::string>> env;

    bool operator==(const InitConfig&) const = default;
};

struct LifecycleOptions {
    bool ephemeral = false;
    std::optional<std::uint64_t> max_duration_secs;
    std::optional<std::uint64_t> idle_timeout_secs;

    bool operator==(const LifecycleOptions&) const = default;
};

struct SandboxConfig {
    std::string name;
    Image image = OciImage{};
    Resources resources;
    RuntimeOptions runtime;
    std::vector<EnvVar> env;  // order kept; duplicates may be stored
    std::map<std::string, std::string> labels;
    std::vector<Rlimit> rlimits;
    std::vector<Mount> mounts;
    std::vector<Patch> patches;
    NetworkConfig network;
    std::vector<VsockRoute> vsock;
    std::optional<InitConfig> init;
    PullPolicy pull_policy = PullPolicy::kIfMissing;
    SecurityProfile security_profile = SecurityProfile::kDefault;
    DeploymentProfile deployment_profile = DeploymentProfile::kSingleTenant;
    LifecycleOptions lifecycle;
    std::optional<std::string> manifest_digest;

    bool operator==(const SandboxConfig&) const = default;
};

// Throws Error{kJson} with serde's text.
SandboxConfig parse_sandbox_config(std::string_view text);
// Compact, key order of section 9, no trailing newline.
std::string write_sandbox_config(const SandboxConfig& config);

// What may be stored: values of secrets that have a source are emptied (section 10).
SandboxConfig persisted_form(SandboxConfig config);

// The text `msb list` and friends show as IMAGE: reference, path; "-" for a document that does not parse.
std::string image_display(std::string_view config_json);
std::string image_display(const Image& image);

}  // namespace msb::state
