#include "state/global_config.h"

#include <algorithm>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "state/config_fields.h"
#include "state/config_json.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 5> kLogLevels = {"error", "warn", "info", "debug", "trace"};
constexpr std::array<std::string_view, 4> kCpuPlacements = {"inherit", "auto", "spread", "compact"};
constexpr std::array<std::string_view, 3> kThpPolicies = {"madvise", "always", "never"};
constexpr std::array<std::string_view, 3> kWritebackModes = {"auto", "fixed", "off"};
constexpr std::array<std::string_view, 3> kNumaModes = {"prefer_single", "strict_single",
                                                        "inherit"};
constexpr std::array<std::string_view, 2> kMemoryModes = {"follow_cpu", "inherit"};
constexpr std::array<std::string_view, 1> kStores = {"keyring"};

std::optional<fs::path> optional_path(const Reader& reader, std::string_view key) {
    if (auto text = reader.optional_string(key)) return fs::path(*text);
    return std::nullopt;
}

// Calls `read` with the section when it is there; null is an error, as upstream has it.
template <class Read>
void section(const Reader& reader, std::string_view key, std::string_view type, Read read) {
    if (const Value* value = reader.find(key)) read(Reader(*value, type));
}

void refuse_unknown_fields(const Value& object, std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : object.items()) {
        if (std::ranges::find(known, key) == known.end())
            throw json::ParseError("unknown field `" + key + "`");
    }
}

std::optional<std::uint64_t> optional_nonzero(const Reader& reader, std::string_view key) {
    const auto value = reader.optional_integer<std::uint64_t>(key);
    if (value == std::uint64_t{0})
        throw json::ParseError("invalid value: integer `0`, expected a nonzero u64");
    return value;
}

DeploymentProfile read_deployment_profile(const Value& value) {
    const std::string text = json::to_string(value);
    if (text == "single-tenant" || text == "single_tenant") return DeploymentProfile::kSingleTenant;
    if (text == "multi-tenant" || text == "multi_tenant") return DeploymentProfile::kMultiTenant;
    throw json::ParseError("unknown deployment profile " + msb::quoted(text) +
                           "; expected `single-tenant` or `multi-tenant`");
}

void read_database(const Reader& reader, LocalConfig& config) {
    config.database_url = reader.optional_string("url");
    DatabaseOptions& database = config.database;
    database.max_connections =
        reader.integer_or<std::uint32_t>("max_connections", database.max_connections);
    const auto connect = reader.integer_or<std::uint64_t>("connect_timeout_secs", 30);
    const auto busy = reader.integer_or<std::uint64_t>("busy_timeout_secs", 5);
    // SQLite takes the busy timeout as an int of milliseconds.
    constexpr std::uint64_t kMaxSeconds = INT32_MAX / 1000;
    database.connect_timeout =
        std::chrono::seconds(static_cast<std::int64_t>(std::min(connect, kMaxSeconds)));
    database.busy_timeout =
        std::chrono::seconds(static_cast<std::int64_t>(std::min(busy, kMaxSeconds)));
}

void read_paths(const Reader& reader, LocalConfig& config) {
    config.msb_path = optional_path(reader, "msb");
    config.libkrunfw_path = optional_path(reader, "libkrunfw");
    config.paths.cache = optional_path(reader, "cache");
    config.paths.sandboxes = optional_path(reader, "sandboxes");
    config.paths.volumes = optional_path(reader, "volumes");
    config.paths.snapshots = optional_path(reader, "snapshots");
    config.paths.logs = optional_path(reader, "logs");
    config.paths.secrets = optional_path(reader, "secrets");
}

void read_sandbox_defaults(const Reader& reader, SandboxDefaults& defaults) {
    defaults.cpus = reader.integer_or<std::uint8_t>("cpus", defaults.cpus);
    defaults.memory_mib = reader.integer_or<std::uint32_t>("memory_mib", defaults.memory_mib);
    defaults.cpu_placement =
        read_variant_or(reader, "cpu_placement", kCpuPlacements, defaults.cpu_placement);
    defaults.placement_profile = reader.optional_string("placement_profile");
    defaults.thp = read_variant_or(reader, "thp", kThpPolicies, defaults.thp);
    section(reader, "oci", "OciSandboxDefaults", [&](const Reader& oci) {
        defaults.oci_root_disk = read_optional<RootDisk>(oci, "root_disk", root_disk_from_json);
        defaults.oci_upper_size_mib = oci.optional_integer<std::uint32_t>("upper_size_mib");
    });
    defaults.shell = reader.string_or("shell", defaults.shell);
    defaults.workdir = reader.optional_string("workdir");
    defaults.metrics_sample_interval_ms = reader.integer_or<std::uint64_t>(
        "metrics_sample_interval_ms", defaults.metrics_sample_interval_ms);
    defaults.disable_metrics_sample = reader.boolean_or("disable_metrics_sample", false);
}

BlockWriteback read_block_writeback(const Value& value) {
    const Reader reader(value, "BlockWritebackConfig");
    BlockWriteback writeback;
    writeback.mode = read_variant<BlockWriteback::Mode>(reader.raw("mode"), kWritebackModes);
    switch (writeback.mode) {
        case BlockWriteback::Mode::kAuto:
            refuse_unknown_fields(value, {"mode", "pool_mib"});
            break;
        case BlockWriteback::Mode::kFixed:
            refuse_unknown_fields(value, {"mode", "per_disk_mib", "pool_mib"});
            reader.integer<std::uint64_t>("per_disk_mib");  // required, not null
            writeback.per_disk_mib = optional_nonzero(reader, "per_disk_mib");
            break;
        case BlockWriteback::Mode::kOff:
            refuse_unknown_fields(value, {"mode"});
            return writeback;
    }
    writeback.pool_mib = optional_nonzero(reader, "pool_mib");
    return writeback;
}

PlacementProfile read_placement_profile(const Value& value) {
    const Reader reader(value, "PlacementProfile");
    refuse_unknown_fields(value, {"numa", "memory"});
    const Reader numa(reader.raw("numa"), "NumaPlacement");
    const Reader memory(reader.raw("memory"), "MemoryPlacement");
    return {read_variant<PlacementProfile::Numa>(numa.raw("mode"), kNumaModes),
            read_variant<PlacementProfile::Memory>(memory.raw("mode"), kMemoryModes)};
}

void read_runtime(const Reader& reader, LocalConfig& config) {
    if (const Value* writeback = reader.find("block_writeback"))
        config.block_writeback = read_block_writeback(*writeback);
    if (const Value* profiles = reader.find("placement_profiles")) {
        const Reader checked(*profiles, "map");
        for (const auto& [name, profile] : profiles->items())
            config.placement_profiles.emplace(name, read_placement_profile(profile));
    }
}

RegistryAuth read_registry_auth(const Value& value) {
    const Reader reader(value, "RegistryAuthEntry");
    RegistryAuth auth;
    auth.username = reader.string("username");
    if (reader.has("store")) {
        read_variant<std::size_t>(reader.raw("store"), kStores);
        auth.store = reader.optional_string("store");
    }
    auth.password_env = reader.optional_string("password_env");
    auth.secret_name = reader.optional_string("secret_name");
    return auth;
}

void read_registries(const Reader& reader, LocalConfig& config) {
    config.registry_ca_certs = optional_path(reader, "ca_certs");
    const Value* hosts = reader.find("hosts");
    if (hosts == nullptr) return;
    const Reader checked(*hosts, "map");
    for (const auto& [host, value] : hosts->items()) {
        const Reader entry(value, "RegistryHostConfig");
        config.registry_hosts.emplace(
            host, RegistryHost{entry.boolean_or("insecure", false),
                               read_optional<RegistryAuth>(entry, "auth", read_registry_auth)});
    }
}

LocalConfig read_local_config(const Value& document) {
    const Reader reader(document, "LocalConfig");
    LocalConfig config;
    config.home = optional_path(reader, "home");
    config.log_level = read_optional<ConfigLogLevel>(reader, "log_level", [](const Value& value) {
        return read_variant<ConfigLogLevel>(value, kLogLevels);
    });
    config.deployment_profile =
        read_optional<DeploymentProfile>(reader, "deployment_profile", read_deployment_profile);
    section(reader, "database", "DatabaseConfig",
            [&](const Reader& part) { read_database(part, config); });
    section(reader, "paths", "PathsConfig", [&](const Reader& part) { read_paths(part, config); });
    section(reader, "sandbox_defaults", "SandboxDefaults",
            [&](const Reader& part) { read_sandbox_defaults(part, config.sandbox_defaults); });
    section(reader, "runtime", "RuntimeConfig",
            [&](const Reader& part) { read_runtime(part, config); });
    section(reader, "registries", "RegistriesConfig",
            [&](const Reader& part) { read_registries(part, config); });
    section(reader, "ssh", "SshConfig", [&](const Reader& part) {
        config.ssh_inactivity_timeout_secs = part.integer_or<std::uint64_t>(
            "inactivity_timeout_secs", config.ssh_inactivity_timeout_secs);
    });
    section(reader, "metrics", "MetricsConfig", [&](const Reader& part) {
        config.metrics_capacity =
            part.integer_or<std::uint32_t>("capacity", config.metrics_capacity);
    });
    return config;
}

bool file_missing(const fs::path& file) {
    std::error_code error;
    return fs::status(file, error).type() == fs::file_type::not_found;
}

}  // namespace

HomePaths LocalConfig::home_paths() const {
    return HomePaths(home.value_or(environment_home()), paths);
}

LocalConfig parse_local_config(std::string_view text) {
    try {
        return read_local_config(json::parse(text));
    } catch (const json::ParseError& error) {
        throw Error(ErrorCode::kJson, error.what());
    }
}

LocalConfig load_local_config() {
    return load_local_config(config_file_path());
}

LocalConfig load_local_config(const fs::path& file) {
    try {
        return load_local_config_strict(file);
    } catch (const Error&) {
        return {};
    }
}

LocalConfig load_local_config_strict(const fs::path& file) {
    if (file_missing(file)) return {};
    try {
        return parse_local_config(read_file(file, kMaxConfigBytes));
    } catch (const Error& error) {
        const std::string text = " config `" + file.string() + "`: " + error.detail();
        if (error.code() == ErrorCode::kIo)
            throw Error(ErrorCode::kCustom, "failed to read" + text);
        throw Error(ErrorCode::kInvalidConfig, "failed to parse" + text);
    }
}

void validate_sandbox_defaults(const LocalConfig& config) {
    const auto invalid = [](const std::string& text) {
        throw Error(ErrorCode::kInvalidConfig, text);
    };
    const SandboxDefaults& defaults = config.sandbox_defaults;
    if (defaults.cpus == 0) invalid("cpus must be greater than 0");
    if (defaults.memory_mib == 0) invalid("memory must be greater than 0");
    if (defaults.placement_profile &&
        !config.placement_profiles.contains(*defaults.placement_profile))
        invalid("placement profile `" + *defaults.placement_profile +
                "` is not defined in runtime.placement_profiles");
    if (defaults.oci_root_disk && defaults.oci_upper_size_mib)
        invalid(
            "sandbox_defaults.oci.root_disk and deprecated sandbox_defaults.oci.upper_size_mib are "
            "mutually exclusive");
    if (defaults.oci_root_disk &&
        std::holds_alternative<DiskImageRootDisk>(*defaults.oci_root_disk))
        invalid(
            "sandbox_defaults.oci.root_disk cannot be a shared disk-image; specify user-owned disk "
            "images per sandbox");
    constexpr std::uint64_t kMinPerDiskMib = 128;
    if (config.block_writeback.per_disk_mib.value_or(kMinPerDiskMib) < kMinPerDiskMib)
        invalid("runtime.block_writeback.per_disk_mib must be at least 128 MiB");
}

RootDisk default_root_disk(const SandboxDefaults& defaults) {
    if (defaults.oci_root_disk) return *defaults.oci_root_disk;
    return ManagedRootDisk{defaults.oci_upper_size_mib.value_or(kDefaultManagedRootDiskMib)};
}

RootDisk resolve_root_disk(RootDisk disk, std::uint32_t memory_mib) {
    if (auto* managed = std::get_if<ManagedRootDisk>(&disk); managed && !managed->size_mib)
        managed->size_mib = kDefaultManagedRootDiskMib;
    if (auto* tmpfs = std::get_if<TmpfsRootDisk>(&disk); tmpfs && !tmpfs->size_mib)
        tmpfs->size_mib = std::max(std::uint32_t{1}, memory_mib / 2);
    return disk;
}

}  // namespace msb::state
