#include "state/global_config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "fixture.h"

namespace msb::state {
namespace {

using test::error_of;
using test::ScopedEnv;

class GlobalConfigTest : public ::testing::Test {
  protected:
    LocalConfig load(const std::string& text) {
        home_.write("config.json", text);
        return load_local_config();
    }
    Backend backend(const std::string& text) {
        home_.write("config.json", text);
        return choose_backend();
    }
    std::string backend_error(const std::string& text) {
        return error_of([&] { backend(text); });
    }
    std::string file() const { return (home_.paths().home() / "config.json").string(); }

    test::TempHome home_;
    ScopedEnv msb_home_{"MSB_HOME", home_.paths().home().string()};
    ScopedEnv config_path_{"MSB_CONFIG_PATH", std::nullopt};
    ScopedEnv backend_{"MSB_BACKEND", std::nullopt};
    ScopedEnv profile_{"MSB_PROFILE", std::nullopt};
    ScopedEnv key_{"MSB_API_KEY", std::nullopt};
    ScopedEnv url_{"MSB_API_URL", std::nullopt};
};

TEST_F(GlobalConfigTest, MissingFileIsAllDefaults) {
    EXPECT_EQ(load_local_config(), LocalConfig{});
    EXPECT_EQ(load_local_config().home_paths().home(), home_.paths().home());
    EXPECT_EQ(choose_backend().source, "default");
}

TEST_F(GlobalConfigTest, EveryKeyIsRead) {
    const LocalConfig config = load(R"({
        "home": "/data", "log_level": "debug", "deployment_profile": "multi-tenant",
        "database": {"url": "x", "max_connections": 2, "connect_timeout_secs": 7, "busy_timeout_secs": 1},
        "paths": {"msb": "/m", "cache": "/c", "sandboxes": "/s", "volumes": "/v", "snapshots": "/n", "logs": "/l", "secrets": "/q"},
        "sandbox_defaults": {"cpus": 3, "memory_mib": 256, "thp": "never", "cpu_placement": "auto",
            "placement_profile": "p", "oci": {"root_disk": {"kind": "tmpfs"}}, "shell": "/bin/bash",
            "workdir": "/w", "metrics_sample_interval_ms": 0, "disable_metrics_sample": true},
        "runtime": {"block_writeback": {"mode": "fixed", "per_disk_mib": 200},
            "placement_profiles": {"p": {"numa": {"mode": "strict_single"}, "memory": {"mode": "follow_cpu"}}}},
        "registries": {"ca_certs": "/ca", "hosts": {"h": {"insecure": true, "auth": {"username": "u", "password_env": "V"}}}},
        "ssh": {"inactivity_timeout_secs": 0}, "metrics": {"capacity": 64}, "unknown": [1]})");
    EXPECT_EQ(config.home_paths().database(), "/data/db/msb.db");
    EXPECT_EQ(config.home_paths().sandbox_dir("x"), "/s/x");
    EXPECT_EQ(config.log_level, ConfigLogLevel::kDebug);
    EXPECT_EQ(config.deployment_profile, DeploymentProfile::kMultiTenant);
    EXPECT_EQ(config.database.max_connections, 2u);
    EXPECT_EQ(config.database.busy_timeout, std::chrono::seconds(1));
    EXPECT_EQ(config.sandbox_defaults.cpus, 3);
    EXPECT_EQ(config.sandbox_defaults.metrics_sample_interval_ms, 0u);
    EXPECT_EQ(config.block_writeback.per_disk_mib, 200u);
    EXPECT_EQ(config.placement_profiles.at("p").numa, PlacementProfile::Numa::kStrictSingle);
    EXPECT_EQ(config.registry_hosts.at("h").auth->password_env, "V");
    EXPECT_EQ(config.ssh_inactivity_timeout_secs, 0u);
    EXPECT_EQ(config.metrics_capacity, 64u);
    EXPECT_EQ(error_of([&] { validate_sandbox_defaults(config); }), "");
    EXPECT_EQ(resolve_root_disk(default_root_disk(config.sandbox_defaults), 256),
              RootDisk(TmpfsRootDisk{128}));
}

// spec/state.md check 22.
TEST_F(GlobalConfigTest, SyntaxErrorFailsEveryCommand) {
    EXPECT_TRUE(backend_error("{bad").starts_with("invalid config: failed to parse SDK config at " +
                                                  file() + ": "));
    ScopedEnv local("MSB_BACKEND", "local");  // bypasses the profile reader
    EXPECT_EQ(choose_backend().kind, Backend::Kind::kLocal);
    EXPECT_EQ(load_local_config(), LocalConfig{});
}

TEST_F(GlobalConfigTest, TypeErrorDiscardsTheWholeLocalPart) {
    EXPECT_EQ(load(R"({"database":"x","sandbox_defaults":{"cpus":3}})"), LocalConfig{});
    EXPECT_EQ(choose_backend().kind, Backend::Kind::kLocal);
    for (
        const char* text :
        {R"({"log_level":"loud","sandbox_defaults":{"cpus":3}})",
         R"({"sandbox_defaults":{"cpus":3},"ssh":null})",
         R"({"sandbox_defaults":{"cpus":3},"runtime":{"block_writeback":{"mode":"x"}}})",
         R"({"sandbox_defaults":{"cpus":3},"runtime":{"block_writeback":{"mode":"off","pool_mib":4}}})",
         R"({"sandbox_defaults":{"cpus":3},"runtime":{"block_writeback":{"mode":"auto","pool_mib":0}}})",
         R"({"sandbox_defaults":{"cpus":3},"runtime":{"placement_profiles":{"p":{"numa":{"mode":"inherit"},"memory":{"mode":"inherit"},"z":1}}}})",
         R"({"sandbox_defaults":{"cpus":3},"registries":{"hosts":{"a":{"auth":{"username":"u","store":"x"}}}}})",
         R"({"sandbox_defaults":{"cpus":300}})"})
        EXPECT_EQ(load(text), LocalConfig{}) << text;
    EXPECT_TRUE(error_of([&] {
                    load_local_config_strict(file());
                }).starts_with("invalid config: failed to parse config `" + file() + "`: "));
}

TEST_F(GlobalConfigTest, DefaultsAreCheckedWhenUsed) {
    const auto error = [&](const std::string& text) {
        const LocalConfig config = load(text);
        return error_of([&] { validate_sandbox_defaults(config); });
    };
    EXPECT_EQ(error(R"({"sandbox_defaults":{"cpus":0}})"),
              "invalid config: cpus must be greater than 0");
    EXPECT_EQ(error(R"({"sandbox_defaults":{"placement_profile":"x"}})"),
              "invalid config: placement profile `x` is not defined in "
              "runtime.placement_profiles");
    EXPECT_EQ(
        error(R"({"sandbox_defaults":{"oci":{"root_disk":{"kind":"flat"},"upper_size_mib":5}}})"),
        "invalid config: sandbox_defaults.oci.root_disk and deprecated "
        "sandbox_defaults.oci.upper_size_mib are mutually exclusive");
    EXPECT_EQ(
        error(
            R"({"sandbox_defaults":{"oci":{"root_disk":{"kind":"disk-image","path":"/d","format":"Raw"}}}})"),
        "invalid config: sandbox_defaults.oci.root_disk cannot be a shared disk-image; specify "
        "user-owned disk images per sandbox");
}

TEST_F(GlobalConfigTest, BackendChoice) {
    const std::string profiles =
        R"("profiles":{"l":{"backend":"local"},"c":{"backend":"cloud","api_key_ref":"inline:k","url":"https://u"}})";
    EXPECT_EQ(backend("{" + profiles + "}").source, "default");
    EXPECT_EQ(backend(R"({"active_profile":"l",)" + profiles + "}").source, "active_profile");
    EXPECT_EQ(backend(R"({"active_profile":"  ",)" + profiles + "}").source, "default");
    const Backend cloud = backend(R"({"active_profile":"c",)" + profiles + "}");
    EXPECT_EQ(cloud.kind, Backend::Kind::kCloud);
    EXPECT_EQ(cloud.api_url, "https://u");
    EXPECT_EQ(error_of([&] { require_local_backend(cloud, "Sandbox::create"); }),
              "Sandbox::create is not supported by this backend: use a local backend");
    EXPECT_EQ(backend_error(R"({"active_profile":"p"})"),
              "invalid config: active profile \"p\" not found in SDK config");
    {
        ScopedEnv choice("MSB_BACKEND", " Cloud ");
        EXPECT_EQ(backend_error("{}"),
                  "invalid config: MSB_BACKEND=cloud requires a non-empty MSB_API_KEY or a cloud "
                  "profile");
        EXPECT_EQ(backend_error(R"({"active_profile":"l",)" + profiles + "}"),
                  "invalid config: MSB_BACKEND=cloud cannot select local profile \"l\"");
        ScopedEnv key("MSB_API_KEY", "k");
        EXPECT_EQ(backend("{broken").source, "MSB_API_KEY");  // profiles are not read
    }
    ScopedEnv key("MSB_API_KEY", "k");  // alone never selects cloud
    EXPECT_EQ(backend("{}").kind, Backend::Kind::kLocal);
    ScopedEnv choice("MSB_BACKEND", "moon");
    EXPECT_EQ(backend_error("{}"),
              "invalid config: MSB_BACKEND must be 'local' or 'cloud', got \"moon\"");
}

TEST_F(GlobalConfigTest, ApiKeyReferences) {
    const auto error = [&](const std::string& reference) {
        return backend_error(
            R"({"active_profile":"p","profiles":{"p":{"backend":"cloud","api_key_ref":")" +
            reference + "\"}}}");
    };
    const std::string prefix = "invalid config: profile \"p\": ";
    EXPECT_EQ(backend_error(R"({"active_profile":"p","profiles":{"p":{"backend":"cloud"}}})"),
              "invalid config: profile \"p\" backend=cloud requires an 'api_key_ref' field");
    EXPECT_EQ(
        error("x"),
        prefix + "api_key_ref must start with 'env:', 'inline:', or 'keyring:' \u2014 got \"x\"");
    ScopedEnv unset("STATE_TEST_KEY", std::nullopt);
    EXPECT_EQ(error("env:STATE_TEST_KEY"), prefix + "env var \"STATE_TEST_KEY\" not set");
    EXPECT_EQ(error("env:"), prefix + "api_key_ref 'env:' must name an env var");
    EXPECT_EQ(error("inline:"), prefix + "api_key_ref 'inline:' must include an API key");
    EXPECT_EQ(error("keyring:s"), prefix + "api_key_ref 'keyring:' requires <service>:<name>");
    ScopedEnv set("STATE_TEST_KEY", "k");
    EXPECT_EQ(error("env:STATE_TEST_KEY"), "");
}

}  // namespace
}  // namespace msb::state
