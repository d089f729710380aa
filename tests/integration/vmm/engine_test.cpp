// The engine as a process: what it gets, what it may not do, and engines that misbehave.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "guest.h"
#include "vmm/qemu_machine.h"

namespace msb::vmm::test {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

std::set<std::string> open_files(pid_t pid) {
    std::set<std::string> targets;
    std::error_code ignored;
    for (const auto& fd : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid)))
        targets.insert(std::filesystem::read_symlink(fd.path(), ignored));
    return targets;
}

bool host_grants_network_namespaces() {
    const pid_t child = ::fork();
    if (child == 0)
        ::_exit(::unshare(CLONE_NEWNET) == 0 || ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0
                                                                                             : 1);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Engine, IsConfinedAndGetsOnlyWhatItNeeds) {
    const TemporaryDirectory files;
    const auto secret = files.write("secret", "s"), lock = files.write("lock", "l");
    // As a launcher leaves them: inheritable, unknown to us; at numbers the engine does not use.
    const UniqueFd secret_fd(::open(secret.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd unknown(::fcntl(secret_fd.get(), F_DUPFD, 60));
    const UniqueFd unknown_above(::fcntl(secret_fd.get(), F_DUPFD, 80));
    const UniqueFd plain_lock_fd(::open(lock.c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd lock_fd(::fcntl(plain_lock_fd.get(), F_DUPFD, 70));
    ::setenv("MSB_TEST_SECRET", "hunter2", 1);
    MachineConfig config;
    config.kernel = kernel();
    const auto machine = start_machine(std::move(config), {.engine = engine(),
                                                           .accelerator = AcceleratorChoice::kTcg,
                                                           .inherited_fds = {lock_fd.get()}});
    ::unsetenv("MSB_TEST_SECRET");
    const auto proc = std::filesystem::path("/proc") / std::to_string(machine->engine_pid());
    // Seccomp is on once the engine has parsed its options.
    EXPECT_FALSE(
        serve(*machine, [&] { return read_file(proc / "status").contains("Seccomp:\t2"); }));
    EXPECT_THAT(read_file(proc / "status"), HasSubstr("NoNewPrivs:\t1"));
    // On its own network wherever this host lets anybody have one.
    const auto own_network = [&] {
        return std::filesystem::read_symlink(proc / "ns/net") !=
               std::filesystem::read_symlink("/proc/self/ns/net");
    };
    EXPECT_EQ(own_network(), host_grants_network_namespaces());
    EXPECT_THAT(read_file(proc / "environ"), Not(HasSubstr("hunter2")));
    EXPECT_THAT(read_file(proc / "limits"), HasSubstr("Max core file size        0 "));
    EXPECT_THAT(open_files(machine->engine_pid()),
                AllOf(Contains(lock.string()), Not(Contains(secret.string()))));
    EXPECT_EQ(::fcntl(unknown.get(), F_GETFD), 0);  // still ours, still inheritable
}

// The engine must not outlive a sandbox process that is killed.
TEST(Engine, DiesWithItsParent) {
    const auto image = kernel();
    PipeFds pipe = make_pipe();
    const pid_t parent = ::fork();
    ASSERT_GE(parent, 0);
    if (parent == 0) try {
            MachineConfig config;
            config.kernel = image;
            config.kernel_arguments = {"panic=0"};  // a guest that does not end by itself
            const auto machine = start_machine(
                std::move(config), {.engine = engine(), .accelerator = AcceleratorChoice::kTcg});
            const pid_t pid = machine->engine_pid();
            (void)!::write(pipe.write.get(), &pid, sizeof pid);
            ::pause();
            ::_exit(0);
        } catch (...) {
            ::_exit(1);
        }
    pid_t pid = 0;
    pipe.write.reset();
    ASSERT_EQ(read_exactly(pipe.read.get(), std::as_writable_bytes(std::span(&pid, 1))),
              static_cast<std::ptrdiff_t>(sizeof pid));
    const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    ASSERT_TRUE(pidfd);
    ASSERT_EQ(::kill(parent, SIGKILL), 0);
    ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
    pollfd poll{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&poll, 1, kPatienceSeconds * 1000), 1);
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);  // when it did not
}

TEST(Engine, MissingKernelIsRefusedBeforeAnythingStarts) {
    MachineConfig config;
    config.kernel = "/nonexistent/vmlinux";
    try {
        start_machine(std::move(config),
                      {.engine = engine(), .accelerator = AcceleratorChoice::kTcg});
        FAIL();
    } catch (const Error& error) {
        EXPECT_STREQ(error.what(),
                     "guest kernel /nonexistent/vmlinux: No such file or directory (os error 2)");
    }
}

TEST(Engine, SomethingThatIsNoKernelIsRefused) {
    const TemporaryDirectory files;
    const std::string real = read_file(kernel());
    for (const std::string& content : {std::string(100'000, 'x'), std::string(),
                                       real.substr(0, 100), read_file("/bin/busybox")}) {
        MachineConfig config;
        config.kernel = files.write("vmlinux", content);
        try {
            start_machine(std::move(config),
                          {.engine = engine(), .accelerator = AcceleratorChoice::kTcg});
            FAIL();
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr("is not an x86-64 vmlinux with a PVH entry"));
        }
    }
}

// Cut off behind the notes: the engine's own words are the error.
TEST(Engine, ATruncatedKernelIsAnEngineError) {
    const TemporaryDirectory files;
    const std::string image = read_file(kernel());
    MachineConfig config;
    config.kernel = files.write("vmlinux", image.substr(0, image.size() * 9 / 10));
    const auto machine = start_machine(
        std::move(config), {.engine = engine(), .accelerator = AcceleratorChoice::kTcg});
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_EQ(exit.exit_code, 1);
    EXPECT_THAT(exit.detail, HasSubstr("Error while loading elf kernel"));
}

TEST(Engine, BadDisksAreNamed) {
    const TemporaryDirectory files;
    const auto start = [&](Disk disk) {
        MachineConfig config;
        config.kernel = kernel();
        config.disks = {{.path = files.make_disk("good.raw", "-f raw")}, std::move(disk)};
        start_machine(std::move(config),
                      {.engine = engine(), .accelerator = AcceleratorChoice::kTcg});
    };
    try {
        start({.path = "/nonexistent/a.raw"});
        FAIL();
    } catch (const DiskError& error) {
        EXPECT_STREQ(error.what(),
                     "disk image /nonexistent/a.raw: No such file or directory (os error 2)");
        EXPECT_EQ(error.index(), 1u);
        EXPECT_EQ(error.os_error(), ENOENT);
        EXPECT_EQ(error.reason(), "No such file or directory (os error 2)");
    }
    EXPECT_THROW(start({.path = files.write("a.qcow2", "not one"), .format = DiskFormat::kQcow2}),
                 DiskError);
}

TEST(Engine, AnEngineThatCannotRunIsAnError) {
    const auto start = [&](const std::filesystem::path& path) -> std::string {
        MachineConfig config;
        config.kernel = kernel();
        try {
            start_machine(std::move(config),
                          {.engine = path, .accelerator = AcceleratorChoice::kTcg});
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    };
    EXPECT_EQ(start("/nonexistent/qemu"),
              "/nonexistent/qemu: No such file or directory (os error 2)");
    EXPECT_EQ(start("/etc/passwd"), "/etc/passwd: Permission denied (os error 13)");
}

// Engines a guest has taken over, or that are not ours. Descriptor 3 is the control channel.
class FakeEngine : public ::testing::Test {
  protected:
    std::unique_ptr<Machine> start(const std::string& script,
                                   Accelerator accelerator = Accelerator::kTcg) {
        const auto path = files_.write("engine", "#!/bin/sh\n" + script + "\n");
        ::chmod(path.c_str(), 0755);
        MachineConfig config;
        config.kernel = "/dev/null";
        return start_engine(std::move(config), {.engine = path,
                                                .accelerator = accelerator,
                                                .accelerator_reason = "",
                                                .verdict_file = files_.path() / "accel.json",
                                                .inherited_fds = {},
                                                .on_console = {}});
    }
    static constexpr const char* kGreeting =
        R"(echo '{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7}}}}' >&3)";
    static constexpr const char* kForever =
        "while read -r line <&3; do :; done; while :; do :; done";
    TemporaryDirectory files_;
};

TEST_F(FakeEngine, GarbageOnTheControlChannelEndsIt) {
    const auto machine = start(fmt::format("{}; echo 'rm -rf /' >&3; {}", kGreeting, kForever));
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_EQ(exit.detail, "the engine sent something that is not QMP");
    EXPECT_EQ(::kill(machine->engine_pid(), 0), -1);  // and reaped
}

TEST_F(FakeEngine, TooOldSaysSo) {
    const auto machine = start(fmt::format(
        R"(echo '{{"QMP":{{"version":{{"qemu":{{"major":6,"minor":2}}}}}}}}' >&3; {})", kForever));
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_THAT(exit.detail, HasSubstr("is QEMU 6.2, but 7.2 or newer is needed"));
}

TEST_F(FakeEngine, AnAcceleratorThatGivesUpForgetsTheVerdict) {
    files_.write("accel.json", "{}");
    const std::string script = fmt::format(
        R"({}; echo '{{"event":"STOP"}}' >&3; echo 'KVM internal error. Suberror: 1' >&2
while read -r line <&3; do
  case $line in *query-status*) id=${{line##*:}}; echo '{{"return":{{"status":"internal-error"}},"id":'$id >&3;; esac
done)",
        kGreeting);
    const auto machine = start(script, Accelerator::kKvm);
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kAcceleratorError);
    EXPECT_THAT(exit.detail, HasSubstr("KVM internal error. Suberror: 1"));
    EXPECT_FALSE(std::filesystem::exists(files_.path() / "accel.json"));
}

TEST_F(FakeEngine, AGuestStoppedBehindOurBackIsAnError) {
    const std::string script = fmt::format(
        R"({}; echo '{{"event":"STOP"}}' >&3
while read -r line <&3; do
  case $line in *query-status*) id=${{line##*:}}; echo '{{"return":{{"status":"io-error"}},"id":'$id >&3;; esac
done)",
        kGreeting);
    const auto machine = start(script);
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_EQ(exit.detail, "the engine stopped the guest without being asked to");
}

TEST_F(FakeEngine, AnEngineThatClosesEverythingIsStillReaped) {
    const auto machine = start("exec 3>&- 4>&- 1>&- 2>&-; kill -SEGV $$");
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kEngineKilled);
    EXPECT_THAT(exit.detail, HasSubstr("signal: 11 (SIGSEGV)"));
}

TEST_F(FakeEngine, DiagnosticsAreKeptForTheError) {
    const auto machine = start("echo 'qemu: no luck today' >&2; exit 1");
    const MachineExit exit = serve_until_exit(*machine);
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_EQ(exit.detail, "the engine did not start (exit status: 1): qemu: no luck today");
}

}  // namespace
}  // namespace msb::vmm::test
