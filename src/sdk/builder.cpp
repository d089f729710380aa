#include <microsandbox/builder.h>
#include <microsandbox/sandbox.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/time.h"
#include "sdk/builder_impl.h"
#include "sdk/path_text.h"
#include "sdk/sandbox_impl.h"
#include "state/sandbox_rows.h"
#include "state/validation.h"

namespace microsandbox {

namespace state = msb::state;

namespace {

template <class To, class From>
To enum_cast(From value) {
    return static_cast<To>(static_cast<std::uint8_t>(value));
}
// The public enumerations list their values in the order of the stored ones where enum_cast is used.
static_assert(static_cast<int>(CpuPlacement::kCompact) ==
              static_cast<int>(state::CpuPlacement::kCompact));
static_assert(static_cast<int>(PullPolicy::kNever) == static_cast<int>(state::PullPolicy::kNever));
static_assert(static_cast<int>(PullPolicy::kAlways) ==
              static_cast<int>(state::PullPolicy::kAlways));
static_assert(static_cast<int>(SecurityProfile::kRestricted) ==
              static_cast<int>(state::SecurityProfile::kRestricted));
static_assert(static_cast<int>(DeploymentProfile::kMultiTenant) ==
              static_cast<int>(state::DeploymentProfile::kMultiTenant));
static_assert(static_cast<int>(LogLevel::kTrace) ==
              static_cast<int>(state::ConfigLogLevel::kTrace));
static_assert(static_cast<int>(LogLevel::kWarn) == static_cast<int>(state::ConfigLogLevel::kWarn));
static_assert(static_cast<int>(VsockType::kDatagram) ==
              static_cast<int>(state::VsockType::kDatagram));

state::ThpPolicy thp_of(TransparentHugepages mode) {
    switch (mode) {
        case TransparentHugepages::kAlways:
            return state::ThpPolicy::kAlways;
        case TransparentHugepages::kMadvise:
            return state::ThpPolicy::kMadvise;
        case TransparentHugepages::kNever:
            return state::ThpPolicy::kNever;
    }
    return state::ThpPolicy::kMadvise;
}

state::Patch patch_of(Patch patch) {
    struct Convert {
        state::Patch operator()(PatchText& p) {
            return state::TextPatch{p.path, p.content, p.mode, p.replace};
        }
        state::Patch operator()(PatchFile& p) {
            return state::FilePatch{p.path, p.content, p.mode, p.replace};
        }
        state::Patch operator()(PatchCopyFile& p) {
            return state::CopyFilePatch{p.source, p.destination, p.mode, p.replace};
        }
        state::Patch operator()(PatchCopyDir& p) {
            return state::CopyDirPatch{p.source, p.destination, p.replace};
        }
        state::Patch operator()(PatchSymlink& p) {
            return state::SymlinkPatch{p.target, p.link, p.replace};
        }
        state::Patch operator()(PatchMkdir& p) { return state::MkdirPatch{p.path, p.mode}; }
        state::Patch operator()(PatchRemove& p) { return state::RemovePatch{p.path}; }
        state::Patch operator()(PatchAppend& p) { return state::AppendPatch{p.path, p.content}; }
    };
    return std::visit(Convert{}, patch);
}

// Disk-image mounts: every file exists and none is given twice (spec/sdk.md section 4.1).
void check_disk_mounts(const std::vector<state::Mount>& mounts) {
    std::set<std::string> seen;
    for (const state::Mount& mount : mounts) {
        const auto* disk = std::get_if<state::DiskImageMount>(&mount);
        if (disk == nullptr) continue;
        std::error_code error;
        const std::string full = std::filesystem::canonical(disk->host, error).string();
        if (error)
            throw Error(ErrorCode::kInvalidConfig,
                        "disk image host path does not exist: " + disk->host + " (" +
                            msb::os_error_text(error.value()) + ")");
        if (!seen.insert(full).second)
            throw Error(ErrorCode::kInvalidConfig,
                        "disk-image volumes cannot share the same host path: " + full);
    }
}

bool valid_script_name(std::string_view name) {
    return !name.empty() && name != "." && name != ".." &&
           name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

}  // namespace

void SandboxBuilder::Impl::fail(std::string text) {
    if (!error) error = std::move(text);
}

SandboxBuilder::SandboxBuilder(std::string name) : impl_(std::make_unique<Impl>()) {
    impl_->config.name = std::move(name);
}
SandboxBuilder::SandboxBuilder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SandboxBuilder::SandboxBuilder(const SandboxBuilder& other)
    : impl_(std::make_unique<Impl>(*other.impl_)) {}
SandboxBuilder::SandboxBuilder(SandboxBuilder&&) noexcept = default;
SandboxBuilder& SandboxBuilder::operator=(const SandboxBuilder& other) {
    if (this != &other) impl_ = std::make_unique<Impl>(*other.impl_);
    return *this;
}
SandboxBuilder& SandboxBuilder::operator=(SandboxBuilder&&) noexcept = default;
SandboxBuilder::~SandboxBuilder() = default;

SandboxBuilder SandboxBuilder::from_config_json(std::string_view json) {
    auto impl = std::make_unique<Impl>();
    impl->config = state::parse_sandbox_config(json);
    impl->from_document = true;
    impl->image_set = true;
    return SandboxBuilder(std::move(impl));
}

const std::string& SandboxBuilder::name() const noexcept {
    return impl_->config.name;
}

// --- image ------------------------------------------------------------------------------------------------------

SandboxBuilder& SandboxBuilder::image(std::string text) {
    return image_with([&](ImageBuilder& image) {
        if (!msb::sdk::is_host_path(text)) {
            image.oci(std::move(text));
        } else if (state::parse_disk_format_token(msb::sdk::extension_of(text))) {
            image.disk(std::move(text));
        } else {
            image.bind(std::move(text));
        }
    });
}

SandboxBuilder& SandboxBuilder::image_with(const std::function<void(ImageBuilder&)>& configure) {
    ImageBuilder::Impl image;
    ImageBuilder view(image);
    configure(view);
    std::string problem;
    if (auto finished = image.finish(problem)) {
        impl_->config.image = std::move(*finished);
        impl_->image_set = true;
    } else {
        impl_->fail(problem);
    }
    return *this;
}

SandboxBuilder& SandboxBuilder::root_disk(std::uint32_t mib) {
    return root_disk_with([&](RootDiskBuilder& disk) { disk.size(mib); });
}

SandboxBuilder& SandboxBuilder::root_disk_with(
    const std::function<void(RootDiskBuilder&)>& configure) {
    auto* oci = std::get_if<state::OciImage>(&impl_->config.image);
    if (!impl_->image_set) {
        impl_->fail("root_disk() requires an OCI image to be set first");
        return *this;
    }
    if (oci == nullptr) {
        impl_->fail("root_disk() is only valid for OCI images");
        return *this;
    }
    RootDiskBuilder::Impl disk;
    RootDiskBuilder view(disk);
    configure(view);
    std::string problem;
    if (auto finished = disk.finish(problem))
        oci->root_disk = std::move(*finished);
    else
        impl_->fail(problem);
    return *this;
}

SandboxBuilder& SandboxBuilder::pull_policy(PullPolicy policy) {
    impl_->config.pull_policy = enum_cast<state::PullPolicy>(policy);
    return *this;
}
SandboxBuilder& SandboxBuilder::registry(RegistryOptions options) {
    impl_->launch.registry = std::move(options);
    return *this;
}
SandboxBuilder& SandboxBuilder::pull_progress(PullProgress progress) {
    impl_->launch.pull_progress = std::move(progress);
    return *this;
}

// --- resources --------------------------------------------------------------------------------------------------

SandboxBuilder& SandboxBuilder::cpus(std::uint8_t count) {
    impl_->cpus = count;
    return *this;
}
SandboxBuilder& SandboxBuilder::max_cpus(std::uint8_t count) {
    impl_->max_cpus = count;
    return *this;
}
SandboxBuilder& SandboxBuilder::memory(std::uint32_t mib) {
    impl_->memory = mib;
    return *this;
}
SandboxBuilder& SandboxBuilder::max_memory(std::uint32_t mib) {
    impl_->max_memory = mib;
    return *this;
}
SandboxBuilder& SandboxBuilder::cpu_placement(CpuPlacement policy) {
    impl_->cpu_placement = policy;
    return *this;
}
SandboxBuilder& SandboxBuilder::placement_profile(std::string name) {
    impl_->placement_profile = std::move(name);
    return *this;
}
SandboxBuilder& SandboxBuilder::thp(TransparentHugepages mode) {
    impl_->thp = mode;
    return *this;
}
SandboxBuilder& SandboxBuilder::rlimit(std::string resource, std::uint64_t soft_and_hard) {
    return rlimit_range(std::move(resource), soft_and_hard, soft_and_hard);
}
SandboxBuilder& SandboxBuilder::rlimit_range(std::string resource, std::uint64_t soft,
                                             std::uint64_t hard) {
    if (auto known = state::parse_rlimit_name(resource))
        impl_->config.rlimits.push_back({*known, soft, hard});
    else
        impl_->fail("unknown rlimit resource: " + resource);
    return *this;
}

// --- what runs --------------------------------------------------------------------------------------------------

SandboxBuilder& SandboxBuilder::workdir(std::string guest_path) {
    impl_->workdir = std::move(guest_path);
    return *this;
}
SandboxBuilder& SandboxBuilder::shell(std::string guest_path) {
    impl_->shell = std::move(guest_path);
    return *this;
}
SandboxBuilder& SandboxBuilder::user(std::string spec) {
    impl_->config.runtime.user = std::move(spec);
    return *this;
}
SandboxBuilder& SandboxBuilder::hostname(std::string name) {
    impl_->config.runtime.hostname = std::move(name);
    return *this;
}
SandboxBuilder& SandboxBuilder::entrypoint(std::vector<std::string> argv) {
    impl_->config.runtime.entrypoint = std::move(argv);
    return *this;
}
SandboxBuilder& SandboxBuilder::cmd(std::vector<std::string> argv) {
    impl_->config.runtime.cmd = std::move(argv);
    return *this;
}
SandboxBuilder& SandboxBuilder::startup(std::vector<std::string> argv) {
    impl_->config.runtime.cmd = std::move(argv);
    impl_->launch.startup = true;
    return *this;
}
SandboxBuilder& SandboxBuilder::foreground(std::optional<std::vector<std::string>> argv) {
    impl_->launch.foreground = true;
    impl_->launch.foreground_command = std::move(argv);
    return *this;
}
SandboxBuilder& SandboxBuilder::init(std::string command, std::vector<std::string> args,
                                     std::vector<std::pair<std::string, std::string>> env) {
    impl_->config.init = state::InitConfig{std::move(command), std::move(args), std::move(env)};
    return *this;
}
SandboxBuilder& SandboxBuilder::env(std::string key, std::string value) {
    impl_->config.env.push_back({std::move(key), std::move(value)});
    return *this;
}
SandboxBuilder& SandboxBuilder::envs(
    const std::vector<std::pair<std::string, std::string>>& entries) {
    for (const auto& [key, value] : entries)
        env(key, value);
    return *this;
}
SandboxBuilder& SandboxBuilder::label(std::string key, std::string value) {
    impl_->config.labels.insert_or_assign(std::move(key), std::move(value));
    return *this;
}
SandboxBuilder& SandboxBuilder::labels(
    const std::vector<std::pair<std::string, std::string>>& entries) {
    for (const auto& [key, value] : entries)
        label(key, value);
    return *this;
}
SandboxBuilder& SandboxBuilder::script(std::string name, std::string body) {
    if (valid_script_name(name))
        impl_->config.runtime.scripts.insert_or_assign(std::move(name), std::move(body));
    else
        impl_->fail("script name \"" + name + "\" must be a single non-empty filename");
    return *this;
}

// --- mounts, patches, sockets -------------------------------------------------------------------------------------

SandboxBuilder& SandboxBuilder::volume(std::string guest_path,
                                       const std::function<void(MountBuilder&)>& configure) {
    MountBuilder::Impl mount;
    MountBuilder view(mount);
    configure(view);
    std::string problem;
    if (auto finished = mount.finish(guest_path, problem))
        impl_->config.mounts.push_back(std::move(*finished));
    else
        impl_->fail(problem);
    return *this;
}
SandboxBuilder& SandboxBuilder::patch(Patch patch) {
    impl_->config.patches.push_back(patch_of(std::move(patch)));
    return *this;
}
SandboxBuilder& SandboxBuilder::vsock(std::string host_socket, std::uint32_t port, VsockType type) {
    impl_->config.vsock.push_back(
        {std::move(host_socket), port, enum_cast<state::VsockType>(type)});
    return *this;
}
SandboxBuilder& SandboxBuilder::disable_network() {
    impl_->config.network.enabled = false;
    return *this;
}

// --- the process ------------------------------------------------------------------------------------------------

SandboxBuilder& SandboxBuilder::log_level(std::optional<LogLevel> level) {
    impl_->log_level = level;
    return *this;
}
SandboxBuilder& SandboxBuilder::metrics_sample_interval(std::chrono::milliseconds interval) {
    impl_->metrics_interval = interval;
    return *this;
}
SandboxBuilder& SandboxBuilder::disable_metrics_sample() {
    impl_->metrics_disabled = true;
    return *this;
}
SandboxBuilder& SandboxBuilder::max_duration(std::chrono::seconds limit) {
    if (limit.count() < 0) impl_->fail("max_duration must not be negative");
    impl_->config.lifecycle.max_duration_secs = static_cast<std::uint64_t>(limit.count());
    return *this;
}
SandboxBuilder& SandboxBuilder::idle_timeout(std::chrono::seconds limit) {
    if (limit.count() < 0) impl_->fail("idle_timeout must not be negative");
    impl_->config.lifecycle.idle_timeout_secs = static_cast<std::uint64_t>(limit.count());
    return *this;
}
SandboxBuilder& SandboxBuilder::ephemeral(bool on) {
    impl_->config.lifecycle.ephemeral = on;
    return *this;
}
SandboxBuilder& SandboxBuilder::security(SecurityProfile profile) {
    impl_->config.security_profile = enum_cast<state::SecurityProfile>(profile);
    return *this;
}
SandboxBuilder& SandboxBuilder::deployment_profile(DeploymentProfile profile) {
    impl_->deployment_profile = profile;
    return *this;
}
SandboxBuilder& SandboxBuilder::replace() {
    impl_->launch.replace = true;
    return *this;
}
SandboxBuilder& SandboxBuilder::replace_with_timeout(std::chrono::milliseconds grace) {
    impl_->launch.replace = true;
    impl_->launch.replace_grace = grace;
    return *this;
}
SandboxBuilder& SandboxBuilder::runtime_path(std::filesystem::path msb) {
    impl_->launch.runtime_path = std::move(msb);
    return *this;
}

// --- building ---------------------------------------------------------------------------------------------------

state::SandboxConfig SandboxBuilder::Impl::build(const msb::sdk::LocalBackend& backend) const {
    if (error) throw Error(ErrorCode::kInvalidConfig, *error);
    state::validate_sandbox_name(config.name);
    state::SandboxConfig result = config;
    const state::SandboxDefaults defaults =
        from_document ? state::SandboxDefaults{} : backend.config.sandbox_defaults;
    if (!from_document) {
        state::validate_sandbox_defaults(backend.config);
        result.resources.cpus = defaults.cpus;
        result.resources.memory_mib = defaults.memory_mib;
        result.resources.max_cpus = defaults.cpus;
        result.resources.max_memory_mib = defaults.memory_mib;
        result.resources.cpu_placement = defaults.cpu_placement;
        result.resources.placement_profile = defaults.placement_profile;
        result.resources.thp = defaults.thp;
        result.runtime.shell = defaults.shell;
        result.runtime.workdir = defaults.workdir;
        result.runtime.metrics_sample_interval_ms =
            defaults.metrics_sample_interval_ms == 0
                ? std::nullopt
                : std::optional(defaults.metrics_sample_interval_ms);
        result.runtime.disable_metrics_sample = defaults.disable_metrics_sample;
        result.runtime.log_level = backend.config.log_level;
    }
    if (cpus) result.resources.cpus = *cpus;
    if (memory) result.resources.memory_mib = *memory;
    if (cpus || max_cpus) result.resources.max_cpus = max_cpus.value_or(result.resources.cpus);
    if (memory || max_memory)
        result.resources.max_memory_mib = max_memory.value_or(result.resources.memory_mib);
    if (cpu_placement)
        result.resources.cpu_placement = enum_cast<state::CpuPlacement>(*cpu_placement);
    if (placement_profile) result.resources.placement_profile = placement_profile;
    if (thp) result.resources.thp = thp_of(*thp);
    if (workdir) result.runtime.workdir = workdir;
    if (shell) result.runtime.shell = shell;
    if (metrics_interval) {
        if (metrics_interval->count() < 0)
            throw Error(ErrorCode::kInvalidConfig, "metrics sample interval must not be negative");
        const auto ms = static_cast<std::uint64_t>(metrics_interval->count());
        result.runtime.metrics_sample_interval_ms = ms == 0 ? std::nullopt : std::optional(ms);
    }
    if (metrics_disabled) result.runtime.disable_metrics_sample = true;
    if (log_level)
        result.runtime.log_level =
            *log_level ? std::optional(enum_cast<state::ConfigLogLevel>(**log_level))
                       : std::nullopt;
    if (deployment_profile)
        result.deployment_profile = enum_cast<state::DeploymentProfile>(*deployment_profile);
    if (backend.config.deployment_profile)
        result.deployment_profile = *backend.config.deployment_profile;
    if (!image_set) {
        // Resources are checked before the image (spec/sdk.md section 4.1).
        if (result.runtime.hostname) state::validate_hostname(*result.runtime.hostname);
        state::validate_resources(result.resources);
        throw Error(ErrorCode::kInvalidConfig, "image source is required");
    }
    if (auto* oci = std::get_if<state::OciImage>(&result.image)) {
        state::RootDisk disk = oci->root_disk.value_or(state::default_root_disk(defaults));
        oci->root_disk = state::resolve_root_disk(std::move(disk), result.resources.memory_mib);
    }
    state::validate_builder(result);
    check_disk_mounts(result.mounts);
    return result;
}

std::string SandboxBuilder::build_json() const {
    auto backend = msb::sdk::LocalBackend::current("Sandbox::create");
    return state::write_sandbox_config(state::persisted_form(impl_->build(*backend)));
}

Sandbox SandboxBuilder::create(std::stop_token stop) const {
    auto backend = msb::sdk::LocalBackend::current("Sandbox::create");
    msb::sdk::Cancel cancel(std::move(stop));
    return SandboxAccess::make(
        backend, msb::sdk::create_sandbox(backend, impl_->build(*backend), impl_->launch, cancel));
}

Sandbox SandboxBuilder::create_detached(std::stop_token stop) const {
    SandboxBuilder copy(*this);
    copy.impl_->launch.detached = true;
    return copy.create(std::move(stop));
}

Sandbox SandboxBuilder::connect_or_create(bool detached, std::stop_token stop) const {
    if (impl_->launch.replace)
        throw Error(ErrorCode::kInvalidConfig,
                    "connect_or_create cannot be combined with replace_existing");
    if (impl_->error) throw Error(ErrorCode::kInvalidConfig, *impl_->error);
    state::validate_sandbox_name(impl_->config.name);
    for (;;) {
        try {
            return Sandbox::get(name()).connect_or_start(detached, stop);
        } catch (const Error& error) {
            if (error.code() != ErrorCode::kSandboxNotFound) throw;
        }
        try {
            return detached ? create_detached(stop) : create(stop);
        } catch (const Error& error) {
            // Somebody else created it first: connect to theirs. (A directory without a row is a real conflict.)
            if (error.code() != ErrorCode::kSandboxAlreadyExists) throw;
            auto backend = msb::sdk::LocalBackend::current("Sandbox::create");
            if (!state::find_sandbox(backend->database(), name())) throw;
        }
    }
}

}  // namespace microsandbox
