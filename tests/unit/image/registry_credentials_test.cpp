#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/encoding.h"
#include "base/error.h"
#include "image/credentials.h"

namespace msb::image {
namespace {

namespace fs = std::filesystem;

class Credentials : public ::testing::Test {
  protected:
    Credentials() {
        std::string name = "/tmp/registry-credentials-XXXXXX";
        directory_ = ::mkdtemp(name.data());
        sources_.docker_config_directory = directory_;
        sources_.secrets_directory = directory_ / "secrets";
        fs::create_directories(sources_.secrets_directory);
        old_path_ = std::getenv("PATH");
        ::setenv("PATH", (directory_.string() + ":" + old_path_).c_str(), 1);
    }
    ~Credentials() override {
        ::setenv("PATH", old_path_.c_str(), 1);
        fs::remove_all(directory_);
    }

    void docker_config(const std::string& json) { write("config.json", json); }
    void write(const std::string& name, const std::string& text) {
        std::ofstream(directory_ / name) << text;
    }
    void helper(const std::string& name, const std::string& script) {
        write("docker-credential-" + name, "#!/bin/sh\n" + script + "\n");
        ::chmod((directory_ / ("docker-credential-" + name)).c_str(), 0755);
    }
    std::optional<BasicCredentials> resolve(const std::string& registry) {
        return resolve_credentials(sources_, registry, {});
    }
    std::string failure(const ConfiguredAuth& auth) {
        sources_.configured["r"] = auth;
        try {
            resolve("r");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }

    fs::path directory_;
    std::string old_path_;
    CredentialSources sources_;
};

using Found = std::optional<BasicCredentials>;

std::string auth_entry(const std::string& key, const std::string& plain) {
    return "{\"auths\":{\"" + key + "\":{\"auth\":\"" + base64_encode(plain) + "\"}}}";
}

TEST_F(Credentials, ExplicitOnesWin) {
    docker_config(auth_entry("r", "docker:pw"));
    sources_.explicit_credentials = BasicCredentials{"me", "secret"};
    EXPECT_EQ(resolve("r"), Found({"me", "secret"}));
}

TEST_F(Credentials, ConfigReadsTrimmedSecretFiles) {
    write("secrets/file", " hunter2\n\n");
    sources_.configured["r"] = {"me", {}, {}, "file"};
    docker_config(auth_entry("r", "docker:pw"));
    EXPECT_EQ(resolve("r"), Found({"me", "hunter2"}));
}

TEST_F(Credentials, ConfigReadsTheEnvironment) {
    ::setenv("REGISTRY_TEST_PASSWORD", "from env", 1);
    sources_.configured["r"] = {"me", {}, "REGISTRY_TEST_PASSWORD", {}};
    EXPECT_EQ(resolve("r"), Found({"me", "from env"}));
    ::unsetenv("REGISTRY_TEST_PASSWORD");
}

TEST_F(Credentials, FaultyConfigIsAnErrorNotAFallThrough) {
    docker_config(auth_entry("r", "docker:pw"));
    const std::string prefix = "invalid config: registry auth for r: ";
    EXPECT_EQ(failure({"me", {}, {}, {}}), prefix + "entry has no credential source");
    EXPECT_EQ(failure({"me", {}, "A", "b"}), prefix + "entry defines multiple credential sources");
    EXPECT_EQ(failure({"me", {}, "REGISTRY_TEST_UNSET", {}}),
              prefix + "environment variable `REGISTRY_TEST_UNSET` is not set");
    EXPECT_EQ(failure({"me", {}, {}, "absent"}),
              prefix + "failed to read secret `" +
                  (sources_.secrets_directory / "absent").string() +
                  "`: No such file or directory (os error 2)");
    EXPECT_EQ(
        failure({"me", "keyring", {}, {}}),
        "invalid config: secure OS credential storage is disabled; enable the `keyring` feature "
        "to use it for `r`");
    EXPECT_NE(failure({"me", {}, {}, "../config.json"}).find("not a plain file name"),
              std::string::npos);
}

TEST_F(Credentials, DockerAuthsByNameAndByUrl) {
    docker_config(auth_entry("r:5000", "user:pa:ss"));
    EXPECT_EQ(resolve("r:5000"), Found({"user", "pa:ss"}));
    EXPECT_EQ(resolve("r"), std::nullopt);
    docker_config(auth_entry("https://r:5000", "u:p"));
    EXPECT_EQ(resolve("r:5000"), Found({"u", "p"}));
}

TEST_F(Credentials, DockerHubHasManyNames) {
    for (const char* key : {"docker.io", "https://docker.io", "index.docker.io",
                            "https://index.docker.io/v1/", "https://registry-1.docker.io"}) {
        docker_config(auth_entry(key, "u:p"));
        EXPECT_EQ(resolve("docker.io"), Found({"u", "p"})) << key;
    }
    docker_config(auth_entry("https://index.docker.io/v1/", "u:p"));
    EXPECT_EQ(resolve("example.org"), std::nullopt);
}

TEST_F(Credentials, HelpersComeBeforeAuthsAndStoresAfter) {
    helper("one",
           R"(read key; printf '{"ServerURL":"x","Username":"helper","Secret":"%s"}' "$key")");
    helper("two", R"(read key; printf '{"Username":"store","Secret":"s"}')");
    docker_config(
        R"({"credHelpers":{"r":"one"},"credsStore":"two","auths":{"r":{"auth":"dTpw"},"q":{"auth":"dTpw"},"s":{}}})");
    EXPECT_EQ(resolve("r"), Found({"helper", "r"}));
    EXPECT_EQ(resolve("q"), Found({"u", "p"}));
    EXPECT_EQ(resolve("s"), Found({"store", "s"}));
}

TEST_F(Credentials, FailingHelpersAndIdentityTokensAreSkipped) {
    helper("bad", "exit 1");
    helper("token", R"(printf '{"Username":"<token>","Secret":"t"}')");
    helper("noise", "echo certainly not JSON");
    helper("flood", "cat /dev/zero");
    helper("deaf", R"(exec <&-; printf '{"Username":"u","Secret":"p"}')");
    for (const char* name : {"bad", "token", "noise", "flood", "absent", "../bad", ""}) {
        docker_config(std::string(R"({"credHelpers":{"r":")") + name + "\"}}");
        EXPECT_EQ(resolve("r"), std::nullopt) << name;
    }
    docker_config(R"({"credHelpers":{"r":"deaf"}})");
    EXPECT_EQ(resolve("r"), Found({"u", "p"}));
    docker_config(R"({"auths":{"r":{"identitytoken":"t","auth":"dTpw"}}})");
    EXPECT_EQ(resolve("r"), std::nullopt);
}

TEST_F(Credentials, AHangingHelperIsKilledWithItsChildren) {
    helper("hang", "sleep 600 & echo $! >" + (directory_ / "child").string() + "; wait");
    docker_config(R"({"credHelpers":{"r":"hang"}})");
    sources_.helper_timeout = std::chrono::milliseconds(300);
    EXPECT_EQ(resolve("r"), std::nullopt);
    pid_t child = 0;
    std::ifstream(directory_ / "child") >> child;
    ASSERT_GT(child, 0);
    // Nobody of this process waits for a grandchild: it may still be a zombie of init's, but it is dead.
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string text((std::istreambuf_iterator<char>(stat)), {});
    EXPECT_TRUE(text.empty() || text.find(") Z ") != std::string::npos) << text;
}

TEST_F(Credentials, ResolvingCanBeCancelled) {
    helper("hang", "exec sleep 600");
    docker_config(R"({"credHelpers":{"r":"hang"}})");
    std::stop_source stop;
    std::jthread canceller([&] { stop.request_stop(); });
    EXPECT_THROW(resolve_credentials(sources_, "r", stop.get_token()), Error);
}

TEST_F(Credentials, ADamagedDockerConfigCountsAsNone) {
    for (const char* text : {"{", "[]", R"({"auths":5})", R"({"auths":{"r":{"auth":"%%%"}}})",
                             R"({"auths":{"r":{"auth":"bm9jb2xvbg=="}}})"}) {
        docker_config(text);
        EXPECT_EQ(resolve("r"), std::nullopt) << text;
    }
    fs::remove(directory_ / "config.json");
    EXPECT_EQ(resolve("r"), std::nullopt);
}

}  // namespace
}  // namespace msb::image
