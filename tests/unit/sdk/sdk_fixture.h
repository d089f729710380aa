// A temporary MSB_HOME, and a sandbox row whose "machine" is a FakeAgent in this process.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <microsandbox/sandbox.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "fake_agent.h"
#include "sdk/local_backend.h"
#include "state/ipc_paths.h"
#include "state/run_rows.h"
#include "state/sandbox_rows.h"

namespace msb::test {

class HomeTest : public ::testing::Test {
  protected:
    HomeTest() {
        std::string pattern = "/tmp/sdkXXXXXX";
        home_ = ::mkdtemp(pattern.data());
        ::setenv("MSB_HOME", home_.c_str(), 1);
        ::unsetenv("MSB_PATH");
        ::unsetenv("MSB_BACKEND");
        ::unsetenv("MSB_PROFILE");
        ::unsetenv("MSB_CONFIG_PATH");
    }
    ~HomeTest() override {
        std::error_code ignored;
        std::filesystem::remove_all(home_, ignored);
    }

    std::filesystem::path write(const std::string& name, const std::string& content) {
        const std::filesystem::path path = home_ / name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    std::filesystem::path disk(const std::string& name = "root.raw") {
        return write(name, std::string(4096, '\0'));
    }
    sdk::LocalBackend& backend() {
        backend_ = sdk::LocalBackend::current("test");
        return *backend_;
    }

    std::filesystem::path home_;
    std::shared_ptr<sdk::LocalBackend> backend_;
};

// "box": Running, with this process as its runtime.
class FakeSandboxTest : public HomeTest {
  protected:
    void SetUp() override { add("box"); }

    void add(const std::string& name, const std::string& extra = "") {
        const std::string config = "{\"name\":\"" + name +
                                   "\",\"image\":{\"DiskImage\":{\"path\":\"/d.raw\",\"format\":"
                                   "\"Raw\"}}" +
                                   extra + "}";
        state::Database& database = backend().database();
        const std::int64_t id = state::insert_starting(database, name, config, false, {});
        state::insert_run(database, id, ::getpid());
        ASSERT_TRUE(state::mark_running(database, id, config));
        server_ = std::make_unique<SocketServer>(
            state::IpcPaths::of(backend().roots, name).agent, [this](UniqueFd socket, int number) {
                agent_.serve(std::move(socket), static_cast<std::uint32_t>(number) % 128);
            });
    }
    void TearDown() override { server_.reset(); }

    FakeAgent agent_;
    std::unique_ptr<SocketServer> server_;
};

// Runs `body` and returns the error it throws; fails the test when it throws none.
template <class Body>
microsandbox::Error error_of(Body&& body) {
    try {
        body();
    } catch (const microsandbox::Error& error) {
        return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return {microsandbox::ErrorCode::kCustom, ""};
}
template <class Body>
std::string text_of(Body&& body) {
    return error_of(std::forward<Body>(body)).what();
}

}  // namespace msb::test
