#include "state/sandbox_config.h"

#include "base/error.h"
#include "base/text.h"
#include "state/config_fields.h"
#include "state/config_json.h"
#include "state/document_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 4> kCpuPlacements = {"inherit", "auto", "spread", "compact"};
constexpr std::array<std::string_view, 3> kThpPolicies = {"madvise", "always", "never"};
constexpr std::array<std::string_view, 5> kLogLevels = {"error", "warn", "info", "debug", "trace"};
constexpr std::array<std::string_view, 3> kPullPolicies = {"IfMissing", "Always", "Never"};
constexpr std::array<std::string_view, 2> kSecurityProfiles = {"default", "restricted"};
constexpr std::array<std::string_view, 2> kDeploymentProfiles = {"single_tenant", "multi_tenant"};
constexpr std::array<std::string_view, 2> kVsockTypes = {"stream", "dgram"};
constexpr std::array<std::string_view, 16> kRlimits = {
    "Cpu",     "Fsize", "Data",  "Stack",      "Core",     "Rss",  "Nproc",  "Nofile",
    "Memlock", "As",    "Locks", "Sigpending", "Msgqueue", "Nice", "Rtprio", "Rttime"};
constexpr std::array<std::string_view, 16> kRlimitNames = {
    "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
    "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};

std::map<std::string, std::string> read_string_map(const Reader& reader, std::string_view key) {
    std::map<std::string, std::string> map;
    const Value* value = reader.find(key);
    if (value == nullptr) return map;
    const Reader checked(*value, "map");
    for (const auto& [name, item] : value->items())
        map.emplace(name, json::to_string(item));
    return map;
}

Value write_string_map(const std::map<std::string, std::string>& map) {
    Value value = Value::object();
    for (const auto& [key, item] : map)
        value[key] = item;
    return value;
}

std::pair<std::string, std::string> read_pair(const Value& value) {
    if (json::expect_array(value).size() != 2)
        throw json::ParseError("invalid length " + std::to_string(value.size()) +
                               ", expected a tuple of size 2");
    return {json::to_string(value[0]), json::to_string(value[1])};
}

// --- Sections, in document order ---------------------------------------------------------------

Resources read_resources(const Value& value) {
    const Reader reader(value, "SandboxResources");
    Resources resources;
    resources.cpus = reader.integer_or<std::uint8_t>("cpus", resources.cpus);
    resources.memory_mib = reader.integer_or<std::uint32_t>("memory_mib", resources.memory_mib);
    resources.max_cpus = reader.optional_integer<std::uint8_t>("max_cpus").value_or(resources.cpus);
    resources.max_memory_mib =
        reader.optional_integer<std::uint32_t>("max_memory_mib").value_or(resources.memory_mib);
    resources.cpu_placement =
        read_variant_or(reader, "cpu_placement", kCpuPlacements, CpuPlacement::kInherit);
    resources.placement_profile = reader.optional_string("placement_profile");
    resources.thp = read_variant_or(reader, "thp", kThpPolicies, ThpPolicy::kMadvise);
    return resources;
}

Value write_resources(const Resources& resources) {
    Value value = Value::object();
    value["cpus"] = resources.cpus;
    value["memory_mib"] = resources.memory_mib;
    value["max_cpus"] = resources.max_cpus;
    value["max_memory_mib"] = resources.max_memory_mib;
    if (resources.cpu_placement != CpuPlacement::kInherit)
        value["cpu_placement"] = to_string(resources.cpu_placement);
    set_if(value, "placement_profile", resources.placement_profile);
    if (resources.thp != ThpPolicy::kMadvise) value["thp"] = to_string(resources.thp);
    return value;
}

RuntimeOptions read_runtime(const Value& value) {
    const Reader reader(value, "SandboxRuntimeOptions");
    RuntimeOptions runtime;
    runtime.workdir = reader.optional_string("workdir");
    runtime.shell = reader.optional_string("shell");
    runtime.scripts = read_string_map(reader, "scripts");
    runtime.entrypoint = reader.optional_string_list("entrypoint");
    runtime.cmd = reader.optional_string_list("cmd");
    runtime.hostname = reader.optional_string("hostname");
    runtime.user = reader.optional_string("user");
    runtime.log_level = read_optional<ConfigLogLevel>(reader, "log_level", [](const Value& level) {
        return read_variant<ConfigLogLevel>(level, kLogLevels);
    });
    if (reader.present("metrics_sample_interval_ms"))
        runtime.metrics_sample_interval_ms =
            reader.optional_integer<std::uint64_t>("metrics_sample_interval_ms");
    runtime.disable_metrics_sample = reader.boolean_or("disable_metrics_sample", false);
    return runtime;
}

Value write_runtime(const RuntimeOptions& runtime) {
    Value value = Value::object();
    value["workdir"] = or_null(runtime.workdir);
    value["shell"] = or_null(runtime.shell);
    value["scripts"] = write_string_map(runtime.scripts);
    value["entrypoint"] = or_null(runtime.entrypoint);
    value["cmd"] = or_null(runtime.cmd);
    value["hostname"] = or_null(runtime.hostname);
    value["user"] = or_null(runtime.user);
    value["log_level"] = runtime.log_level ? Value(to_string(*runtime.log_level)) : Value(nullptr);
    value["metrics_sample_interval_ms"] = or_null(runtime.metrics_sample_interval_ms);
    value["disable_metrics_sample"] = runtime.disable_metrics_sample;
    return value;
}

EnvVar read_env(const Value& value) {
    if (value.is_array()) {
        auto [key, text] = read_pair(value);
        return {std::move(key), std::move(text)};
    }
    const Reader reader(value, "EnvVar");
    return {reader.string("key"), reader.string("value")};
}

Value write_env(const EnvVar& variable) {
    Value value = Value::object();
    value["key"] = variable.key;
    value["value"] = variable.value;
    return value;
}

Rlimit read_rlimit(const Value& value) {
    const Reader reader(value, "Rlimit");
    return {read_variant<RlimitResource>(reader.raw("resource"), kRlimits),
            reader.integer<std::uint64_t>("soft"), reader.integer<std::uint64_t>("hard")};
}

Value write_rlimit(const Rlimit& limit) {
    Value value = Value::object();
    value["resource"] = to_string(limit.resource);
    value["soft"] = limit.soft;
    value["hard"] = limit.hard;
    return value;
}

VsockRoute read_vsock_route(const Value& value) {
    const Reader reader(value, "VsockRoute");
    return {reader.string("host_socket"), reader.integer<std::uint32_t>("port"),
            read_variant_or(reader, "socket_type", kVsockTypes, VsockType::kStream)};
}

std::vector<VsockRoute> read_vsock(const Value& value) {
    const Reader reader(value, "VsockConfig");
    return read_list_or_empty<VsockRoute>(reader, "routes", read_vsock_route);
}

Value write_vsock(const std::vector<VsockRoute>& routes) {
    Value value = Value::object();
    value["routes"] = write_list(routes, [](const VsockRoute& route) {
        Value item = Value::object();
        item["host_socket"] = route.host_socket;
        item["port"] = route.port;
        item["socket_type"] = variant_name(route.socket_type, kVsockTypes);
        return item;
    });
    return value;
}

InitConfig read_init(const Value& value) {
    const Reader reader(value, "HandoffInit");
    return {reader.string("cmd"), reader.string_list_or_empty("args"),
            read_list_or_empty<std::pair<std::string, std::string>>(reader, "env", read_pair)};
}

Value write_init(const InitConfig& init) {
    Value value = Value::object();
    value["cmd"] = init.cmd;
    value["args"] = init.args;
    value["env"] = write_list(init.env, [](const std::pair<std::string, std::string>& pair) {
        return Value::array({pair.first, pair.second});
    });
    return value;
}

LifecycleOptions read_lifecycle(const Value& value) {
    const Reader reader(value, "SandboxLifecycle");
    return {reader.boolean_or("ephemeral", false),
            reader.optional_integer<std::uint64_t>("max_duration_secs"),
            reader.optional_integer<std::uint64_t>("idle_timeout_secs")};
}

Value write_lifecycle(const LifecycleOptions& lifecycle) {
    Value value = Value::object();
    value["ephemeral"] = lifecycle.ephemeral;
    value["max_duration_secs"] = or_null(lifecycle.max_duration_secs);
    value["idle_timeout_secs"] = or_null(lifecycle.idle_timeout_secs);
    return value;
}

// Older documents may carry registry credentials; they are checked like any field and never written.
void check_registry_auth(const Value& value) {
    static constexpr std::array<std::string_view, 2> kKinds = {"Anonymous", "Basic"};
    if (value.is_null() || value == "Anonymous") return;
    if (value.is_string()) unknown_variant(value.get<std::string>(), kKinds);
    const Tagged tagged = read_tagged(value, "RegistryAuth");
    if (tagged.tag == "Anonymous" && tagged.value.is_null()) return;
    if (tagged.tag != "Basic") unknown_variant(tagged.tag, kKinds);
    if (tagged.value.is_array()) {
        read_pair(tagged.value);
        return;
    }
    const Reader reader(tagged.value, "RegistryAuth::Basic");
    reader.string("username");
    reader.string("password");
}

}  // namespace

std::string_view to_string(CpuPlacement placement) {
    return variant_name(placement, kCpuPlacements);
}
std::string_view to_string(ThpPolicy policy) {
    return variant_name(policy, kThpPolicies);
}
std::string_view to_string(ConfigLogLevel level) {
    return variant_name(level, kLogLevels);
}
std::string_view to_string(PullPolicy policy) {
    return variant_name(policy, kPullPolicies);
}
std::string_view to_string(SecurityProfile profile) {
    return variant_name(profile, kSecurityProfiles);
}
std::string_view to_string(DeploymentProfile profile) {
    return variant_name(profile, kDeploymentProfiles);
}
std::string_view to_string(RlimitResource resource) {
    return variant_name(resource, kRlimits);
}
std::string_view rlimit_name(RlimitResource resource) {
    return variant_name(resource, kRlimitNames);
}

std::optional<RlimitResource> parse_rlimit_name(std::string_view name) {
    for (std::size_t i = 0; i < kRlimitNames.size(); ++i) {
        if (iequals(name, kRlimitNames[i])) return static_cast<RlimitResource>(i);
    }
    return std::nullopt;
}

SandboxConfig sandbox_config_from_json(const Value& value) {
    const Reader reader(value, "SandboxConfig");
    SandboxConfig config;
    config.name = reader.string_or("name", "");
    if (const Value* image = reader.find("image")) config.image = image_from_json(*image);
    if (const Value* resources = reader.find("resources"))
        config.resources = read_resources(*resources);
    if (const Value* runtime = reader.find("runtime")) config.runtime = read_runtime(*runtime);
    config.env = read_list_or_empty<EnvVar>(reader, "env", read_env);
    config.labels = read_string_map(reader, "labels");
    config.rlimits = read_list_or_empty<Rlimit>(reader, "rlimits", read_rlimit);
    config.mounts = read_list_or_empty<Mount>(reader, "mounts", mount_from_json);
    config.patches = read_list_or_empty<Patch>(reader, "patches", patch_from_json);
    if (const Value* network = reader.find("network"))
        config.network = network_config_from_json(*network);
    if (const Value* vsock = reader.find("vsock")) config.vsock = read_vsock(*vsock);
    config.init = read_optional<InitConfig>(reader, "init", read_init);
    config.pull_policy =
        read_variant_or(reader, "pull_policy", kPullPolicies, PullPolicy::kIfMissing);
    config.security_profile =
        read_variant_or(reader, "security_profile", kSecurityProfiles, SecurityProfile::kDefault);
    config.deployment_profile = read_variant_or(reader, "deployment_profile", kDeploymentProfiles,
                                                DeploymentProfile::kSingleTenant);
    if (const Value* lifecycle = reader.find("lifecycle"))
        config.lifecycle = read_lifecycle(*lifecycle);
    config.manifest_digest = reader.optional_string("manifest_digest");
    if (const Value* auth = reader.find("registry_auth")) check_registry_auth(*auth);
    return config;
}

Value to_json(const SandboxConfig& config) {
    Value value = Value::object();
    value["name"] = config.name;
    value["image"] = to_json(config.image);
    value["resources"] = write_resources(config.resources);
    value["runtime"] = write_runtime(config.runtime);
    value["env"] = write_list(config.env, write_env);
    value["labels"] = write_string_map(config.labels);
    value["rlimits"] = write_list(config.rlimits, write_rlimit);
    value["mounts"] = write_list(config.mounts, [](const Mount& mount) { return to_json(mount); });
    value["patches"] =
        write_list(config.patches, [](const Patch& patch) { return to_json(patch); });
    value["network"] = to_json(config.network);
    if (!config.vsock.empty()) value["vsock"] = write_vsock(config.vsock);
    value["init"] = config.init ? write_init(*config.init) : Value(nullptr);
    value["pull_policy"] = to_string(config.pull_policy);
    value["security_profile"] = to_string(config.security_profile);
    value["deployment_profile"] = to_string(config.deployment_profile);
    value["lifecycle"] = write_lifecycle(config.lifecycle);
    value["manifest_digest"] = or_null(config.manifest_digest);
    return value;
}

SandboxConfig parse_sandbox_config(std::string_view text) {
    try {
        return sandbox_config_from_json(json::parse(text));
    } catch (const json::ParseError& error) {
        throw Error(ErrorCode::kJson, error.what());
    }
}

std::string write_sandbox_config(const SandboxConfig& config) {
    return json::dump(to_json(config));
}

SandboxConfig persisted_form(SandboxConfig config) {
    if (!config.network.secrets) return config;
    for (SecretEntry& secret : config.network.secrets->secrets) {
        if (secret.source) secret.value.clear();
    }
    return config;
}

std::string image_display(const Image& image) {
    if (const auto* oci = std::get_if<OciImage>(&image)) return oci->reference;
    if (const auto* bind = std::get_if<BindImage>(&image)) return bind->path;
    return std::get<DiskImage>(image).path;
}

std::string image_display(std::string_view config_json) {
    try {
        return image_display(parse_sandbox_config(config_json).image);
    } catch (const Error&) {
        return "-";
    }
}

}  // namespace msb::state
