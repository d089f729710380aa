// Changing config.json without losing what is in it.
#include "state/global_config_writer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/file_lock.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;

class GlobalConfigWriter : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string name = "/tmp/msb-config-XXXXXX";
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        directory_ = name;
        file_ = directory_ / "config.json";
    }
    void TearDown() override { fs::remove_all(directory_); }

    void write(std::string_view text) { std::ofstream(file_) << text; }
    std::string text() const { return read_file(file_); }
    static mode_t mode(const fs::path& path) {
        struct stat info{};
        EXPECT_EQ(::stat(path.c_str(), &info), 0);
        return info.st_mode & 0777;
    }
    std::vector<std::string> names() const {
        std::vector<std::string> list;
        for (const auto& entry : fs::directory_iterator(directory_))
            list.push_back(entry.path().filename());
        std::sort(list.begin(), list.end());
        return list;
    }

    fs::path directory_, file_;
};

TEST_F(GlobalConfigWriter, TakesOnlyTheCredentialsAway) {
    write(
        R"({"zeta":1,"profiles":{"x":{"backend":"local"}},"registries":{"odd":[1.5,null,"é"],"hosts":{
            "b.io":{"auth":{"username":"b","password_env":"B"},"insecure":true,"note":"mine"},
            "a.io":{"auth":{"username":"a","secret_name":"s"}}}},"active_profile":"x","alpha":18446744073709551615})");
    EXPECT_TRUE(remove_registry_auth(file_, "b.io"));
    EXPECT_TRUE(remove_registry_auth(file_, "a.io"));
    EXPECT_EQ(text(),
              "{\n  \"zeta\": 1,\n  \"profiles\": {\n    \"x\": {\n      \"backend\": \"local\"\n  "
              "  }\n  },\n"
              "  \"registries\": {\n    \"odd\": [\n      1.5,\n      null,\n      \"é\"\n    ],\n"
              "    \"hosts\": {\n      \"b.io\": {\n        \"insecure\": true,\n        \"note\": "
              "\"mine\"\n"
              "      }\n    }\n  },\n  \"active_profile\": \"x\",\n  \"alpha\": "
              "18446744073709551615\n}\n");
}

TEST_F(GlobalConfigWriter, WritesNothingWhenThereIsNothingToTakeAway) {
    EXPECT_FALSE(remove_registry_auth(file_, "a.io")) << "no file";
    EXPECT_EQ(names(), std::vector<std::string>{}) << "and none is made";
    for (const std::string before :
         {R"({"registries":{"hosts":{"a.io":{"insecure":true}}}})", R"({ "registries": {} })", "{}",
          R"({"registries":{"hosts":{"a.io":{"auth":null}}}})"}) {
        write(before);
        EXPECT_FALSE(remove_registry_auth(file_, "a.io")) << before;
        EXPECT_EQ(text(), before);
    }
}

TEST_F(GlobalConfigWriter, LeavesAFileItDoesNotUnderstandAlone) {
    for (
        const std::string before :
        {"{bad", "", "[]", R"({"registries":{"hosts":5}})", R"({"a":1,"a":2})",
         R"({"sandbox_defaults":{"cpus":"two"},"registries":{"hosts":{"a.io":{"auth":{"username":"a"}}}}})"}) {
        write(before);
        try {
            remove_registry_auth(file_, "a.io");
            ADD_FAILURE() << before;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kInvalidConfig);
            EXPECT_TRUE(
                error.detail().starts_with("failed to parse config `" + file_.string() + "`: "))
                << error.detail();
        }
        EXPECT_EQ(text(), before);
    }
}

constexpr std::string_view kOneHost =
    R"({"registries":{"hosts":{"a.io":{"auth":{"username":"a","password_env":"A"}}}}})";

TEST_F(GlobalConfigWriter, KeepsTheModeAndLeavesNoWorkFile) {
    write(kOneHost);
    ASSERT_EQ(::chmod(file_.c_str(), 0640), 0);
    EXPECT_TRUE(remove_registry_auth(file_, "a.io"));
    EXPECT_EQ(mode(file_), 0640u);
    EXPECT_EQ(names(), (std::vector<std::string>{"config.json", "config.json.lock"}));
    EXPECT_EQ(mode(directory_ / "config.json.lock"), 0600u);
}

TEST_F(GlobalConfigWriter, FollowsALinkToWhereTheUserKeepsTheFile) {
    fs::create_directory(directory_ / "dotfiles");
    const auto target = directory_ / "dotfiles" / "msb.json";
    std::ofstream(target) << kOneHost;
    fs::create_symlink("dotfiles/msb.json", file_);
    EXPECT_TRUE(remove_registry_auth(file_, "a.io"));
    EXPECT_TRUE(fs::is_symlink(file_));
    EXPECT_EQ(read_file(target), "{\n  \"registries\": {\n    \"hosts\": {}\n  }\n}\n");
}

TEST_F(GlobalConfigWriter, ADirectoryThatCannotBeWrittenIsAnErrorAndTheFileStays) {
    write(kOneHost);
    fs::create_directory(directory_ / "config.json.lock");
    EXPECT_THROW(remove_registry_auth(file_, "a.io"), Error);
    EXPECT_EQ(text(), kOneHost);
}

TEST_F(GlobalConfigWriter, WritersThatMeetAllGetTheirChange) {
    constexpr int kHosts = 24;
    std::string hosts;
    for (int i = 0; i < kHosts; ++i)
        hosts += std::string(i ? "," : "") + "\"h" + std::to_string(i) +
                 R"(":{"auth":{"username":"u","password_env":"P"}})";
    write("{\"registries\":{\"hosts\":{" + hosts + "}}}");
    std::vector<std::thread> writers;
    for (int i = 0; i < kHosts; ++i)
        writers.emplace_back(
            [&, i] { EXPECT_TRUE(remove_registry_auth(file_, "h" + std::to_string(i))); });
    for (auto& writer : writers)
        writer.join();
    EXPECT_EQ(text(), "{\n  \"registries\": {\n    \"hosts\": {}\n  }\n}\n");
}

TEST_F(GlobalConfigWriter, WaitsForTheLockAndThenReadsWhatIsThere) {
    write(kOneHost);
    auto held = FileLock::try_acquire(file_.string() + ".lock");
    ASSERT_TRUE(held);
    bool removed = true;
    std::thread writer([&] { removed = remove_registry_auth(file_, "a.io"); });
    write("{}");  // the other writer's change
    held.reset();
    writer.join();
    EXPECT_FALSE(removed);
    EXPECT_EQ(text(), "{}");
}

}  // namespace
}  // namespace msb::state
