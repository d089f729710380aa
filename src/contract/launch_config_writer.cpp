#include "base/json.h"
#include "contract/bootstrap_json.h"
#include "contract/launch_config.h"

namespace msb::contract {
namespace {

using json::Value;

template <class T>
Value nullable(const std::optional<T>& value) {
    if (!value) return nullptr;
    if constexpr (std::is_same_v<T, std::filesystem::path>)
        return value->string();
    else
        return *value;
}

std::string_view to_string(NumaMode mode) {
    switch (mode) {
        case NumaMode::kPreferSingle:
            return "prefer_single";
        case NumaMode::kStrictSingle:
            return "strict_single";
        case NumaMode::kInherit:
            break;
    }
    return "inherit";
}

void write_placement(Value& out, const LaunchConfig& config) {
    out["cpu_placement"] = to_string(config.cpu_placement);
    if (config.placement_profile_name)
        out["placement_profile_name"] = *config.placement_profile_name;
    if (const auto& profile = config.placement_profile) {
        out["placement_profile"] = {
            {"numa", {{"mode", to_string(profile->numa)}}},
            {"memory",
             {{"mode",
               profile->memory == MemoryPlacement::kFollowCpu ? "follow_cpu" : "inherit"}}}};
    }
}

Value startup_json(const std::optional<StartupCommand>& startup) {
    if (!startup) return nullptr;
    return {{"cmd", startup->cmd},
            {"args", startup->args},
            {"env", startup->env},
            {"cwd", nullable(startup->cwd)},
            {"user", nullable(startup->user)}};
}

Value metrics_json(const MetricsConfig& metrics) {
    Value out = {{"sample_interval_ms", metrics.sample_interval_ms},
                 {"disabled", metrics.disabled}};
    if (metrics.slot) {
        out["slot"] = {{"shm_name", metrics.slot->shm_name},
                       {"slot", metrics.slot->slot},
                       {"generation", metrics.slot->generation}};
    }
    return out;
}

Value rootfs_json(const Rootfs& rootfs) {
    Value out = {{"path", nullable(rootfs.path)},
                 {"follow_root_symlinks", rootfs.follow_root_symlinks},
                 {"disk", nullable(rootfs.disk)},
                 {"disk_format", nullable(rootfs.disk_format)},
                 {"disk_readonly", rootfs.disk_readonly},
                 {"upper", nullable(rootfs.upper)}};
    if (rootfs.upper_format) out["upper_format"] = *rootfs.upper_format;
    return out;
}

// Always the envelope of 0.6.18: our reader takes both, and 0.6.18 refuses the flat form.
Value network_json(const std::optional<NetworkDocument>& network) {
    if (!network) return nullptr;
    Value config = json::parse(network->config);
    if (!config.contains("enabled") && !network->enabled) config["enabled"] = false;
    return {
        {"config", std::move(config)},
        {"outbound_proxy",
         network->outbound_proxy.empty() ? Value(nullptr) : json::parse(network->outbound_proxy)}};
}

void write_devices(Value& out, const LaunchConfig& config) {
    out["mounts"] = config.mounts;
    out["file_mounts"] = Value::array();
    for (const FileMountSpec& mount : config.file_mounts)
        out["file_mounts"].push_back({{"mount", mount.mount}, {"filename", mount.filename}});
    out["disks"] = config.disks;
}

Value vsock_json(const std::vector<VsockRoute>& routes) {
    Value out = Value::array();
    for (const VsockRoute& route : routes) {
        out.push_back({{"host_socket", route.host_socket.string()},
                       {"port", route.port},
                       {"socket_type", route.type == VsockType::kStream ? "stream" : "dgram"}});
    }
    return out;
}

}  // namespace

std::string write_launch_config(const LaunchConfig& config) {
    Value out;
    out["db_path"] = config.db_path.string();
    out["db_connect_timeout_secs"] = config.db_connect_timeout_secs;
    out["log_dir"] = config.log_dir.string();
    out["runtime_dir"] = config.runtime_dir.string();
    out["sandboxes_dir"] = config.sandboxes_dir.string();
    out["run_dir"] = config.run_dir.string();
    out["cpu_lease_dir"] = config.cpu_lease_dir.string();
    out["writeback_lease_dir"] = config.writeback_lease_dir.string();
    write_placement(out, config);
    out["agent_sock"] = config.agent_sock.string();
    out["libkrunfw_path"] = config.libkrunfw_path.string();
    out["thp"] = to_string(config.thp);
    out["block_writeback_limit_bytes"] = nullable(config.block_writeback_limit_bytes);
    out["block_writeback_pool_bytes"] = nullable(config.block_writeback_pool_bytes);
    out["startup"] = startup_json(config.startup);
    out["lifecycle"] = {{"max_duration_secs", nullable(config.max_duration_secs)},
                        {"idle_timeout_secs", nullable(config.idle_timeout_secs)}};
    out["metrics"] = metrics_json(config.metrics);
    out["rootfs"] = rootfs_json(config.rootfs);
    write_devices(out, config);
    out["init_path"] = nullable(config.init_path);
    out["bootstrap"] = bootstrap_to_json(config.bootstrap);
    out["exec_path"] = nullable(config.exec_path);
    out["exec_args"] = config.exec_args;
    out["network"] = network_json(config.network);
    out["deployment_profile"] = config.deployment_profile == DeploymentProfile::kMultiTenant
                                    ? "multi_tenant"
                                    : "single_tenant";
    out["sandbox_slot"] = config.sandbox_slot;
    out["vsock"] = vsock_json(config.vsock);
    return json::dump(out);
}

}  // namespace msb::contract
