#include "cli/commands/create_builder.h"

#include <microsandbox/sandbox.h>
#include <sys/stat.h>

#include <algorithm>
#include <limits>

#include "base/log.h"

namespace msb::cli {

namespace {

using namespace microsandbox;

std::chrono::seconds to_seconds(std::uint64_t seconds) {
    // The SDK counts in signed 64-bit seconds.
    constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
    return std::chrono::seconds(static_cast<std::int64_t>(std::min(seconds, kMost)));
}

void set_resources(SandboxBuilder& builder, const CreateOptions& options) {
    if (options.cpus) builder.cpus(*options.cpus);
    if (options.max_cpus) builder.max_cpus(*options.max_cpus);
    if (options.memory_mib) builder.memory(*options.memory_mib);
    if (options.max_memory_mib) builder.max_memory(*options.max_memory_mib);
    if (options.cpu_placement)
        builder.cpu_placement(options.cpu_placement == "auto"      ? CpuPlacement::kAuto
                              : options.cpu_placement == "spread"  ? CpuPlacement::kSpread
                              : options.cpu_placement == "compact" ? CpuPlacement::kCompact
                                                                   : CpuPlacement::kInherit);
    if (options.placement_profile) builder.placement_profile(*options.placement_profile);
    if (options.thp)
        builder.thp(options.thp == "always"  ? TransparentHugepages::kAlways
                    : options.thp == "never" ? TransparentHugepages::kNever
                                             : TransparentHugepages::kMadvise);
}

DiskFormat to_format(const std::string& name) {
    return name == "qcow2"  ? DiskFormat::kQcow2
           : name == "vmdk" ? DiskFormat::kVmdk
                            : DiskFormat::kRaw;
}

void set_conf_image(SandboxBuilder& builder, const ConfImage& conf) {
    if (conf.kind == ConfImage::Kind::kText) {
        builder.image(conf.text);
        return;
    }
    if (conf.kind == ConfImage::Kind::kSnapshot)
        fail_value("`image.snapshot` in a configuration file is not supported by this build yet");
    builder.image_with([&](ImageBuilder& image) {
        if (conf.kind == ConfImage::Kind::kOci) image.oci(conf.text);
        if (conf.kind == ConfImage::Kind::kDisk) image.disk(conf.text);
        if (conf.kind == ConfImage::Kind::kBind) image.bind(conf.text);
        if (conf.upper_size_mib) image.upper_size(*conf.upper_size_mib);
        if (conf.fstype) image.fstype(*conf.fstype);
    });
}

void set_conf_process(SandboxBuilder& builder, const SandboxConf& conf) {
    if (conf.workdir) builder.workdir(*conf.workdir);
    if (conf.shell) builder.shell(*conf.shell);
    if (conf.user) builder.user(*conf.user);
    if (conf.hostname) builder.hostname(*conf.hostname);
    if (conf.entrypoint) builder.entrypoint(*conf.entrypoint);
    if (conf.cmd) builder.cmd(*conf.cmd);
    for (const auto& [key, value] : conf.env)
        builder.env(key, value);
    for (const auto& [key, value] : conf.labels)
        builder.label(key, value);
    if (conf.init) {
        std::vector<std::pair<std::string, std::string>> env;
        if (conf.init->env) env.assign(conf.init->env->begin(), conf.init->env->end());
        builder.init(*conf.init->cmd, conf.init->args.value_or(std::vector<std::string>()), env);
    }
}

// What the files say, before any flag.
void set_conf(SandboxBuilder& builder, const CreateOptions& options) {
    const SandboxConf& conf = options.conf;
    if (conf.image && !options.image) set_conf_image(builder, *conf.image);
    if (conf.pull_policy) builder.pull_policy(*conf.pull_policy);
    if (conf.registry) {
        RegistryOptions registry;
        registry.basic_auth = {conf.registry->username, conf.registry->password};
        builder.registry(registry);
    }
    if (conf.cpus) builder.cpus(*conf.cpus);
    if (conf.memory_mib) builder.memory(*conf.memory_mib);
    if (conf.max_duration_secs) builder.max_duration(to_seconds(*conf.max_duration_secs));
    if (conf.idle_timeout_secs) builder.idle_timeout(to_seconds(*conf.idle_timeout_secs));
    if (conf.rlimits)
        for (const RlimitValue& limit : *conf.rlimits)
            builder.rlimit_range(limit.resource, limit.soft, limit.hard);
    set_conf_process(builder, conf);
    if (conf.security)
        builder.security(*conf.security == "default" ? SecurityProfile::kDefault
                                                     : SecurityProfile::kRestricted);
    if (conf.patches)
        for (const Patch& patch : *conf.patches)
            builder.patch(patch);
    const std::string shell = options.shell.value_or(conf.shell.value_or("/bin/sh"));
    for (const auto& [name, body] : conf.scripts)
        builder.script(name, script_with_shebang(body, shell));
    if (conf.network_off.value_or(false)) builder.disable_network();
}

void set_mount_policies(MountBuilder& mount, const MountValue& value) {
    if (value.quota_mib) mount.quota(*value.quota_mib);
    if (value.stat_virt)
        mount.stat_virtualization(value.stat_virt == "off"       ? StatVirtualization::kOff
                                  : value.stat_virt == "relaxed" ? StatVirtualization::kRelaxed
                                                                 : StatVirtualization::kStrict);
    if (value.host_perms)
        mount.host_permissions(value.host_perms == "mirror" ? HostPermissions::kMirror
                                                            : HostPermissions::kPrivate);
    if (value.follow_root_symlinks) mount.follow_root_symlinks();
    if (value.uid && value.gid) mount.owner(*value.uid, *value.gid);
}

// Host directories and named volumes get here from configuration files only: their flags are refused while parsing, and
// the SDK refuses these mounts in the same words.
void set_mounts(SandboxBuilder& builder, const std::vector<MountValue>& mounts) {
    for (const MountValue& value : mounts) {
        builder.volume(value.guest, [&](MountBuilder& mount) {
            switch (value.kind) {
                case MountKind::kTmpfs:
                    mount.tmpfs();
                    if (value.size_mib) mount.size(*value.size_mib);
                    break;
                case MountKind::kDisk:
                    mount.disk(value.source);
                    if (value.format) mount.format(to_format(*value.format));
                    if (value.fstype) mount.fstype(*value.fstype);
                    break;
                case MountKind::kBind:
                    mount.bind(value.source);
                    set_mount_policies(mount, value);
                    break;
                case MountKind::kNamed:
                    mount.named(value.source);
                    set_mount_policies(mount, value);
                    break;
            }
            mount.readonly(value.readonly)
                .noexec(value.noexec)
                .nosuid(value.nosuid)
                .nodev(value.nodev);
        });
    }
}

void set_root_disk(SandboxBuilder& builder, const CreateOptions& options) {
    if (!options.root_disk) return;
    const RootDiskValue& value = *options.root_disk;
    builder.root_disk_with([&](RootDiskBuilder& disk) {
        if (value.kind == RootDiskValue::Kind::kTmpfs) disk.tmpfs();
        if (value.kind == RootDiskValue::Kind::kFlat) disk.flat();
        if (value.kind == RootDiskValue::Kind::kImage) disk.disk(value.path);
        if (value.size_mib) disk.size(*value.size_mib);
        if (value.format) disk.format(to_format(*value.format));
        if (value.fstype) disk.fstype(*value.fstype);
        if (value.clone)
            disk.clone_strategy(value.clone == "copy"      ? CloneStrategy::kCopy
                                : value.clone == "reflink" ? CloneStrategy::kReflink
                                                           : CloneStrategy::kAuto);
    });
}

void set_patches(SandboxBuilder& builder, const CreateOptions& options) {
    for (const auto& copy : options.copies) {
        if (copy.directory) {
            builder.patch(PatchCopyDir{copy.source, copy.destination});
        } else {
            builder.patch(PatchCopyFile{copy.source, copy.destination, std::nullopt});
        }
    }
    for (const auto& path : options.mkdirs)
        builder.patch(PatchMkdir{path, std::nullopt});
    for (const auto& path : options.removals)
        builder.patch(PatchRemove{path});
}

void set_process(SandboxBuilder& builder, const CreateOptions& options) {
    if (options.workdir) builder.workdir(*options.workdir);
    if (options.shell) builder.shell(*options.shell);
    if (options.user) builder.user(*options.user);
    if (options.hostname) builder.hostname(*options.hostname);
    if (options.entrypoint) builder.entrypoint({*options.entrypoint});
    for (const auto& [key, value] : options.env)
        builder.env(key, value);
    for (const auto& [key, value] : options.labels)
        builder.label(key, value);
    for (const auto& [name, body] : options.scripts)
        builder.script(name, body);
    if (options.init) {
        std::vector<std::pair<std::string, std::string>> env;
        env.reserve(options.init_env.size());
        for (const auto& [key, value] : options.init_env)
            env.emplace_back(key, value);
        builder.init(*options.init, options.init_args, env);
    }
}

void set_policies(SandboxBuilder& builder, const CreateOptions& options, const Globals& globals) {
    static constexpr PullPolicy kPull[] = {PullPolicy::kAlways, PullPolicy::kIfMissing,
                                           PullPolicy::kNever};
    static constexpr microsandbox::LogLevel kLevels[] = {
        microsandbox::LogLevel::kError, microsandbox::LogLevel::kWarn,
        microsandbox::LogLevel::kInfo, microsandbox::LogLevel::kDebug,
        microsandbox::LogLevel::kTrace};
    if (options.pull) builder.pull_policy(kPull[*options.pull]);
    if (options.log_level) {
        builder.log_level(kLevels[*options.log_level]);
    } else if (globals.log_flag) {
        if (const auto level = msb::parse_log_level(*globals.log_flag))
            builder.log_level(kLevels[static_cast<std::size_t>(*level)]);
    }
    if (options.max_duration_secs) builder.max_duration(to_seconds(*options.max_duration_secs));
    if (options.idle_timeout_secs) builder.idle_timeout(to_seconds(*options.idle_timeout_secs));
    if (options.security)
        builder.security(options.security == "default" ? SecurityProfile::kDefault
                                                       : SecurityProfile::kRestricted);
    if (options.deployment_profile)
        builder.deployment_profile(options.deployment_profile == "multi-tenant"
                                       ? DeploymentProfile::kMultiTenant
                                       : DeploymentProfile::kSingleTenant);
    if (options.no_net) builder.disable_network();
}

}  // namespace

SandboxBuilder make_builder(const std::string& name, const CreateOptions& options,
                            const Globals& globals) {
    auto builder = Sandbox::builder(name);
    if (options.image) builder.image(*options.image);
    set_conf(builder, options);
    set_resources(builder, options);
    set_root_disk(builder, options);
    if (options.conf.mounts) set_mounts(builder, *options.conf.mounts);
    set_mounts(builder, options.mounts);
    set_patches(builder, options);
    set_process(builder, options);
    set_policies(builder, options, globals);
    if (options.replace_grace) {
        builder.replace_with_timeout(*options.replace_grace);
    } else if (options.replace) {
        builder.replace();
    }
    return builder;
}

}  // namespace msb::cli
