#include "state/home.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "fixture.h"

namespace msb::state {
namespace {

using test::error_of;
using test::ScopedEnv;

TEST(Home, NamesAreHashedAsUpstreamDoes) {
    // spec/state.md check 10, spec/sandbox-process.md check 16.
    EXPECT_EQ(h24("web"), "4b5e57f6eb2f42b9039b3d1e");
    EXPECT_EQ(h32("web"), "4b5e57f6eb2f42b9039b3d1e13929295");
    EXPECT_EQ(h24("worker"), "87eba76e7f3164534045ba92");
    EXPECT_EQ(h32("demo"), "2a97516c354b68848cdbd8f54a226a0a");
    EXPECT_EQ(HomePaths("/home/u/.microsandbox").metrics_shm_name(),
              "/msb-met-a3292eaac203de93-v3");
    EXPECT_EQ(HomePaths("/root/.microsandbox").metrics_shm_name(), "/msb-met-36811d6a2cbe4840-v3");
}

TEST(Home, EnvironmentDecides) {
    ScopedEnv home("HOME", "/home/u");
    {
        ScopedEnv msb("MSB_HOME", "/data/msb");
        EXPECT_EQ(environment_home(), "/data/msb");
        EXPECT_EQ(config_file_path(), "/data/msb/config.json");
    }
    {
        ScopedEnv msb("MSB_HOME", "rel/dir");
        EXPECT_EQ(environment_home(), "rel/dir");
    }
    {
        ScopedEnv msb("MSB_HOME", "");  // empty counts as unset
        EXPECT_EQ(environment_home(), "/home/u/.microsandbox");
        ScopedEnv config("MSB_CONFIG_PATH", "/etc/msb.json");
        EXPECT_EQ(config_file_path(), "/etc/msb.json");
    }
}

TEST(Home, PasswdHomeWhenHomeIsUnset) {
    ScopedEnv msb("MSB_HOME", std::nullopt);
    ScopedEnv home("HOME", std::nullopt);
    EXPECT_EQ(environment_home().filename(), ".microsandbox");
    EXPECT_NE(environment_home().parent_path(), "");
}

TEST(Home, LayoutAndOverrides) {
    const HomePaths plain("/h");
    EXPECT_EQ(plain.database(), "/h/db/msb.db");
    EXPECT_EQ(plain.migration_lock(), "/h/db/msb.db.migration.lock");
    EXPECT_EQ(plain.sandbox_scripts("web"), "/h/sandboxes/web/runtime/scripts");
    EXPECT_EQ(plain.creation_lock("web"),
              "/h/run/creation-locks/4b5e57f6eb2f42b9039b3d1e13929295.lock");
    EXPECT_EQ(plain.lifecycle_lock("web"), "/h/run/locks/4b5e57f6eb2f42b9039b3d1e13929295.lock");
    EXPECT_EQ(plain.volume_lock("v"), "/h/volumes/.locks/v.lock");
    EXPECT_EQ(plain.registry_secret("s"), "/h/secrets/registries/s");

    PathOverrides overrides;
    overrides.sandboxes = "/big/sandboxes";
    overrides.volumes = "/big/volumes";
    const HomePaths moved("/h", overrides);
    EXPECT_EQ(moved.sandbox_logs("web"), "/big/sandboxes/web/logs");
    EXPECT_EQ(moved.volume_disk("v"), "/big/volumes/v/disk.raw");
    EXPECT_EQ(moved.roots().run, "/h/run");
    EXPECT_EQ(moved.roots().sandboxes, "/big/sandboxes");
}

TEST(Home, SocketPathsMustFit) {
    // control.sock of a 55 byte home takes 107 bytes: the most a socket address holds.
    const std::string longest(54, 'x');
    EXPECT_EQ(error_of([&] { check_socket_path_length(HomePaths("/" + longest).roots(), "web"); }),
              "");
    // One more byte: agent.sock (105 + 1 bytes) still fits, control.sock does not.
    EXPECT_EQ(
        error_of([&] { check_socket_path_length(HomePaths("/x" + longest).roots(), "web"); }),
        "invalid config: sandbox runtime socket path is too long: shortest derived path is 106 "
        "bytes, but Unix socket paths on this platform must be shorter than 108 bytes; set "
        "MSB_HOME to a shorter directory");
}

}  // namespace
}  // namespace msb::state
