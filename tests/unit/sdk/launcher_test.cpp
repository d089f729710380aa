// Creating, starting and ending sandboxes with a stand-in for the sandbox process (fake_msb.cpp).
#include "sdk/launcher.h"

#include <fcntl.h>
#include <microsandbox/sandbox.h>
#include <signal.h>
#include <sys/wait.h>

#include <fstream>
#include <thread>

#include "base/file_lock.h"
#include "base/process.h"
#include "contract/boot_error.h"
#include "sdk_fixture.h"
#include "state/locks.h"

namespace msb::test {
namespace {

using namespace microsandbox;
using ::testing::HasSubstr;

class LauncherTest : public HomeTest {
  protected:
    LauncherTest() {
        ::setenv("MSB_PATH", FAKE_MSB, 1);
        mode("");
        report_ = home_ / "report";
        ::setenv("FAKE_MSB_REPORT", report_.c_str(), 1);
    }
    ~LauncherTest() override {
        ::unsetenv("FAKE_MSB_MODE");
        ::unsetenv("FAKE_MSB_REPORT");
    }
    void mode(const std::string& name) { ::setenv("FAKE_MSB_MODE", name.c_str(), 1); }
    std::string report() {
        std::ifstream in(report_);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    SandboxBuilder box(const std::string& name = "box") {
        return Sandbox::builder(name).image(disk(name + ".raw"));
    }
    pid_t pid_of(const std::string& name) {
        auto run = state::latest_run(backend().database(),
                                     state::get_sandbox(backend().database(), name).id);
        return run && run->pid ? *run->pid : 0;
    }
    // A failed start: the row is there, stopped, nothing runs and nobody holds a lock.
    void expect_cleaned_up(const std::string& name = "box") {
        EXPECT_EQ(Sandbox::get(name).status(), SandboxStatus::kStopped);
        EXPECT_TRUE(state::try_lock_lifecycle(backend().roots, name));
        EXPECT_TRUE(FileLock::try_acquire(home_ / (name + ".raw")));
        EXPECT_FALSE(std::filesystem::exists(state::IpcPaths::of(backend().roots, name).agent));
        EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "no child is left";
    }
    std::filesystem::path report_;
};

TEST_F(LauncherTest, CreateUseStopStartRemove) {
    Sandbox sandbox = box().cpus(2).memory(64).create();
    EXPECT_EQ(
        report(),
        "name=box vcpus=2 memory=64 watch=97 startup=-1 level=none slot=1 hostname=box locks=1 "
        "session_leader=0 group_leader=1 sighup_ignored=0 startup_cmd=none");
    EXPECT_EQ(sandbox.status(), SandboxStatus::kRunning);
    EXPECT_TRUE(sandbox.handle().active_config_json());
    EXPECT_TRUE(sandbox.owns_lifecycle());
    EXPECT_EQ(sandbox.exec("echo", {"hi"}).stdout_bytes, "hi\n");
    EXPECT_FALSE(state::try_lock_lifecycle(backend().roots, "box")) << "the process owns it";
    EXPECT_FALSE(FileLock::try_acquire(home_ / "box.raw")) << "the image is locked";
    const ProcessExit exit = sandbox.stop_and_wait();
    EXPECT_EQ(exit.exit_code, 0);
    EXPECT_EQ(sandbox.status(), SandboxStatus::kStopped);
    EXPECT_TRUE(FileLock::try_acquire(home_ / "box.raw"));
    {
        Sandbox again = Sandbox::start("box");
        EXPECT_EQ(again.id(), sandbox.id());
        EXPECT_EQ(again.exec("echo").status.code, 0);
        again.stop();
        again.stop();  // stopped already
    }
    Sandbox::remove("box");
    EXPECT_EQ(error_of([] { Sandbox::get("box"); }).code(), ErrorCode::kSandboxNotFound);
    EXPECT_FALSE(std::filesystem::exists(home_ / "sandboxes/box"));
}

TEST_F(LauncherTest, TheNameIsTakenUntilReplaced) {
    Sandbox first = box().create();
    const std::string taken =
        "sandbox already exists: sandbox 'box' already exists; remove it, start the stopped "
        "sandbox, or recreate with "
        ".replace()";
    EXPECT_EQ(text_of([&] { box().create(); }), taken);
    const pid_t old = pid_of("box");
    Sandbox second = box().replace().create();
    EXPECT_NE(first.id(), second.id());
    EXPECT_FALSE(process_alive(old));
    EXPECT_EQ(error_of([&] { first.stop(); }).code(), ErrorCode::kSandboxReplaced);
    EXPECT_EQ(second.exec("echo").status.code, 0);
    second.stop();
    EXPECT_EQ(text_of([&] { box().create(); }), taken);
}

TEST_F(LauncherTest, ABootErrorReachesTheCaller) {
    mode("boot-error");
    try {
        box().create();
        FAIL();
    } catch (const BootStartError& error) {
        EXPECT_STREQ(error.what(),
                     "failed to start \"box\": rootfs: No such file or directory (os error 2)");
        EXPECT_EQ(error.sandbox_name(), "box");
        EXPECT_EQ(error.boot_error().stage, "image");
        EXPECT_EQ(error.boot_error().errno_value, 2);
    }
    expect_cleaned_up();
    EXPECT_EQ(Sandbox::boot_error("box")->stage, "image") << "kept for `msb logs`";
    mode("");
    Sandbox sandbox = Sandbox::start("box");
    EXPECT_FALSE(Sandbox::boot_error("box")) << "gone once it starts";
    sandbox.stop();
}

TEST_F(LauncherTest, ProcessesThatDieAreReported) {
    const std::string synthetic = ") before agent relay became available";
    mode("die");
    EXPECT_EQ(text_of([&] { box().create(); }),
              "failed to start \"box\": sandbox process exited (exit status: 9" + synthetic);
    expect_cleaned_up();
    mode("die-in-handshake");
    EXPECT_EQ(text_of([&] { box("b2").create(); }),
              "failed to start \"b2\": sandbox process exited (exit status: 4" + synthetic);
    EXPECT_EQ(Sandbox::get("b2").status(), SandboxStatus::kStopped);
}

TEST_F(LauncherTest, TheStartupLineMustComeAndMatch) {
    mode("exit-early");
    EXPECT_EQ(text_of([&] { box().create(); }),
              "runtime error: sandbox process exited (exit status: 3) before sending startup info "
              "(line: \"\", check "
              "stderr above for details)");
    expect_cleaned_up();
    mode("wrong-pid");
    EXPECT_THAT(text_of([&] { Sandbox::start("box"); }),
                ::testing::MatchesRegex(
                    "runtime error: sandbox startup PID mismatch: spawned pid [0-9]+, startup pid "
                    "1 \\(status: still running\\)"));
    expect_cleaned_up();
    mode("silent");
    state::SandboxConfig config = state::parse_sandbox_config(Sandbox::get("box").config_json());
    sdk::LaunchOptions options;
    options.startup_line_timeout = std::chrono::milliseconds(50);
    EXPECT_EQ(text_of([&] {
                  sdk::start_sandbox(sdk::LocalBackend::current("test"), "box", {}, options,
                                     sdk::Cancel{});
              }),
              "runtime error: sandbox startup timeout: no JSON received within 0.05 seconds");
    expect_cleaned_up();
}

TEST_F(LauncherTest, ADroppedHandshakeIsTriedAgain) {
    mode("drop-first");
    Sandbox sandbox = box().create();
    EXPECT_EQ(sandbox.exec("echo").status.code, 0);
}

TEST_F(LauncherTest, CancellingStopsTheBoot) {
    mode("never-ready");
    std::stop_source source;
    std::jthread asker([&] {
        while (!std::filesystem::exists(report_))
            std::this_thread::yield();
        source.request_stop();
    });
    EXPECT_EQ(error_of([&] { box().create(source.get_token()); }).code(), ErrorCode::kCancelled);
    asker.join();
    expect_cleaned_up();
}

TEST_F(LauncherTest, MissingRuntimeBinary) {
    ::setenv("MSB_PATH", "/nonexistent/msb", 1);
    EXPECT_THAT(text_of([&] { box().create(); }),
                HasSubstr("/nonexistent/msb: No such file or directory"));
    expect_cleaned_up();
}

TEST_F(LauncherTest, DetachedSandboxesOutliveEverybody) {
    pid_t pid = 0;
    {
        Sandbox sandbox = box().log_level(LogLevel::kDebug).create_detached();
        EXPECT_EQ(report(),
                  "name=box vcpus=1 memory=512 watch=-1 startup=98 level=debug slot=1 hostname=box "
                  "locks=1 "
                  "session_leader=1 group_leader=1 sighup_ignored=1 startup_cmd=none");
        EXPECT_FALSE(sandbox.owns_lifecycle());
        pid = pid_of("box");
    }
    EXPECT_TRUE(process_alive(pid));
    Sandbox::connect("box").stop();
    EXPECT_FALSE(process_alive(pid));
}

TEST_F(LauncherTest, TheLastOwnerTakesTheSandboxWithIt) {
    pid_t pid = 0;
    {
        Sandbox sandbox = box().create();
        pid = pid_of("box");
        Sandbox copy = sandbox;
        {
            Sandbox moved = std::move(sandbox);
        }
        EXPECT_TRUE(process_alive(pid)) << "a copy is left";
        Sandbox connected = Sandbox::connect("box");
    }
    EXPECT_TRUE(
        sdk::wait_process_gone(pid, sdk::deadline_in(std::chrono::seconds(60)), sdk::Cancel{}));
    EXPECT_EQ(Sandbox::get("box").status(), SandboxStatus::kStopped);
    {
        Sandbox sandbox = Sandbox::start("box");
        pid = pid_of("box");
        sandbox.detach();
        EXPECT_FALSE(sandbox.owns_lifecycle());
    }
    EXPECT_TRUE(process_alive(pid));
    Sandbox::get("box").stop();
}

TEST_F(LauncherTest, TheDeathOfTheOwningProcessEndsTheSandbox) {
    disk("box.raw");
    PipeFds pipe = make_pipe();
    const pid_t owner = ::fork();
    if (owner == 0) {
        ::setpgid(0, 0);
        Sandbox sandbox = Sandbox::builder("box").image((home_ / "box.raw").string()).create();
        (void)write_all(pipe.write.get(), std::string_view("r"));
        ::pause();
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(pipe.read.get(), &byte, 1), 1);
    const pid_t pid = pid_of("box");
    ASSERT_TRUE(process_alive(pid));
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
    EXPECT_TRUE(
        sdk::wait_process_gone(pid, sdk::deadline_in(std::chrono::seconds(60)), sdk::Cancel{}));
}

TEST_F(LauncherTest, StopEscalatesToSigkill) {
    mode("stubborn");
    Sandbox sandbox = box().create();
    sandbox.stop(std::chrono::milliseconds(50));
    EXPECT_EQ(sandbox.wait().signal, SIGKILL);
    EXPECT_EQ(sandbox.status(), SandboxStatus::kStopped);
    EXPECT_FALSE(std::filesystem::exists(state::IpcPaths::of(backend().roots, "box").directory));
    Sandbox again = Sandbox::start("box");
    again.kill();
    EXPECT_EQ(again.wait().signal, SIGKILL);
    again.kill();  // nothing to do
}

TEST_F(LauncherTest, DrainAndWaitUntilStopped) {
    Sandbox sandbox = box().create();
    std::jthread drainer([&] { sandbox.drain(); });
    StopResult result = sandbox.wait_until_stopped();
    EXPECT_EQ(result.status, SandboxStatus::kStopped);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.source, "owned process wait");
    EXPECT_EQ(Sandbox::get("box").wait_until_stopped().source, "refreshed backend state");
}

TEST_F(LauncherTest, WorkdirMustBeAGuestDirectory) {
    Sandbox good = box("good").workdir("/work").create();
    EXPECT_EQ(good.exec("pwd").stdout_bytes, "/work none");
    EXPECT_EQ(text_of([&] { box().workdir("/nosuch").create(); }),
              "invalid config: workdir does not exist in guest: /nosuch");
    EXPECT_EQ(Sandbox::get("box").status(), SandboxStatus::kStopped);
    EXPECT_EQ(text_of([&] { box("b2").workdir("/file").create(); }),
              "invalid config: workdir is not a directory in guest: /file");
}

TEST_F(LauncherTest, ImagesAreNotShared) {
    Sandbox first = box().create();
    const std::string path = home_ / "box.raw";
    EXPECT_EQ(text_of([&] { Sandbox::builder("two").image(path).create(); }),
              "invalid config: disk image \"" + path +
                  "\" is already attached with an incompatible disk mode");
    EXPECT_EQ(Sandbox::get("two").status(), SandboxStatus::kStopped);
    const std::string data = disk("data.raw");
    auto reader = [&](const std::string& name) {
        return box(name).volume("/d", [&](MountBuilder& m) { m.disk(data).readonly(); });
    };
    Sandbox third = reader("three").create();
    EXPECT_THAT(report(), HasSubstr("locks=2"));
    Sandbox fourth = reader("four").create();
    EXPECT_THAT(
        text_of([&] { box("five").volume("/d", [&](MountBuilder& m) { m.disk(data); }).create(); }),
        HasSubstr("already attached with an incompatible disk mode"));
    EXPECT_EQ(text_of([&] {
                  const std::string own = disk("six.raw");
                  Sandbox::builder("six")
                      .image(own)
                      .volume("/d", [&](MountBuilder& m) { m.disk(own); })
                      .create();
              }),
              "invalid config: disk images cannot be attached more than once per sandbox: " +
                  disk("six.raw").string() + " (disk image rootfs " + disk("six.raw").string() +
                  "; disk image " + disk("six.raw").string() + ")");
}

TEST_F(LauncherTest, ScriptsAreWrittenAndRewritten) {
    Sandbox sandbox = box().script("one", "#!/bin/sh\n").create();
    const auto scripts = home_ / "sandboxes/box/runtime/scripts";
    EXPECT_TRUE(std::filesystem::exists(scripts / "one"));
    EXPECT_EQ(std::filesystem::status(scripts / "one").permissions(), std::filesystem::perms(0755));
    sandbox.stop();
    std::ofstream(scripts / "stale") << "x";
    Sandbox again = Sandbox::start("box");
    EXPECT_FALSE(std::filesystem::exists(scripts / "stale"));
}

TEST_F(LauncherTest, StartupCommandsAreStoredAndPassed) {
    Sandbox sandbox = box().entrypoint({"/bin/serve"}).startup({"--port", "1"}).create_detached();
    EXPECT_THAT(report(), HasSubstr("startup_cmd=/bin/serve"));
    EXPECT_THAT(sandbox.config_json(),
                HasSubstr(R"("entrypoint":["/bin/serve"],"cmd":["--port","1"])"));
    sandbox.stop();
}

TEST_F(LauncherTest, TwoStartsAtOnceGiveOneSandbox) {
    box().create().stop();
    std::atomic<int> started{0};
    std::atomic<int> refused{0};
    std::vector<Sandbox> running;
    std::mutex mutex;
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                try {
                    Sandbox sandbox = Sandbox::start("box");
                    ++started;
                    std::scoped_lock lock(mutex);
                    running.push_back(std::move(sandbox));
                } catch (const Error& error) {
                    EXPECT_STREQ(
                        error.what(),
                        "sandbox still running: cannot start sandbox 'box': already running");
                    ++refused;
                }
            });
        }
    }
    EXPECT_EQ(started, 1);
    EXPECT_EQ(refused, 3);
}

TEST_F(LauncherTest, ConnectOrCreateEndsWithOneSandboxWhoeverWins) {
    disk("box.raw");
    const auto builder = Sandbox::builder("box").image((home_ / "box.raw").string());
    std::vector<std::string> ids(4);
    std::vector<Sandbox> keep;
    std::mutex mutex;
    {
        std::vector<std::jthread> threads;
        for (std::string& id : ids) {
            threads.emplace_back([&] {
                Sandbox sandbox = builder.connect_or_create();
                id = sandbox.id();
                std::scoped_lock lock(mutex);
                keep.push_back(std::move(sandbox));
            });
        }
    }
    EXPECT_THAT(ids, ::testing::Each("local:1"));
    keep.clear();
}

TEST_F(LauncherTest, RestartGivesANewProcess) {
    Sandbox sandbox = box().create();
    const pid_t before = pid_of("box");
    Sandbox after = sandbox.restart({.detached = false});
    EXPECT_NE(pid_of("box"), before);
    EXPECT_EQ(after.id(), sandbox.id());
    after.handle().destroy();
    EXPECT_EQ(error_of([] { Sandbox::get("box"); }).code(), ErrorCode::kSandboxNotFound);
}

TEST_F(LauncherTest, AProcessThatVanishedIsFoundCrashed) {
    Sandbox sandbox = box().create();
    ::kill(pid_of("box"), SIGKILL);
    sandbox.wait();
    EXPECT_EQ(sandbox.status(), SandboxStatus::kCrashed);
    EXPECT_EQ(text_of([&] { sandbox.exec("echo"); }),
              "sandbox 'box' is not running (status: Crashed)");
    Sandbox again = Sandbox::get("box").connect_or_start();
    EXPECT_EQ(again.exec("echo").status.code, 0);
}

TEST_F(LauncherTest, LaunchersBinaryIsFoundInOrder) {
    ::unsetenv("MSB_PATH");
    const std::filesystem::path configured = write("configured/msb", "");
    std::filesystem::permissions(configured, std::filesystem::perms(0755));
    const std::filesystem::path at_home = write("bin/msb", "");
    write("config.json", "{\"paths\":{\"msb\":\"" + configured.string() + "\"}}");
    EXPECT_EQ(runtime_binary(), configured);
    std::filesystem::remove(configured);
    const std::filesystem::path in_path = write("path/msb", "");
    std::filesystem::permissions(in_path, std::filesystem::perms(0755));
    const std::string path = std::getenv("PATH");
    ::setenv("PATH", ("/nonexistent::" + in_path.parent_path().string() + ":" + path).c_str(), 1);
    // The one at home is not executable. A built msb beside this test's directory comes before PATH.
    const std::filesystem::path built =
        std::filesystem::path(self_executable()).parent_path().parent_path() / "bin" / "msb";
    EXPECT_EQ(runtime_binary(), std::filesystem::exists(built) ? built : in_path);
    std::filesystem::permissions(at_home, std::filesystem::perms(0755));
    EXPECT_EQ(runtime_binary(), at_home);
    EXPECT_EQ(sdk::find_runtime_binary(backend(), "/given"), "/given");
    ::setenv("PATH", path.c_str(), 1);
    ::setenv("MSB_PATH", "/env", 1);
    EXPECT_EQ(sdk::find_runtime_binary(backend(), "/given"), "/env");
}

}  // namespace
}  // namespace msb::test
