// spec/sandbox-process.md sections 2, 6 and 19.
#include "contract/process_args.h"

#include <gtest/gtest.h>

namespace msb::contract {
namespace {

using Words = std::vector<std::string>;

std::string usage_error(const Words& words) {
    try {
        (void)parse_process_args(words);
        return "accepted";
    } catch (const UsageError& error) {
        EXPECT_EQ(error.status(), 2);
        return error.what();
    }
}

TEST(ProcessArgs, LauncherOrder) {
    ProcessArgs args;
    args.name = "demo";
    args.sandbox_id = 7;
    args.log_level = "debug";
    args.parent_watch_fd = kParentWatchFd;
    args.startup_fd = kStartupFd;
    args.vcpus = 2;
    args.max_vcpus = 4;
    args.memory_mib = 512;
    args.max_memory_mib = 512;
    args.config_fd = kConfigFd;
    args.lifecycle_lock_fd = kLifecycleLockFd;
    const Words words = build_process_args(args);
    EXPECT_EQ(words, (Words{"sandbox",
                            "--debug",
                            "--name",
                            "demo",
                            "--sandbox-id",
                            "7",
                            "--parent-watch-fd",
                            "97",
                            "--startup-fd",
                            "98",
                            "--vcpus",
                            "2",
                            "--memory-mib",
                            "512",
                            "--max-vcpus",
                            "4",
                            "--config-fd",
                            "96",
                            "--lifecycle-lock-fd",
                            "99"}));
    const ProcessArgs back = parse_process_args(words);
    EXPECT_EQ(back.name, "demo");
    EXPECT_EQ(back.effective_max_vcpus(), 4u);
    EXPECT_EQ(back.effective_max_memory_mib(), 512u);
    EXPECT_EQ(back.log_level, "debug");
    EXPECT_FALSE(back.legacy_config);
}

TEST(ProcessArgs, FlagsInEveryForm) {
    const ProcessArgs args =
        parse_process_args({"--warn", "sandbox", "--name=sandbox", "--sandbox-id=3", "--log-level",
                            "trace", "--forward"});
    EXPECT_EQ(args.name, "sandbox");
    EXPECT_EQ(args.log_level, "trace") << "--log-level beats the flags";
    EXPECT_TRUE(args.forward);
    EXPECT_EQ(args.effective_max_vcpus(), 1u);
    EXPECT_EQ(args.effective_max_memory_mib(), 512u);
    EXPECT_EQ(parse_process_args({"sandbox", "--name", "n", "--sandbox-id", "1", "--vcpus", "4",
                                  "--max-vcpus", "2"})
                  .effective_max_vcpus(),
              4u);
}

TEST(ProcessArgs, Mistakes) {
    const Words base{"sandbox", "--name", "n", "--sandbox-id", "1"};
    const auto with = [&](Words extra) {
        Words words = base;
        words.insert(words.end(), extra.begin(), extra.end());
        return usage_error(words);
    };
    EXPECT_NE(with({"--vcpus", "300"}).find("number too large"), std::string::npos);
    EXPECT_NE(with({"--vcpus"}).find("a value is required"), std::string::npos);
    EXPECT_NE(with({"--bogus"}).find("unexpected argument '--bogus'"), std::string::npos);
    EXPECT_NE(with({"--forward=yes"}).find("unexpected value"), std::string::npos);
    EXPECT_NE(with({"--debug", "--error"}).find("cannot be used with"), std::string::npos);
    EXPECT_EQ(with({"--log-level", "loud"}),
              "invalid log level: loud (expected: error, warn, info, debug, trace)");
    EXPECT_NE(with({"--mount", "a:/b"}).find("unexpected argument '--mount'"), std::string::npos);
    EXPECT_NE(usage_error({"sandbox", "--sandbox-id", "1"}).find("--name"), std::string::npos);
    EXPECT_NE(usage_error({"sandbox", "--name", "n"}).find("--sandbox-id"), std::string::npos);
}

TEST(ProcessArgs, OlderForm) {
    const ProcessArgs args = parse_process_args({"sandbox",
                                                 "--name",
                                                 "n",
                                                 "--sandbox-id",
                                                 "1",
                                                 "--db-path",
                                                 "/h/db/msb.db",
                                                 "--log-dir",
                                                 "/h/sandboxes/n/logs",
                                                 "--runtime-dir",
                                                 "/h/sandboxes/n/runtime",
                                                 "--agent-sock",
                                                 "/h/run/agent/x.sock",
                                                 "--libkrunfw-path",
                                                 "/k",
                                                 "--max-duration",
                                                 "5",
                                                 "--rootfs-disk",
                                                 "/d.raw",
                                                 "--rootfs-disk-readonly",
                                                 "--mount",
                                                 "t:/x:ro",
                                                 "--mount",
                                                 "nocolon",
                                                 "--env",
                                                 "A=B",
                                                 "--env",
                                                 "MSB_USER=u",
                                                 "--workdir",
                                                 "/w",
                                                 "--network-config",
                                                 "{\"enabled\":false}",
                                                 "--startup-cmd=/bin/true",
                                                 "--startup-arg=-x",
                                                 "--metrics-shm-name",
                                                 "/m",
                                                 "--metrics-slot",
                                                 "1",
                                                 "--metrics-generation",
                                                 "2",
                                                 "--",
                                                 "a",
                                                 "--b"});
    ASSERT_TRUE(args.legacy_config);
    const LaunchConfig& config = *args.legacy_config;
    EXPECT_EQ(config.sandboxes_dir, "/h/sandboxes");
    EXPECT_EQ(config.cpu_lease_dir, "/h/run/cpu-leases");
    EXPECT_EQ(config.max_duration_secs, 5u);
    EXPECT_TRUE(config.rootfs.disk_readonly);
    EXPECT_EQ(config.mounts, Words{"t:/x:ro"});
    EXPECT_EQ(config.bootstrap.user, "u");
    EXPECT_EQ(config.bootstrap.default_cwd, "/w");
    EXPECT_FALSE(config.network_enabled());
    EXPECT_EQ(config.startup->args, Words{"-x"});
    EXPECT_EQ(config.metrics.slot->generation, 2u);
    EXPECT_EQ(config.exec_args, (Words{"a", "--b"}));
    EXPECT_NE(usage_error({"sandbox", "--name", "n", "--sandbox-id", "1", "--db-path", "/x"})
                  .find("--log-dir"),
              std::string::npos);
    EXPECT_NE(usage_error({"sandbox", "--name", "n", "--sandbox-id", "1", "--db-path", "/x",
                           "--log-dir", "/l", "--runtime-dir", "/r", "--agent-sock", "/a",
                           "--libkrunfw-path", "/k", "--network-config", "{"})
                  .find("invalid --network-config"),
              std::string::npos);
}

TEST(StartupLine, WrittenAndRead) {
    EXPECT_EQ(startup_line(123), "{\"pid\":123}\n");
    EXPECT_EQ(parse_startup_line("{\"pid\":123}\n"), 123);
    EXPECT_EQ(parse_startup_line("{\"pid\":5,\"more\":[1]}"), 5);
    for (const char* bad :
         {"", "{}", "pid", "{\"pid\":0}", "{\"pid\":-4}", "{\"pid\":\"5\"}", "{\"pid\":5} x"})
        EXPECT_EQ(parse_startup_line(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace msb::contract
