// What a SandboxBuilder has collected.
#pragma once

#include <microsandbox/builder.h>

#include <optional>
#include <string>
#include <vector>

#include "sdk/launcher.h"
#include "sdk/local_backend.h"
#include "state/sandbox_config.h"

namespace microsandbox {

struct ImageBuilder::Impl {
    enum class Kind { kNone, kOci, kDisk, kBind } kind = Kind::kNone;
    std::string text;
    std::optional<DiskFormat> format;
    std::optional<std::string> fstype;
    std::optional<std::uint32_t> upper_size;
    bool follow_root_symlinks = false;
    std::optional<std::string> error;  // the first misuse

    void fail(std::string text);
    // The configuration's image, or the error.
    std::optional<msb::state::Image> finish(std::string& problem) const;
};

struct RootDiskBuilder::Impl {
    enum class Kind { kManaged, kTmpfs, kFlat, kDisk } kind = Kind::kManaged;
    std::optional<std::uint32_t> size;
    std::string path;
    std::optional<DiskFormat> format;
    std::optional<std::string> fstype;
    CloneStrategy clone = CloneStrategy::kAuto;
    std::optional<std::string> error;

    void fail(std::string text);
    void choose(Kind wanted, std::string_view call);
    std::optional<msb::state::RootDisk> finish(std::string& problem) const;
};

struct MountBuilder::Impl {
    enum class Kind { kNone, kBind, kNamed, kTmpfs, kDisk } kind = Kind::kNone;
    std::string source;
    std::optional<std::uint32_t> size;
    std::optional<std::uint32_t> quota;
    std::optional<DiskFormat> format;
    std::optional<std::string> fstype;
    msb::state::MountOptions options;
    std::optional<msb::state::StatVirtualization> stat_virtualization;
    std::optional<msb::state::HostPermissions> host_permissions;
    bool follow_root_symlinks = false;
    bool owner_set = false;

    std::optional<msb::state::Mount> finish(const std::string& guest, std::string& problem) const;
};

struct SandboxBuilder::Impl {
    msb::state::SandboxConfig config;
    bool from_document = false;  // nothing is defaulted from config.json then
    bool image_set = false;
    std::optional<std::string> error;  // the first one, for Error{kInvalidConfig}

    // Set by the caller, else defaulted when built.
    std::optional<std::uint8_t> cpus, max_cpus;
    std::optional<std::uint32_t> memory, max_memory;
    std::optional<CpuPlacement> cpu_placement;
    std::optional<std::string> placement_profile;
    std::optional<TransparentHugepages> thp;
    std::optional<std::string> workdir, shell;
    std::optional<std::chrono::milliseconds> metrics_interval;
    bool metrics_disabled = false;
    std::optional<std::optional<LogLevel>> log_level;
    std::optional<DeploymentProfile> deployment_profile;

    msb::sdk::LaunchOptions launch;

    void fail(std::string text);
    // Defaults from config.json, then every check that only reads.
    msb::state::SandboxConfig build(const msb::sdk::LocalBackend& backend) const;
};

}  // namespace microsandbox
