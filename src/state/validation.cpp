#include "state/validation.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kDerivedHostnamePrefix = 55;
constexpr std::size_t kDerivedHostnameHash = 8;
constexpr std::string_view kReservedLabelPrefixes[] = {"sandbox.", "microsandbox.", "service."};
constexpr std::string_view kReservedEnvPrefix = "MSB_";
constexpr std::uint32_t kMinVsockPort = 1;
constexpr std::uint32_t kMaxVsockPort = 4294967294;  // VMADDR_PORT_ANY is one more
constexpr std::uint32_t kClockVsockPort = 123;

[[noreturn]] void invalid(const std::string& text) {
    throw Error(ErrorCode::kInvalidConfig, text);
}

bool is_alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// [A-Za-z0-9][A-Za-z0-9._-]*
bool is_name(std::string_view name) {
    return !name.empty() && is_alphanumeric(name.front()) && std::ranges::all_of(name, [](char c) {
        return is_alphanumeric(c) || c == '.' || c == '_' || c == '-';
    });
}

bool contains_any(std::string_view text, std::string_view characters) {
    return text.find_first_of(characters) != std::string_view::npos;
}

bool contains_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

// S_IFMT bits of what the path leads to; nullopt when nothing is there. `errnum` gets the reason.
std::optional<mode_t> file_type(const std::string& path, int* errnum = nullptr) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) {
        if (errnum != nullptr) *errnum = errno;
        return std::nullopt;
    }
    return status.st_mode & S_IFMT;
}

void check_host_path(std::string_view what, const std::string& path) {
    if (contains_any(path, ",:;"))
        invalid(std::string(what) + " host path must not contain ',', ':', or ';': " + path);
}

void check_fstype(const std::optional<std::string>& fstype) {
    if (!fstype) return;
    if (fstype->empty()) invalid("fstype must not be empty");
    if (contains_any(*fstype, ",;:="))
        invalid("fstype must not contain ',', ';', ':', or '=': " + *fstype);
}

void check_owner(const MountOptions& options, std::optional<StatVirtualization> stat) {
    if (options.override_uid.has_value() != options.override_gid.has_value())
        invalid("mount uid and gid must be specified together");
    if (options.override_uid && stat == StatVirtualization::kOff)
        invalid(
            "mount owner (uid/gid) cannot be combined with stat_virtualization=Off because Off "
            "exposes literal host metadata");
}

void check_sharing(StatVirtualization stat, HostPermissions permissions) {
    if (stat == StatVirtualization::kOff && permissions == HostPermissions::kMirror)
        invalid(
            "stat_virtualization=Off cannot be combined with host_permissions=Mirror: Off has no "
            "overlay, so chmod already operates on the host inode and Mirror would be a no-op. "
            "Drop one or the other.");
}

struct MountCheck {
    void operator()(const BindMount& mount) const {
        check_host_path("bind", mount.host);
        check_sharing(mount.stat_virtualization, mount.host_permissions);
        check_owner(mount.options, mount.stat_virtualization);
    }
    void operator()(const NamedMount& mount) const {
        validate_volume_name(mount.name);
        check_sharing(mount.stat_virtualization, mount.host_permissions);
        check_owner(mount.options, mount.stat_virtualization);
    }
    void operator()(const TmpfsMount& mount) const { check_owner(mount.options, std::nullopt); }
    void operator()(const DiskImageMount& mount) const {
        check_host_path("disk image", mount.host);
        check_fstype(mount.fstype);
        check_owner(mount.options, std::nullopt);
    }
};

std::size_t component_count(std::string_view path) {
    return static_cast<std::size_t>(std::ranges::count(path, '/'));
}

void validate_image_paths(const SandboxConfig& config) {
    if (const auto* bind = std::get_if<BindImage>(&config.image)) {
        const auto type = file_type(bind->path);
        if (!type) invalid("rootfs bind path does not exist: " + bind->path);
        if (*type != S_IFDIR) invalid("rootfs bind path is not a directory: " + bind->path);
    } else if (const auto* disk = std::get_if<DiskImage>(&config.image)) {
        const auto type = file_type(disk->path);
        if (!type) invalid("disk image does not exist: " + disk->path);
        if (*type != S_IFREG) invalid("disk image is not a regular file: " + disk->path);
    }
}

bool image_missing(const Image& image) {
    return std::visit(
        [](const auto& source) {
            if constexpr (std::is_same_v<std::decay_t<decltype(source)>, OciImage>)
                return source.reference.empty();
            else
                return source.path.empty();
        },
        image);
}

// Mounted disk images: each exists, none twice.
void validate_disk_image_mounts(const std::vector<Mount>& mounts) {
    std::set<std::string> seen;
    for (const Mount& mount : mounts) {
        const auto* disk = std::get_if<DiskImageMount>(&mount);
        if (disk == nullptr) continue;
        int errnum = 0;
        if (!file_type(disk->host, &errnum))
            invalid("disk image host path does not exist: " + disk->host + " (" +
                    os_error_text(errnum) + ")");
        std::error_code error;
        const fs::path canonical = fs::canonical(disk->host, error);
        if (!seen.insert(error ? disk->host : canonical.string()).second)
            invalid("disk-image volumes cannot share the same host path: " + disk->host);
    }
}

void validate_secret(const SecretEntry& secret, const std::string& prefix) {
    if (secret.env_var.empty()) invalid(prefix + "env_var must not be empty");
    if (secret.env_var.find('=') != std::string::npos)
        invalid(prefix + "env_var must not contain `=`");
    if (contains_nul(secret.env_var)) invalid(prefix + "env_var must not contain NUL");
    if (secret.allowed_hosts.empty()) invalid(prefix + "at least one allowed host is required");
    if (secret.placeholder.empty()) invalid(prefix + "placeholder must not be empty");
    if (secret.placeholder.size() > kMaxSecretPlaceholderBytes)
        invalid(prefix + "placeholder must be at most " +
                std::to_string(kMaxSecretPlaceholderBytes) + " bytes, got " +
                std::to_string(secret.placeholder.size()));
    if (contains_nul(secret.placeholder)) invalid(prefix + "placeholder must not contain NUL");
    if (contains_any(secret.placeholder, "\r\n"))
        invalid(prefix + "placeholder must not contain CR or LF");
}

void validate_tokens(std::string_view what, const std::vector<std::string>& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (contains_nul(tokens[i]))
            invalid(std::string(what) + " token at index " + std::to_string(i) +
                    " contains a NUL byte");
    }
}

}  // namespace

void validate_sandbox_name(std::string_view name, NameOrigin origin) {
    if (name.empty())
        invalid(origin == NameOrigin::kBuilder ? "sandbox name is required"
                                               : "sandbox name must not be empty");
    if (name.size() > kMaxSandboxNameBytes)
        invalid("sandbox name must be at most " + std::to_string(kMaxSandboxNameBytes) +
                " characters: got " + std::to_string(name.size()));
    if (!is_name(name))
        invalid(
            "sandbox name must start with an alphanumeric and contain only alphanumeric, dots, "
            "hyphens, and underscores: " +
            std::string(name));
}

void validate_volume_name(std::string_view name) {
    if (name.empty()) invalid("volume name must not be empty");
    if (!is_name(name))
        invalid(
            "volume name must start with an alphanumeric character and contain only alphanumeric "
            "characters, dots, hyphens, and underscores: " +
            std::string(name));
}

void validate_hostname(std::string_view hostname) {
    if (hostname.empty()) invalid("hostname must not be empty");
    if (hostname.size() > kMaxHostnameBytes)
        invalid("hostname is too long: " + std::to_string(hostname.size()) + " bytes (max " +
                std::to_string(kMaxHostnameBytes) + ")");
}

std::string derived_hostname(std::string_view name) {
    if (name.size() <= kMaxHostnameBytes) return std::string(name);
    return std::string(name.substr(0, kDerivedHostnamePrefix)) + "-" +
           sha256_hex(name).substr(0, kDerivedHostnameHash);
}

void validate_label_key(std::string_view key) {
    if (key.empty()) invalid("label key must not be empty");
    for (std::string_view prefix : kReservedLabelPrefixes) {
        if (key.starts_with(prefix))
            invalid("label key '" + std::string(key) + "' uses reserved prefix '" +
                    std::string(prefix) + "'");
    }
}

bool is_reserved_label_key(std::string_view key) {
    return key.empty() || std::ranges::any_of(kReservedLabelPrefixes, [&](std::string_view prefix) {
               return key.starts_with(prefix);
           });
}

void validate_labels(const std::map<std::string, std::string>& labels) {
    for (const auto& [key, value] : labels)
        validate_label_key(key);
}

void validate_env(const std::vector<EnvVar>& env) {
    for (const EnvVar& variable : env) {
        if (variable.key.starts_with(kReservedEnvPrefix))
            invalid("environment variable " + msb::quoted(variable.key) +
                    " uses the reserved MSB_ prefix");
    }
}

void validate_resources(const Resources& resources) {
    if (resources.cpus == 0) invalid("cpus must be greater than 0");
    if (resources.memory_mib == 0) invalid("memory must be greater than 0");
    if (resources.max_cpus == 0) invalid("max_cpus must be greater than 0");
    if (resources.max_memory_mib == 0) invalid("max_memory must be greater than 0");
    if (resources.max_cpus < resources.cpus)
        invalid("max_cpus " + std::to_string(resources.max_cpus) +
                " must be greater than or equal to cpus " + std::to_string(resources.cpus));
    if (resources.max_memory_mib < resources.memory_mib)
        invalid("max_memory " + std::to_string(resources.max_memory_mib) +
                " MiB must be greater than or equal to memory " +
                std::to_string(resources.memory_mib) + " MiB");
}

void validate_root_disk(const OciImage& image, const SandboxConfig& config) {
    if (!image.root_disk) return;
    const RootDisk& disk = *image.root_disk;
    const bool managed = std::holds_alternative<ManagedRootDisk>(disk);
    if (const auto* sized = std::get_if<ManagedRootDisk>(&disk); sized && sized->size_mib == 0u)
        invalid("root disk size must be greater than 0");
    if (const auto* tmpfs = std::get_if<TmpfsRootDisk>(&disk)) {
        if (tmpfs->size_mib == 0u) invalid("root disk size must be greater than 0");
        if (tmpfs->size_mib.value_or(0) > config.resources.memory_mib)
            invalid("tmpfs root disk size (" + std::to_string(*tmpfs->size_mib) +
                    " MiB) must not exceed sandbox memory (" +
                    std::to_string(config.resources.memory_mib) + " MiB)");
    }
    if (const auto* image_disk = std::get_if<DiskImageRootDisk>(&disk)) {
        if (image_disk->path.empty()) invalid("disk-image root disk path must not be empty");
        if (image_disk->format == DiskFormat::kVmdk)
            invalid("vmdk is not supported as a root disk (writable vmdk is unavailable)");
        check_fstype(image_disk->fstype);
    }
    if (const auto* flat = std::get_if<FlatRootDisk>(&disk)) {
        if (flat->size_mib == 0u) invalid("flat root disk size must be greater than 0");
        check_fstype(flat->fstype);
        if (flat->fstype && *flat->fstype != "ext4")
            invalid("flat root disks currently support only fstype=ext4");
        if (!config.patches.empty()) invalid("patches are not yet compatible with flat OCI rootfs");
    } else if (!managed && !config.patches.empty()) {
        invalid(
            "patches require a managed root disk (they are baked into the upper at create time)");
    }
}

void validate_image(const SandboxConfig& config) {
    if (image_missing(config.image)) invalid("image source is required");
    if (const auto* oci = std::get_if<OciImage>(&config.image)) validate_root_disk(*oci, config);
    if (std::holds_alternative<DiskImage>(config.image) && !config.patches.empty())
        invalid("patches are not compatible with disk image rootfs");
}

void validate_image_source(const SandboxConfig& config) {
    if (image_missing(config.image)) invalid("image source is required");
    validate_image_paths(config);
}

void validate_rlimits(const std::vector<Rlimit>& rlimits) {
    for (const Rlimit& limit : rlimits) {
        if (limit.soft > limit.hard)
            invalid("rlimit " + std::string(rlimit_name(limit.resource)) + ": soft (" +
                    std::to_string(limit.soft) + ") must not exceed hard (" +
                    std::to_string(limit.hard) + ")");
    }
}

std::string normalize_guest_mount_path(std::string_view guest) {
    if (!guest.starts_with('/'))
        invalid("guest mount path must be absolute: " + std::string(guest));
    std::string normalized;
    for (std::string_view component : split(guest, '/')) {
        if (component == "..")
            invalid("guest mount path must not contain '..': " + std::string(guest));
        if (component.empty() || component == ".") continue;
        normalized += '/';
        normalized += component;
    }
    if (contains_any(guest, ":;,"))
        invalid("guest mount path must not contain ':', ';', or ',': " + std::string(guest));
    if (normalized.empty()) invalid("cannot mount a volume at guest root /");
    return normalized;
}

void validate_and_sort_mounts(std::vector<Mount>& mounts) {
    std::set<std::string> seen;
    for (Mount& mount : mounts) {
        std::string& guest = guest_path(mount);
        guest = normalize_guest_mount_path(guest);
        std::visit(MountCheck{}, mount);
        if (!seen.insert(guest).second)
            invalid("multiple volumes cannot mount the same guest path: " + guest);
    }
    std::ranges::sort(mounts, [](const Mount& a, const Mount& b) {
        const std::string& left = guest_path(a);
        const std::string& right = guest_path(b);
        const std::size_t left_depth = component_count(left);
        const std::size_t right_depth = component_count(right);
        return left_depth != right_depth ? left_depth < right_depth : left < right;
    });
}

void validate_init(const InitConfig& init) {
    if (init.cmd != "auto" && !init.cmd.starts_with('/'))
        invalid("init cmd must be an absolute path or `auto`, got: " + msb::quoted(init.cmd));
    if (contains_nul(init.cmd))
        invalid("init cmd path must not contain a NUL byte: " + msb::quoted(init.cmd));
    if (init.cmd.find('\\') != std::string::npos)
        invalid(
            "init cmd is a guest (Linux) path and must not contain '\\' \u2014 use '/' "
            "separators: " +
            msb::quoted(init.cmd));
    for (std::size_t i = 0; i < init.args.size(); ++i) {
        if (contains_nul(init.args[i]))
            invalid("init arg #" + std::to_string(i) + " must not contain a NUL byte");
    }
    for (const auto& [key, value] : init.env) {
        if (key.empty()) invalid("init env key must not be empty");
        if (key.find('=') != std::string::npos)
            invalid("init env key " + msb::quoted(key) + " must not contain '='");
        if (contains_nul(key))
            invalid("init env key " + msb::quoted(key) + " must not contain NUL");
        if (contains_nul(value))
            invalid("init env value for " + msb::quoted(key) + " must not contain NUL");
    }
}

void validate_vsock(const std::vector<VsockRoute>& routes, DeploymentProfile profile) {
    if (!routes.empty() && profile == DeploymentProfile::kMultiTenant)
        invalid("host vsock routes are disabled for multi-tenant deployments");
    std::set<std::pair<std::uint32_t, VsockType>> seen;
    for (const VsockRoute& route : routes) {
        if (!route.host_socket.starts_with('/'))
            invalid("vsock host path must be absolute: " + route.host_socket);
        if (route.port < kMinVsockPort || route.port > kMaxVsockPort)
            invalid("vsock port " + std::to_string(route.port) + " must be between " +
                    std::to_string(kMinVsockPort) + " and " + std::to_string(kMaxVsockPort));
        const bool datagram = route.socket_type == VsockType::kDatagram;
        if (datagram && route.port == kClockVsockPort)
            invalid("vsock datagram port 123 is reserved for guest clock synchronization");
        if (!seen.insert({route.port, route.socket_type}).second)
            invalid("duplicate vsock " + std::string(datagram ? "Datagram" : "Stream") +
                    " route for port " + std::to_string(route.port));
    }
}

void validate_secrets(const SecretsConfig& secrets) {
    for (std::size_t i = 0; i < secrets.secrets.size(); ++i)
        validate_secret(secrets.secrets[i],
                        "invalid network secrets: secret #" + std::to_string(i) + ": ");
}

void validate_command(const RuntimeOptions& runtime) {
    if (runtime.entrypoint) {
        if (!runtime.entrypoint->empty() && runtime.entrypoint->front().empty())
            invalid("entrypoint executable must not be empty");
        validate_tokens("entrypoint", *runtime.entrypoint);
    }
    if (runtime.cmd) validate_tokens("cmd", *runtime.cmd);
}

void validate_builder(SandboxConfig& config) {
    validate_sandbox_name(config.name);
    if (config.runtime.hostname) validate_hostname(*config.runtime.hostname);
    validate_resources(config.resources);
    validate_image(config);
    validate_rlimits(config.rlimits);
    validate_and_sort_mounts(config.mounts);
    validate_env(config.env);
    validate_labels(config.labels);
    validate_vsock(config.vsock, config.deployment_profile);
    validate_command(config.runtime);
    if (config.init) validate_init(*config.init);
    if (config.network.secrets) validate_secrets(*config.network.secrets);
    validate_disk_image_mounts(config.mounts);
}

void validate_for_create(SandboxConfig& config, const StateRoots& roots, NameOrigin origin) {
    if (config.runtime.hostname) validate_hostname(*config.runtime.hostname);
    validate_sandbox_name(config.name, origin);
    check_socket_path_length(roots, config.name);
    validate_image_source(config);
    validate_env(config.env);
    validate_labels(config.labels);
    validate_and_sort_mounts(config.mounts);
    if (config.init) validate_init(*config.init);
}

}  // namespace msb::state
