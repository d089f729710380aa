// The SDK with real machines: the demo root, the built msb, kernel and agent.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <microsandbox/sandbox.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/process.h"
#include "base/text.h"

namespace {

using namespace microsandbox;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class VmTest : public ::testing::Test {
  protected:
    VmTest() {
        std::string pattern = "/tmp/sdkvmXXXXXX";
        home_ = ::mkdtemp(pattern.data());
        ::setenv("MSB_HOME", home_.c_str(), 1);
        ::setenv("MSB_PATH", MSB_BINARY, 1);
    }
    ~VmTest() override {
        try {
            for (const SandboxHandle& handle : Sandbox::list_all())
                handle.kill();
        } catch (const Error& error) {
            ADD_FAILURE() << error.what();
        }
        std::filesystem::remove_all(home_);
    }

    // A writable copy of the demo root.
    std::string disk(const std::string& name, const std::string& format = "raw") {
        const std::string path = home_ / (name + "." + format);
        const std::string command =
            format == "raw" ? "cp --sparse=always " DEMO_ROOT " " + path
                            : "qemu-img convert -q -O " + format + " " DEMO_ROOT " " + path;
        EXPECT_EQ(std::system(command.c_str()), 0) << command;
        return path;
    }
    SandboxBuilder box(const std::string& name) {
        return Sandbox::builder(name).image(disk(name)).memory(128);
    }
    static pid_t process_of(const Sandbox& sandbox) {
        // The line of `ps` that holds this sandbox's name and home.
        for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
            std::ifstream file(entry.path() / "cmdline", std::ios::binary);
            std::string line((std::istreambuf_iterator<char>(file)), {});
            if (line.find(std::string("--name") + '\0' + sandbox.name() + '\0') ==
                std::string::npos)
                continue;
            std::ifstream environment(entry.path() / "environ", std::ios::binary);
            std::string all((std::istreambuf_iterator<char>(environment)), {});
            if (all.find(std::string("MSB_HOME=") + std::getenv("MSB_HOME")) == std::string::npos)
                continue;
            if (auto pid = msb::parse_integer<pid_t>(entry.path().filename().string())) return *pid;
        }
        return 0;
    }
    static std::string error_of(const std::function<void()>& body) {
        try {
            body();
        } catch (const Error& error) {
            return error.what();
        }
        return "nothing was thrown";
    }
    std::filesystem::path home_;
};

TEST_F(VmTest, TheWholeLife) {
    Sandbox sandbox =
        box("life").env("GREETING", "hello").label("team", "x").workdir("/tmp").create();
    ExecOutput out = sandbox.shell("echo $GREETING; pwd; echo err >&2; exit 7");
    EXPECT_EQ(out.stdout_bytes, "hello\n/tmp\n");
    EXPECT_EQ(out.stderr_bytes, "err\n");
    EXPECT_EQ(out.status.code, 7);
    EXPECT_EQ(sandbox.shell("kill -9 $$").status.code, -1);
    EXPECT_EQ(error_of([&] { sandbox.exec("nosuch"); }),
              "exec failed: spawn \"nosuch\": No such file or directory (os error 2)");
    EXPECT_EQ(error_of([&] {
                  sandbox.exec("sleep", {"100"}, {.timeout = std::chrono::milliseconds(300)});
              }),
              "exec timed out after 300ms");
    EXPECT_EQ(error_of([&] { box("life").create(); }),
              "sandbox already exists: sandbox 'life' already exists; remove it, start the stopped "
              "sandbox, or "
              "recreate with .replace()");

    SandboxFs fs = sandbox.fs();
    std::string big(5'000'000, '\0');
    for (std::size_t i = 0; i < big.size(); ++i)
        big[i] = static_cast<char>(i * 31 >> 5);
    fs.mkdir("/root/a/b");
    fs.write("/root/a/b/big", big);
    EXPECT_EQ(fs.read("/root/a/b/big"), big);
    EXPECT_EQ(fs.stat("/root/a/b/big").size, big.size());
    fs.copy("/root/a/b/big", "/root/a/copy");
    fs.rename("/root/a/copy", "/root/a/moved");
    fs.symlink("moved", "/root/a/link");
    EXPECT_EQ(fs.read_link("/root/a/link"), "moved");
    EXPECT_EQ(fs.real_path("/root/a/link"), "/root/a/moved");
    EXPECT_EQ(fs.list("/root/a").size(), 3u);
    EXPECT_FALSE(fs.exists("/root/nosuch"));
    EXPECT_EQ(error_of([&] { fs.read("/root/nosuch"); }),
              "sandbox fs error: open: No such file or directory (os error 2)");
    fs.copy_to_host("/root/a/moved", home_ / "big");
    fs.copy_from_host(home_ / "big", "/root/back");
    EXPECT_EQ(fs.read("/root/back"), big);
    fs.remove_dir("/root/a");
    EXPECT_FALSE(fs.exists("/root/a"));
    fs.write("/root/kept", "on disk");

    EXPECT_GT(sandbox.ping().latency.count(), 0);
    const std::uint64_t touched = sandbox.touch().activity_seq;
    EXPECT_GT(sandbox.touch().activity_seq, touched);
    ASSERT_EQ(Sandbox::list_all({{"team", "x"}}).size(), 1u);

    std::string logged;
    for (const LogEntry& entry : sandbox.logs())
        logged += entry.data;
    EXPECT_THAT(logged, HasSubstr("hello\n/tmp\n"));
    EXPECT_THAT(logged, HasSubstr("err\n"));

    EXPECT_EQ(sandbox.stop_and_wait().exit_code, 0);
    EXPECT_EQ(sandbox.status(), SandboxStatus::kStopped);
    Sandbox again = Sandbox::start_detached("life");
    EXPECT_EQ(again.fs().read_to_string("/root/kept"), "on disk") << "written before the stop";
    EXPECT_EQ(error_of([] { Sandbox::remove("life"); }),
              "sandbox still running: cannot remove sandbox 'life': still running");
    again.stop();
    Sandbox::remove("life");
    EXPECT_FALSE(std::filesystem::exists(home_ / "sandboxes/life"));
    EXPECT_TRUE(std::filesystem::is_empty(home_ / "run/sandboxes"));
}

TEST_F(VmTest, OtherDiskFormatsBoot) {
    for (const char* format : {"qcow2", "vmdk"}) {
        Sandbox sandbox = Sandbox::builder(format).image(disk("root", format)).memory(128).create();
        ExecOutput out = sandbox.shell("echo out; echo err >&2; exit 7");
        EXPECT_EQ(out.stdout_bytes, "out\n") << format;
        EXPECT_EQ(out.stderr_bytes, "err\n") << format;
        EXPECT_EQ(out.status.code, 7) << format;
        sandbox.stop();
    }
}

TEST_F(VmTest, StreamsKeepTheirOwnPace) {
    Sandbox sandbox = box("pace").create();
    // Nobody reads this one: its process stops at a full pipe, and nothing else is held up.
    ExecHandle flood = sandbox.exec_stream("yes");
    ASSERT_TRUE(flood.recv());
    EXPECT_EQ(sandbox.exec("echo", {"still here"}).stdout_bytes, "still here\n");
    EXPECT_EQ(sandbox.exec("head", {"-c", "3000000", "/dev/zero"}).stdout_bytes.size(), 3'000'000u);

    std::string input(2'000'000, 'z');
    ExecOutput echoed =
        sandbox.exec("cat", {}, {.stdin_mode = StdinMode::kBytes, .stdin_bytes = input});
    EXPECT_EQ(echoed.stdout_bytes, input);

    ExecHandle tty = sandbox.exec_stream(
        "sh", {}, {.stdin_mode = StdinMode::kPipe, .tty = true, .rows = 33, .cols = 99});
    auto keyboard = tty.take_stdin();
    keyboard->write("stty size; exit 4\n");
    ExecOutput screen = tty.collect();
    EXPECT_THAT(screen.stdout_bytes, HasSubstr("33 99"));
    EXPECT_EQ(screen.status.code, 4);
    flood.kill();
    EXPECT_EQ(flood.wait().code, -1);
}

TEST_F(VmTest, AClientThatDiesTakesItsCommandsWithIt) {
    Sandbox sandbox = box("client").create_detached();
    msb::PipeFds pipe = msb::make_pipe();
    const pid_t client = ::fork();
    if (client == 0) {
        Sandbox own = Sandbox::connect("client");
        ExecHandle handle = own.exec_stream("sleep", {"4711"});
        handle.recv();
        (void)msb::write_all(pipe.write.get(), std::string_view("x"));
        ::pause();
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(pipe.read.get(), &byte, 1), 1);
    const int found = sandbox.shell("ps | grep -q '[s]leep 4711'").status.code;
    ::kill(client, SIGKILL);
    ::waitpid(client, nullptr, 0);
    ASSERT_EQ(found, 0);
    // Asked of the guest, not of the clock.
    EXPECT_EQ(sandbox.shell("while ps | grep -q '[s]leep 4711'; do usleep 20000; done; echo gone")
                  .stdout_bytes,
              "gone\n");
}

TEST_F(VmTest, AnOwnerThatDiesTakesItsSandboxWithIt) {
    disk("owned");
    msb::PipeFds pipe = msb::make_pipe();
    const pid_t owner = ::fork();
    if (owner == 0) {
        Sandbox sandbox =
            Sandbox::builder("owned").image((home_ / "owned.raw").string()).memory(128).create();
        (void)msb::write_all(pipe.write.get(), std::string_view("x"));
        ::pause();
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(pipe.read.get(), &byte, 1), 1);
    SandboxHandle handle = Sandbox::get("owned");
    EXPECT_EQ(handle.status(), SandboxStatus::kRunning);
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
    EXPECT_EQ(handle.wait_until_stopped().status, SandboxStatus::kStopped);
    // Kept alive by detaching, ended by the last owner's destructor otherwise.
    {
        Sandbox sandbox = Sandbox::start("owned");
        sandbox.detach();
    }
    EXPECT_EQ(Sandbox::connect("owned").exec("true").status.code, 0);
    Sandbox::get("owned").stop();
    {
        Sandbox sandbox = Sandbox::start("owned");
    }
    EXPECT_EQ(handle.wait_until_stopped().status, SandboxStatus::kStopped);
}

TEST_F(VmTest, KilledSandboxProcessesAreReconciled) {
    Sandbox sandbox = box("killed").create();
    const pid_t pid = process_of(sandbox);
    ASSERT_GT(pid, 0);
    ::kill(pid, SIGKILL);
    EXPECT_EQ(sandbox.wait().signal, SIGKILL);
    // The engine follows its parent a moment later; until then the row is left alone.
    EXPECT_EQ(sandbox.wait_until_stopped().status, SandboxStatus::kCrashed);
    EXPECT_EQ(error_of([&] { sandbox.exec("true"); }),
              "sandbox 'killed' is not running (status: Crashed)");
    Sandbox again = Sandbox::get("killed").connect_or_start();
    EXPECT_EQ(again.exec("true").status.code, 0);
}

TEST_F(VmTest, ADiskThatIsNoRootFailsToBootAndSaysWhy) {
    std::ofstream(home_ / "junk.raw") << std::string(1 << 20, 'j');
    const std::string text =
        error_of([&] { Sandbox::builder("junk").image((home_ / "junk.raw").string()).create(); });
    EXPECT_THAT(text, ::testing::StartsWith("failed to start \"junk\": "));
    EXPECT_EQ(Sandbox::get("junk").status(), SandboxStatus::kStopped);
    EXPECT_TRUE(std::filesystem::is_empty(home_ / "run/sandboxes"));
}

TEST_F(VmTest, StartupCommandsRunAndEndTheSandbox) {
    Sandbox sandbox = box("job")
                          .ephemeral()
                          .startup({"/bin/sh", "-c", "echo from the job; exit 0"})
                          .create_detached();
    StopResult result = sandbox.wait_until_stopped();
    EXPECT_EQ(result.source, "ephemeral cleanup removed persisted state");
    EXPECT_TRUE(Sandbox::list_all().empty());
}

}  // namespace
