#include <set>

#include "base/json.h"
#include "contract/bootstrap_json.h"
#include "contract/word_reader.h"

namespace msb::contract {
namespace {

const std::set<std::string, std::less<>> kValueFlags = {"--db-path",
                                                        "--log-dir",
                                                        "--runtime-dir",
                                                        "--agent-sock",
                                                        "--libkrunfw-path",
                                                        "--db-connect-timeout-secs",
                                                        "--sandboxes-dir",
                                                        "--max-duration",
                                                        "--idle-timeout",
                                                        "--rootfs-path",
                                                        "--rootfs-disk",
                                                        "--rootfs-disk-format",
                                                        "--rootfs-blk",
                                                        "--init-path",
                                                        "--workdir",
                                                        "--exec-path",
                                                        "--network-config",
                                                        "--sandbox-slot",
                                                        "--startup-cmd",
                                                        "--startup-cwd",
                                                        "--startup-user",
                                                        "--metrics-slot",
                                                        "--metrics-shm-name",
                                                        "--metrics-generation",
                                                        "--metrics-sample-interval-ms"};
const std::set<std::string, std::less<>> kListFlags = {"--mount", "--disk", "--env",
                                                       "--startup-arg", "--startup-env"};

template <class Int>
Int number(const std::string& flag, const std::string& text) {
    if (auto value = parse_integer<Int>(text)) return *value;
    throw UsageError("error: invalid value '" + text + "' for '" + flag +
                         " <VALUE>': " + std::string(parse_integer_error<Int>(text)),
                     2);
}

NetworkDocument network_document(const std::string& text) {
    try {
        const json::Value value = json::parse(text);
        NetworkDocument network;
        network.enabled = json::Reader(value, "NetworkConfig").boolean_or("enabled", true);
        network.config = json::dump(value);
        return network;
    } catch (const json::ParseError& error) {
        throw UsageError(std::string("invalid --network-config: ") + error.what(), 2);
    }
}

}  // namespace

bool LegacyArgs::read(WordReader& words) {
    const std::string flag = words.flag();
    if (kValueFlags.contains(flag))
        values_[flag] = words.value();
    else if (kListFlags.contains(flag))
        lists_[flag].push_back(words.value());
    else if (flag == "--rootfs-disk-readonly")
        rootfs_readonly_ = true;
    else if (flag == "--disable-metrics-sample")
        metrics_disabled_ = true;
    else if (flag == "--")
        exec_args_ = words.rest();
    else
        return false;
    return true;
}

std::optional<LaunchConfig> LegacyArgs::finish() {
    if (values_.contains("--db-path")) return build();
    if (!values_.empty())
        throw UsageError("error: unexpected argument '" + values_.begin()->first + "' found", 2);
    if (!lists_.empty())
        throw UsageError("error: unexpected argument '" + lists_.begin()->first + "' found", 2);
    if (rootfs_readonly_)
        throw UsageError("error: unexpected argument '--rootfs-disk-readonly' found", 2);
    if (metrics_disabled_)
        throw UsageError("error: unexpected argument '--disable-metrics-sample' found", 2);
    if (!exec_args_.empty())
        throw UsageError("error: unexpected argument '" + exec_args_.front() + "' found", 2);
    return std::nullopt;
}

std::string LegacyArgs::required(const std::string& flag) const {
    const auto found = values_.find(flag);
    if (found == values_.end())
        throw UsageError(
            "error: the following required arguments were not provided:\n  " + flag + " <VALUE>",
            2);
    return found->second;
}

std::optional<std::string> LegacyArgs::optional(const std::string& flag) const {
    const auto found = values_.find(flag);
    return found == values_.end() ? std::nullopt : std::optional<std::string>(found->second);
}

LaunchConfig LegacyArgs::build() {
    LaunchConfig config;
    config.db_path = required("--db-path");
    config.log_dir = required("--log-dir");
    config.runtime_dir = required("--runtime-dir");
    config.agent_sock = required("--agent-sock");
    config.libkrunfw_path = required("--libkrunfw-path");
    if (auto text = optional("--db-connect-timeout-secs"))
        config.db_connect_timeout_secs = number<std::uint64_t>("--db-connect-timeout-secs", *text);
    config.sandboxes_dir =
        optional("--sandboxes-dir").value_or(config.log_dir.parent_path().parent_path().string());
    config.cpu_lease_dir = effective_run_dir(config) / "cpu-leases";
    config.writeback_lease_dir = effective_run_dir(config) / "writeback-leases";
    if (auto text = optional("--max-duration"))
        config.max_duration_secs = number<std::uint64_t>("--max-duration", *text);
    if (auto text = optional("--idle-timeout"))
        config.idle_timeout_secs = number<std::uint64_t>("--idle-timeout", *text);

    config.metrics.disabled = metrics_disabled_;
    if (auto text = optional("--metrics-sample-interval-ms"))
        config.metrics.sample_interval_ms =
            number<std::uint64_t>("--metrics-sample-interval-ms", *text);
    const auto shm = optional("--metrics-shm-name"), slot = optional("--metrics-slot"),
               generation = optional("--metrics-generation");
    if (shm && slot && generation)
        config.metrics.slot =
            MetricsSlot{.shm_name = *shm,
                        .slot = number<std::uint32_t>("--metrics-slot", *slot),
                        .generation = number<std::uint64_t>("--metrics-generation", *generation)};

    config.rootfs.path = optional("--rootfs-path");
    config.rootfs.disk = optional("--rootfs-disk");
    config.rootfs.disk_format = optional("--rootfs-disk-format");
    config.rootfs.disk_readonly = rootfs_readonly_;
    config.rootfs.upper = optional("--rootfs-blk");
    // 0.4.3 ignored mounts it could not split.
    for (std::string& mount : lists_["--mount"])
        if (mount.find(':') != std::string::npos) config.mounts.push_back(std::move(mount));
    config.disks = std::move(lists_["--disk"]);
    try {
        config.bootstrap = bootstrap_from_env(lists_["--env"]);
    } catch (const json::ParseError& error) {
        throw UsageError(std::string("invalid --env: ") + error.what(), 2);
    }
    if (auto workdir = optional("--workdir")) config.bootstrap.default_cwd = *workdir;
    config.init_path = optional("--init-path");
    config.exec_path = optional("--exec-path");
    config.exec_args = std::move(exec_args_);
    if (auto text = optional("--network-config")) config.network = network_document(*text);
    if (auto text = optional("--sandbox-slot"))
        config.sandbox_slot = number<std::uint64_t>("--sandbox-slot", *text);
    if (auto cmd = optional("--startup-cmd"))
        config.startup = StartupCommand{.cmd = *cmd,
                                        .args = std::move(lists_["--startup-arg"]),
                                        .env = std::move(lists_["--startup-env"]),
                                        .cwd = optional("--startup-cwd"),
                                        .user = optional("--startup-user")};
    return config;
}

}  // namespace msb::contract
