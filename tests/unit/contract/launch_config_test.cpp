// spec/sandbox-process.md section 4, conformance checks 3, 4, 18 and 23.
#include "contract/launch_config.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace msb::contract {
namespace {

// The example of section 4.5.
const char kExample[] =
    R"({"db_path":"/root/.microsandbox/db/msb.db","db_connect_timeout_secs":30,"log_dir":"/root/.microsandbox/sandboxes/demo/logs","runtime_dir":"/root/.microsandbox/sandboxes/demo/runtime","sandboxes_dir":"/root/.microsandbox/sandboxes","run_dir":"/root/.microsandbox/run","cpu_lease_dir":"/root/.microsandbox/run/cpu-leases","writeback_lease_dir":"/root/.microsandbox/run/writeback-leases","cpu_placement":"inherit","agent_sock":"/root/.microsandbox/run/sandboxes/2a97516c354b68848cdbd8f5/agent.sock","libkrunfw_path":"/usr/lib/libkrunfw.so.5","thp":"madvise","block_writeback_limit_bytes":1610612736,"block_writeback_pool_bytes":2446050099,"startup":null,"lifecycle":{"max_duration_secs":60,"idle_timeout_secs":30},"metrics":{"sample_interval_ms":1000,"disabled":false,"slot":{"shm_name":"/msb-met-36811d6a2cbe4840-v3","slot":0,"generation":1}},"rootfs":{"path":"/srv/root","follow_root_symlinks":false,"disk":null,"disk_format":null,"disk_readonly":false,"upper":null},"mounts":["data_bd47413b:/srv/data:ro,quota=4096"],"file_mounts":[{"mount":"etc_hostfil_03706b46:/srv/hostfile.txt:quota=4096","filename":"hostfile.txt"}],"disks":[],"init_path":null,"bootstrap":{"dir_mounts":[{"tag":"data_bd47413b","guest_path":"/data","flags":{"readonly":true,"noexec":false,"nosuid":false,"nodev":false}}],"hostname":"demo","default_env":[{"key":"FOO","value":"bar"}],"security_profile":"default"},"exec_path":null,"exec_args":[],"network":{"config":{"enabled":true},"outbound_proxy":null},"deployment_profile":"single_tenant","sandbox_slot":1,"vsock":[]})";

json::Value example() {
    return json::parse(kExample);
}
LaunchConfig parse(const json::Value& document) {
    return parse_launch_config(json::dump(document));
}

std::string error_of(const std::string& text) {
    try {
        (void)parse_launch_config(text);
        return "accepted";
    } catch (const LaunchConfigError& error) {
        return error.what();
    }
}
std::string error_without(const std::string& key) {
    json::Value document = example();
    document.erase(key);
    return error_of(json::dump(document));
}
std::string error_with(const std::string& key, json::Value value) {
    json::Value document = example();
    document[key] = std::move(value);
    return error_of(json::dump(document));
}

TEST(LaunchConfig, ExampleIsReadAndWrittenByteForByte) {
    const LaunchConfig config = parse_launch_config(kExample);
    EXPECT_EQ(config.max_duration_secs, 60u);
    EXPECT_EQ(config.metrics.slot->shm_name, "/msb-met-36811d6a2cbe4840-v3");
    EXPECT_EQ(config.rootfs.path, "/srv/root");
    EXPECT_EQ(config.file_mounts.at(0).filename, "hostfile.txt");
    EXPECT_EQ(config.bootstrap.dir_mounts.at(0).tag, "data_bd47413b");
    EXPECT_TRUE(config.bootstrap.dir_mounts.at(0).flags.readonly);
    EXPECT_EQ(config.bootstrap.default_env.at(0).value, "bar");
    EXPECT_EQ(write_launch_config(config), kExample);
}

TEST(LaunchConfig, EveryFieldSurvivesARoundTrip) {
    LaunchConfig config = parse_launch_config(kExample);
    config.cpu_placement = CpuPlacement::kSpread;
    config.placement_profile_name = "gold";
    config.placement_profile =
        PlacementProfile{NumaMode::kStrictSingle, MemoryPlacement::kFollowCpu};
    config.startup = StartupCommand{"/bin/sh", {"-c", "x"}, {"A=B"}, "/tmp", "root"};
    config.rootfs = {.disk = "/d.qcow2",
                     .disk_format = "qcow2",
                     .disk_readonly = true,
                     .upper = "/u",
                     .upper_format = "raw"};
    config.disks = {"id:/x:raw:ro"};
    config.network = NetworkDocument{false, R"({"enabled":false,"ports":[]})",
                                     R"({"Socks4":{"address":"1.2.3.4:5"}})"};
    config.deployment_profile = DeploymentProfile::kMultiTenant;
    config.vsock = {{"/s", 7, VsockType::kDatagram}};
    config.thp = TransparentHugepage::kNever;
    EXPECT_EQ(parse_launch_config(write_launch_config(config)), config);
}

TEST(LaunchConfig, EmptyInput) {
    EXPECT_EQ(error_of(""), "EOF while parsing a value at line 1 column 0");
}

TEST(LaunchConfig, RequiredAndOptionalKeys) {
    for (const char* key : {"db_path", "db_connect_timeout_secs", "log_dir", "runtime_dir",
                            "sandboxes_dir", "cpu_lease_dir", "writeback_lease_dir",
                            "cpu_placement", "agent_sock", "libkrunfw_path", "lifecycle", "metrics",
                            "rootfs", "mounts", "disks", "bootstrap", "exec_args", "sandbox_slot"})
        EXPECT_TRUE(error_without(key).starts_with("missing field `" + std::string(key) +
                                                   "` at line 1 column "))
            << key << error_without(key);
    for (const char* key :
         {"run_dir", "startup", "init_path", "exec_path", "network", "thp", "vsock", "file_mounts",
          "block_writeback_limit_bytes", "deployment_profile"})
        EXPECT_EQ(error_without(key), "accepted") << key;
    EXPECT_EQ(error_with("foo", 5), "accepted");
}

TEST(LaunchConfig, WrongValues) {
    EXPECT_TRUE(error_with("sandbox_slot", 5.5).starts_with("invalid type: floating point `5.5`"))
        << error_with("sandbox_slot", 5.5);
    EXPECT_TRUE(error_with("sandbox_slot", -1).starts_with("invalid value: integer `-1`"))
        << error_with("sandbox_slot", -1);
    EXPECT_TRUE(
        error_with("thp", "x")
            .starts_with("unknown variant `x`, expected one of `always`, `madvise`, `never`"));
    EXPECT_TRUE(
        error_with("mounts", nullptr).starts_with("invalid type: null, expected a sequence"))
        << error_with("mounts", nullptr);
    EXPECT_TRUE(error_with("rootfs", json::Value{{"disk_readonly", 5}})
                    .starts_with("invalid type: integer `5`, expected a boolean"));
    EXPECT_NE(error_with("placement_profile", json::Value{{"x", 1}}), "accepted");
    EXPECT_TRUE(error_of(std::string(kExample) + "x").starts_with("trailing characters"));
    EXPECT_EQ(error_of(std::string(kExample) + " \n\t"), "accepted");
    EXPECT_TRUE(
        error_of(R"({"db_path":"a","db_path":"b"})").starts_with("duplicate field `db_path`"));
    EXPECT_NE(error_of(std::string(100000, '[')), "accepted");
}

TEST(LaunchConfig, BothNetworkGenerations) {
    json::Value document = example();
    document["network"] = {{"enabled", false}};
    EXPECT_FALSE(parse(document).network_enabled());
    document["network"] = {{"config", {{"enabled", false}}}};
    EXPECT_FALSE(parse(document).network_enabled());
    document["network"] = nullptr;
    EXPECT_TRUE(parse(document).network_enabled());
    EXPECT_EQ(parse(document).network, std::nullopt);
    document.erase("network");
    EXPECT_TRUE(parse(document).network_enabled());
}

TEST(LaunchConfig, RunDirectoryIsInferred) {
    LaunchConfig config;
    config.agent_sock = "/h/run/agent/x.sock";
    EXPECT_EQ(effective_run_dir(config), "/h/run");
    config.agent_sock = "/h/sandboxes/d/runtime/agent.sock";
    config.sandboxes_dir = "/h/sandboxes";
    EXPECT_EQ(effective_run_dir(config), "/h/run");
    config.run_dir = "/elsewhere";
    EXPECT_EQ(effective_run_dir(config), "/elsewhere");
}

TEST(LaunchConfig, ProfileWithoutDefinition) {
    json::Value document = example();
    document["placement_profile_name"] = "gold";
    EXPECT_EQ(placement_profile_problem(parse(document)),
              "placement profile `gold` is not defined in runtime.placement_profiles");
    document["placement_profile"] = {{"numa", {{"mode", "inherit"}}},
                                     {"memory", {{"mode", "inherit"}}}};
    EXPECT_EQ(placement_profile_problem(parse(document)), std::nullopt);
}

TEST(LaunchConfig, GenerationZeroFive) {
    json::Value document = example();
    for (const char* key : {"bootstrap", "run_dir", "cpu_lease_dir", "writeback_lease_dir",
                            "cpu_placement", "thp", "vsock"})
        document.erase(key);
    document["env"] = {"MSB_HOSTNAME=old", "FOO=1", "FOO=2",
                       "MSB_BLOCK_ROOT=kind=disk-image,device=/dev/vda,fstype=ext4"};
    document["workdir"] = "/work";
    const LaunchConfig config = parse(document);
    EXPECT_EQ(config.bootstrap.hostname, "old");
    EXPECT_EQ(config.bootstrap.default_cwd, "/work");
    ASSERT_EQ(config.bootstrap.default_env.size(), 1u);
    EXPECT_EQ(config.bootstrap.default_env[0].value, "2");
    EXPECT_EQ(config.cpu_lease_dir, "/root/.microsandbox/run/cpu-leases");
    EXPECT_EQ(config.cpu_placement, CpuPlacement::kInherit);
}

}  // namespace
}  // namespace msb::contract
