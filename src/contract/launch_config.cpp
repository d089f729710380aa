#include "contract/launch_config.h"

#include <limits>
#include <utility>

#include "base/json.h"
#include "contract/bootstrap_json.h"

namespace msb::contract {
namespace {

using json::ParseError;
using json::Reader;
using json::Value;
using Path = std::filesystem::path;

const std::initializer_list<std::string_view> kPlacementNames = {"inherit", "auto", "spread",
                                                                 "compact"};
const std::initializer_list<std::string_view> kThpNames = {"always", "madvise", "never"};

// Documents of 0.5.10: no `bootstrap` but `env`, and none of the keys that came with 0.6.
bool is_generation_0_5(const Reader& reader) {
    return !reader.present("bootstrap") && reader.present("env");
}

std::optional<Path> optional_path(const Reader& reader, std::string_view key) {
    auto text = reader.optional_string(key);
    return text ? std::optional<Path>(std::move(*text)) : std::nullopt;
}

PlacementProfile read_placement_profile(const Value& value) {
    Reader reader(value, "PlacementProfile");
    for (const auto& [key, unused] : value.items()) {
        if (key != "numa" && key != "memory")
            throw ParseError("unknown field `" + key + "`, expected `numa` or `memory`");
    }
    PlacementProfile profile;
    if (const Value* numa = reader.find("numa"))
        profile.numa = static_cast<NumaMode>(
            Reader(*numa, "NumaPlacement")
                .variant("mode", {"prefer_single", "strict_single", "inherit"}));
    if (const Value* memory = reader.find("memory"))
        profile.memory = static_cast<MemoryPlacement>(
            Reader(*memory, "MemoryPlacement").variant("mode", {"follow_cpu", "inherit"}));
    return profile;
}

StartupCommand read_startup(const Value& value) {
    Reader reader(value, "StartupCommand");
    return {.cmd = reader.string("cmd"),
            .args = reader.string_list("args"),
            .env = reader.string_list("env"),
            .cwd = reader.optional_string("cwd"),
            .user = reader.optional_string("user")};
}

MetricsConfig read_metrics(const Value& value) {
    Reader reader(value, "MetricsConfig");
    MetricsConfig metrics;
    metrics.sample_interval_ms = reader.integer<std::uint64_t>("sample_interval_ms");
    metrics.disabled = reader.boolean("disabled");
    if (reader.has("slot")) {
        Reader slot(reader.raw("slot"), "MetricsSlot");
        metrics.slot = MetricsSlot{.shm_name = slot.string("shm_name"),
                                   .slot = slot.integer<std::uint32_t>("slot"),
                                   .generation = slot.integer<std::uint64_t>("generation")};
    }
    return metrics;
}

Rootfs read_rootfs(const Value& value) {
    Reader reader(value, "RootfsConfig");
    Rootfs rootfs;
    rootfs.path = optional_path(reader, "path");
    rootfs.follow_root_symlinks = reader.boolean_or("follow_root_symlinks", false);
    rootfs.disk = optional_path(reader, "disk");
    rootfs.disk_format = reader.optional_string("disk_format");
    rootfs.disk_readonly = reader.boolean("disk_readonly");
    rootfs.upper = optional_path(reader, "upper");
    rootfs.upper_format = reader.optional_string("upper_format");
    return rootfs;
}

// Both generations: an envelope has the key `config`, otherwise the object is the NetworkConfig itself (section 4.3).
NetworkDocument read_network(const Value& value) {
    Reader reader(value, "NetworkConfig");
    NetworkDocument network;
    const Value* config = &value;
    if (reader.present("config")) {
        config = &reader.raw("config");
        if (const Value* proxy = reader.find("outbound_proxy"); proxy && !proxy->is_null()) {
            if (!proxy->is_object() || proxy->size() != 1 ||
                (!proxy->contains("Socks4") && !proxy->contains("Socks5")))
                throw ParseError("invalid outbound_proxy, expected one of `Socks4`, `Socks5`");
            network.outbound_proxy = json::dump(*proxy);
        }
    }
    network.enabled = Reader(*config, "NetworkConfig").boolean_or("enabled", true);
    network.config = json::dump(*config);
    return network;
}

std::vector<FileMountSpec> read_file_mounts(const Reader& reader) {
    std::vector<FileMountSpec> mounts;
    if (const Value* list = reader.find("file_mounts")) {
        for (const Value& item : json::expect_array(*list)) {
            Reader entry(item, "FileMount");
            mounts.push_back(
                {.mount = entry.string("mount"), .filename = entry.string("filename")});
        }
    }
    return mounts;
}

std::vector<VsockRoute> read_vsock(const Reader& reader) {
    std::vector<VsockRoute> routes;
    if (const Value* list = reader.find("vsock")) {
        for (const Value& item : json::expect_array(*list)) {
            Reader entry(item, "VsockRoute");
            VsockRoute route;
            route.host_socket = entry.string("host_socket");
            route.port = entry.integer<std::uint32_t>("port");
            route.type =
                static_cast<VsockType>(entry.variant_or("socket_type", {"stream", "dgram"}, 0));
            routes.push_back(std::move(route));
        }
    }
    return routes;
}

void read_paths(const Reader& reader, LaunchConfig& config) {
    config.db_path = reader.string("db_path");
    config.db_connect_timeout_secs = reader.integer<std::uint64_t>("db_connect_timeout_secs");
    config.log_dir = reader.string("log_dir");
    config.runtime_dir = reader.string("runtime_dir");
    config.sandboxes_dir = reader.string("sandboxes_dir");
    config.run_dir = reader.string_or("run_dir", "");
    config.agent_sock = reader.string("agent_sock");
    config.libkrunfw_path = reader.string("libkrunfw_path");
    config.init_path = optional_path(reader, "init_path");
    config.exec_path = optional_path(reader, "exec_path");
    config.exec_args = reader.string_list("exec_args");
}

void read_placement(const Reader& reader, bool old, LaunchConfig& config) {
    config.cpu_placement =
        static_cast<CpuPlacement>(old ? reader.variant_or("cpu_placement", kPlacementNames, 0)
                                      : reader.variant("cpu_placement", kPlacementNames));
    config.placement_profile_name = reader.optional_string("placement_profile_name");
    if (reader.has("placement_profile"))
        config.placement_profile = read_placement_profile(reader.raw("placement_profile"));
    if (old && !reader.present("cpu_lease_dir")) {
        config.cpu_lease_dir = effective_run_dir(config) / "cpu-leases";
        config.writeback_lease_dir = effective_run_dir(config) / "writeback-leases";
    } else {
        config.cpu_lease_dir = reader.string("cpu_lease_dir");
        config.writeback_lease_dir = reader.string("writeback_lease_dir");
    }
    config.thp = static_cast<TransparentHugepage>(reader.variant_or(
        "thp", kThpNames, static_cast<std::size_t>(TransparentHugepage::kMadvise)));
    config.block_writeback_limit_bytes =
        reader.optional_integer<std::uint64_t>("block_writeback_limit_bytes");
    config.block_writeback_pool_bytes =
        reader.optional_integer<std::uint64_t>("block_writeback_pool_bytes");
}

void read_guest(const Reader& reader, bool old, LaunchConfig& config) {
    if (old) {
        config.bootstrap = bootstrap_from_env(reader.string_list("env"));
        if (auto workdir = reader.optional_string("workdir"))
            config.bootstrap.default_cwd = std::move(workdir);
    } else {
        config.bootstrap = bootstrap_from_json(reader.raw("bootstrap"));
    }
    config.mounts = reader.string_list("mounts");
    config.file_mounts = read_file_mounts(reader);
    config.disks = reader.string_list("disks");
    if (reader.has("network")) config.network = read_network(reader.raw("network"));
    config.deployment_profile = static_cast<DeploymentProfile>(
        reader.variant_or("deployment_profile", {"single_tenant", "multi_tenant"}, 0));
    config.sandbox_slot = reader.integer<std::uint64_t>("sandbox_slot");
    config.vsock = read_vsock(reader);
}

LaunchConfig read(const Value& document) {
    Reader reader(document, "LaunchConfig");
    const bool old = is_generation_0_5(reader);
    LaunchConfig config;
    read_paths(reader, config);
    read_placement(reader, old, config);
    if (reader.has("startup")) config.startup = read_startup(reader.raw("startup"));
    Reader lifecycle(reader.raw("lifecycle"), "LifecycleConfig");
    config.max_duration_secs = lifecycle.optional_integer<std::uint64_t>("max_duration_secs");
    config.idle_timeout_secs = lifecycle.optional_integer<std::uint64_t>("idle_timeout_secs");
    config.metrics = read_metrics(reader.raw("metrics"));
    config.rootfs = read_rootfs(reader.raw("rootfs"));
    read_guest(reader, old, config);
    return config;
}

// serde reports the place where a struct ended; for us that is the end of the document.
std::string end_position(std::string_view text) {
    const std::size_t last = text.find_last_not_of(" \t\r\n");
    const std::string_view used = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
    std::size_t line = 1, column = 0;
    for (char c : used) {
        ++column;
        if (c == '\n') ++line, column = 0;
    }
    return " at line " + std::to_string(line) + " column " + std::to_string(column);
}

}  // namespace

std::string_view to_string(CpuPlacement value) noexcept {
    return kPlacementNames.begin()[static_cast<std::size_t>(value)];
}

std::string_view to_string(TransparentHugepage value) noexcept {
    return kThpNames.begin()[static_cast<std::size_t>(value)];
}

LaunchConfig parse_launch_config(std::string_view text) {
    Value document;
    try {
        document = json::parse(text);
    } catch (const ParseError& error) {
        throw LaunchConfigError(error.what());
    }
    try {
        return read(document);
    } catch (const ParseError& error) {
        throw LaunchConfigError(error.what() + end_position(text));
    }
}

std::filesystem::path effective_run_dir(const LaunchConfig& config) {
    if (!config.run_dir.empty()) return config.run_dir;
    const Path parent = config.agent_sock.parent_path();
    if (parent.filename() == "agent") return parent.parent_path();
    return config.sandboxes_dir.parent_path() / "run";
}

std::optional<std::string> placement_profile_problem(const LaunchConfig& config) {
    if (!config.placement_profile_name || config.placement_profile) return std::nullopt;
    return "placement profile `" + *config.placement_profile_name +
           "` is not defined in runtime.placement_profiles";
}

}  // namespace msb::contract
