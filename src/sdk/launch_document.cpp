#include "sdk/launch_document.h"

#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "contract/mount_spec.h"
#include "sdk/oci_root.h"
#include "state/config_json.h"
#include "state/ipc_paths.h"
#include "state/locks.h"
#include "state/validation.h"

namespace msb::sdk {

namespace {

template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};

[[noreturn]] void unsupported(const std::string& operation, const std::string& reason) {
    throw Error(ErrorCode::kUnsupported,
                operation + " is not supported by this backend: " + reason);
}

protocol::MountFlags flags_of(const state::MountOptions& options) {
    return {options.readonly, options.noexec, options.nosuid, options.nodev};
}

void check_argv(const std::vector<std::string>& argv, const std::string& origin,
                bool program_first) {
    if (program_first && argv.front().empty())
        throw Error(ErrorCode::kInvalidConfig, origin + " executable must not be empty");
    for (std::size_t i = 0; i < argv.size(); ++i) {
        if (argv[i].find('\0') != std::string::npos)
            throw Error(ErrorCode::kInvalidConfig,
                        origin + " token at index " + std::to_string(i) + " contains a NUL byte");
    }
}

contract::CpuPlacement placement(state::CpuPlacement value) {
    switch (value) {
        case state::CpuPlacement::kInherit:
            return contract::CpuPlacement::kInherit;
        case state::CpuPlacement::kAuto:
            return contract::CpuPlacement::kAuto;
        case state::CpuPlacement::kSpread:
            return contract::CpuPlacement::kSpread;
        case state::CpuPlacement::kCompact:
            return contract::CpuPlacement::kCompact;
    }
    return contract::CpuPlacement::kInherit;
}

contract::TransparentHugepage hugepages(state::ThpPolicy value) {
    switch (value) {
        case state::ThpPolicy::kAlways:
            return contract::TransparentHugepage::kAlways;
        case state::ThpPolicy::kMadvise:
            return contract::TransparentHugepage::kMadvise;
        case state::ThpPolicy::kNever:
            return contract::TransparentHugepage::kNever;
    }
    return contract::TransparentHugepage::kMadvise;
}

contract::PlacementProfile placement_profile(const state::PlacementProfile& profile) {
    using Numa = state::PlacementProfile::Numa;
    contract::PlacementProfile result;
    result.numa = profile.numa == Numa::kPreferSingle   ? contract::NumaMode::kPreferSingle
                  : profile.numa == Numa::kStrictSingle ? contract::NumaMode::kStrictSingle
                                                        : contract::NumaMode::kInherit;
    result.memory = profile.memory == state::PlacementProfile::Memory::kFollowCpu
                        ? contract::MemoryPlacement::kFollowCpu
                        : contract::MemoryPlacement::kInherit;
    return result;
}

void add_root(contract::LaunchConfig& launch, const LocalBackend& backend,
              const state::SandboxConfig& config) {
    if (std::holds_alternative<state::OciImage>(config.image))
        return add_oci_root(launch, backend, config);
    const auto& image =
        std::get<state::DiskImage>(config.image);  // require_runnable() let nothing else through
    launch.rootfs.disk = canonical_disk_path(image.path);
    launch.rootfs.disk_format = std::string(state::disk_format_token(image.format));
    launch.bootstrap.block_root = protocol::DiskImageRoot{"/dev/vda", image.fstype};
}

void add_mounts(contract::LaunchConfig& launch, const state::SandboxConfig& config) {
    for (const state::Mount& mount : config.mounts) {
        if (const auto* tmpfs = std::get_if<state::TmpfsMount>(&mount)) {
            launch.bootstrap.tmpfs_mounts.push_back(
                {tmpfs->guest, tmpfs->size_mib, std::nullopt, flags_of(tmpfs->options)});
        } else if (const auto* disk = std::get_if<state::DiskImageMount>(&mount)) {
            const std::string id = contract::mount_tag(disk->guest);
            contract::DiskSpec spec;
            spec.id = id;
            spec.host_path = canonical_disk_path(disk->host);
            spec.format = *contract::parse_disk_format(state::disk_format_token(disk->format));
            spec.read_only = disk->options.readonly;
            launch.disks.push_back(contract::format_disk_spec(spec));
            launch.bootstrap.disk_mounts.push_back(
                {id, disk->guest, disk->fstype, flags_of(disk->options)});
        }
    }
}

void add_guest(contract::LaunchConfig& launch, const state::SandboxConfig& config) {
    protocol::Bootstrap& guest = launch.bootstrap;
    guest.hostname = config.runtime.hostname.value_or(state::derived_hostname(config.name));
    guest.user = config.runtime.user;
    guest.default_cwd = config.runtime.workdir;
    for (const state::EnvVar& entry : config.env)
        guest.default_env.push_back({entry.key, entry.value});
    for (const state::Rlimit& limit : config.rlimits)
        guest.rlimits.push_back(
            {std::string(state::rlimit_name(limit.resource)), limit.soft, limit.hard});
    guest.security_profile = config.security_profile == state::SecurityProfile::kRestricted
                                 ? protocol::SecurityProfile::kRestricted
                                 : protocol::SecurityProfile::kDefault;
    if (config.init) {
        protocol::HandoffInit init{config.init->cmd, config.init->args, std::nullopt, {}};
        for (const auto& [key, value] : config.init->env)
            init.env.push_back({key, value});
        guest.handoff_init = std::move(init);
    }
}

contract::StartupCommand startup_command(const state::SandboxConfig& config,
                                         const std::vector<std::string>& argv) {
    contract::StartupCommand startup;
    startup.cmd = argv.front();
    startup.args.assign(argv.begin() + 1, argv.end());
    for (const state::EnvVar& entry : config.env)
        startup.env.push_back(entry.key + "=" + entry.value);
    startup.cwd = config.runtime.workdir;
    startup.user = config.runtime.user;
    return startup;
}

}  // namespace

std::string canonical_disk_path(const std::string& path) {
    std::error_code error;
    std::filesystem::path full = std::filesystem::canonical(path, error);
    if (error)
        throw Error(ErrorCode::kInvalidConfig, "disk image host path does not exist: " + path +
                                                   " (" + os_error_text(error.value()) + ")");
    return full.string();
}

void require_runnable(const state::SandboxConfig& config) {
    if (std::holds_alternative<state::BindImage>(config.image))
        unsupported(
            "Sandbox::create",
            "directory roots need virtio-fs, which this build does not have yet; use a disk "
            "image, for example ./root.raw");
    for (const state::Mount& mount : config.mounts) {
        if (std::holds_alternative<state::BindMount>(mount) ||
            std::holds_alternative<state::NamedMount>(mount))
            unsupported("Sandbox::create",
                        "mounting host directories, files and named volumes needs virtio-fs, which "
                        "this build does not have yet; use a tmpfs or disk image mount for " +
                            state::guest_path(mount));
    }
}

std::vector<std::string> default_command(const state::SandboxConfig& config,
                                         const std::optional<std::vector<std::string>>& override) {
    const std::vector<std::string> none;
    const std::vector<std::string>& entrypoint =
        config.runtime.entrypoint ? *config.runtime.entrypoint : none;
    const std::vector<std::string>& cmd = override             ? *override
                                          : config.runtime.cmd ? *config.runtime.cmd
                                                               : none;
    const std::string cmd_origin = override ? "cmd override" : "cmd";
    if (entrypoint.empty() && cmd.empty())
        throw Error(ErrorCode::kNoDefaultCommand,
                    "sandbox has no default command; configure an entrypoint or cmd, or execute a "
                    "literal command");
    if (!entrypoint.empty()) check_argv(entrypoint, "entrypoint", true);
    if (!cmd.empty()) check_argv(cmd, cmd_origin, entrypoint.empty());
    std::vector<std::string> argv = entrypoint;
    argv.insert(argv.end(), cmd.begin(), cmd.end());
    return argv;
}

std::vector<FileLock> lock_disks(const state::SandboxConfig& config) {
    struct Attachment {
        std::string path, label;
        bool read_only;
    };
    std::vector<Attachment> attachments;
    auto attach = [&](const std::string& path, const std::string& kind, bool read_only) {
        attachments.push_back({canonical_disk_path(path), kind + " " + path, read_only});
    };
    if (const auto* image = std::get_if<state::DiskImage>(&config.image))
        attach(image->path, "disk image rootfs", false);
    if (const auto* oci = std::get_if<state::OciImage>(&config.image); oci && oci->root_disk) {
        if (const auto* disk = std::get_if<state::DiskImageRootDisk>(&*oci->root_disk))
            attach(disk->path, "disk image rootfs", false);
    }
    for (const state::Mount& mount : config.mounts) {
        if (const auto* disk = std::get_if<state::DiskImageMount>(&mount))
            attach(disk->host, "disk image", disk->options.readonly);
    }
    std::map<std::string, std::string> seen;
    std::vector<FileLock> locks;
    for (const Attachment& one : attachments) {
        auto [first, fresh] = seen.emplace(one.path, one.label);
        if (!fresh)
            throw Error(ErrorCode::kInvalidConfig,
                        "disk images cannot be attached more than once per sandbox: " + one.path +
                            " (" + first->second + "; " + one.label + ")");
        locks.push_back(state::lock_disk_image(one.path, one.read_only));
    }
    return locks;
}

contract::LaunchConfig launch_config(const LocalBackend& backend,
                                     const state::SandboxConfig& config, int network_slot,
                                     const std::vector<std::string>& startup) {
    const state::HomePaths& paths = backend.paths;
    contract::LaunchConfig launch;
    launch.db_path = std::filesystem::absolute(paths.database());
    launch.db_connect_timeout_secs =
        static_cast<std::uint64_t>(backend.config.database.connect_timeout.count());
    launch.log_dir = std::filesystem::absolute(paths.sandbox_logs(config.name));
    launch.runtime_dir = std::filesystem::absolute(paths.sandbox_runtime(config.name));
    launch.sandboxes_dir = std::filesystem::absolute(paths.sandboxes());
    launch.run_dir = std::filesystem::absolute(paths.run());
    launch.cpu_lease_dir = std::filesystem::absolute(paths.cpu_leases());
    launch.writeback_lease_dir = std::filesystem::absolute(paths.writeback_leases());
    launch.cpu_placement = placement(config.resources.cpu_placement);
    if (config.resources.placement_profile) {
        launch.placement_profile_name = config.resources.placement_profile;
        auto found = backend.config.placement_profiles.find(*config.resources.placement_profile);
        if (found == backend.config.placement_profiles.end())
            throw Error(ErrorCode::kInvalidConfig,
                        "placement profile `" + *config.resources.placement_profile +
                            "` is not defined in runtime.placement_profiles");
        launch.placement_profile = placement_profile(found->second);
    }
    launch.agent_sock =
        std::filesystem::absolute(state::IpcPaths::of(backend.roots, config.name).agent);
    launch.thp = hugepages(config.resources.thp);
    if (!startup.empty()) launch.startup = startup_command(config, startup);
    launch.max_duration_secs = config.lifecycle.max_duration_secs;
    launch.idle_timeout_secs = config.lifecycle.idle_timeout_secs;
    launch.metrics.sample_interval_ms = config.runtime.metrics_sample_interval_ms.value_or(0);
    launch.metrics.disabled = config.runtime.disable_metrics_sample;
    add_root(launch, backend, config);
    add_mounts(launch, config);
    add_guest(launch, config);
    launch.network = contract::NetworkDocument{config.network.enabled,
                                               json::dump(state::to_json(config.network)), ""};
    launch.deployment_profile = config.deployment_profile == state::DeploymentProfile::kMultiTenant
                                    ? contract::DeploymentProfile::kMultiTenant
                                    : contract::DeploymentProfile::kSingleTenant;
    launch.sandbox_slot = static_cast<std::uint64_t>(network_slot);
    for (const state::VsockRoute& route : config.vsock)
        launch.vsock.push_back({route.host_socket, route.port,
                                route.socket_type == state::VsockType::kDatagram
                                    ? contract::VsockType::kDatagram
                                    : contract::VsockType::kStream});
    return launch;
}

contract::ProcessArgs process_args(const state::SandboxConfig& config, std::int64_t sandbox_id,
                                   bool detached) {
    contract::ProcessArgs args;
    args.name = config.name;
    args.sandbox_id = static_cast<std::int32_t>(sandbox_id);
    if (config.runtime.log_level)
        args.log_level = std::string(to_string(*config.runtime.log_level));
    args.vcpus = config.resources.cpus;
    args.memory_mib = config.resources.memory_mib;
    if (config.resources.max_cpus > config.resources.cpus)
        args.max_vcpus = config.resources.max_cpus;
    if (config.resources.max_memory_mib > config.resources.memory_mib)
        args.max_memory_mib = config.resources.max_memory_mib;
    args.config_fd = contract::kConfigFd;
    args.lifecycle_lock_fd = contract::kLifecycleLockFd;
    if (detached)
        args.startup_fd = contract::kStartupFd;
    else
        args.parent_watch_fd = contract::kParentWatchFd;
    return args;
}

}  // namespace msb::sdk
