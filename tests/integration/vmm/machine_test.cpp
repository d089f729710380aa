// Real guests: devices, live resize, and every way in which a machine ends.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/text.h"
#include "guest.h"

namespace msb::vmm::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Machine, DisksOfEveryFormatAndAGuestThatReboots) {
    const TemporaryDirectory disks;
    MachineConfig config;
    config.disks = {
        {.path = disks.make_disk("a.raw", "-f raw"), .serial = "root"},
        {.path = disks.make_disk("b.qcow2", "-f qcow2"),
         .format = DiskFormat::kQcow2,
         .serial = "data"},
        {.path = disks.make_disk("c.vmdk", "-f vmdk -o subformat=twoGbMaxExtentFlat"),
         .format = DiskFormat::kVmdk,
         .read_only = true,
         .serial = "lower"},
    };
    Guest guest(std::move(config));
    EXPECT_EQ(guest.machine().accelerator(), Accelerator::kTcg);
    guest.wait_until_ready();
    EXPECT_EQ(guest.run("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial; echo; "
                        "cat /sys/block/vdc/serial"),
              "root data lower");
    EXPECT_EQ(guest.run("cat /sys/block/vd?/ro /sys/block/vd?/size"), "0 0 1 16384 16384 16384");
    guest.run("printf 'raw contents' | dd of=/dev/vda bs=512 seek=3 conv=sync,fsync");
    guest.run("printf 'qcow2 contents' | dd of=/dev/vdb bs=512 seek=3 conv=sync,fsync");
    guest.send("reboot -f");
    const MachineExit exit = guest.wait();
    EXPECT_EQ(exit.kind, ExitKind::kGuestShutdown) << exit.detail;
    EXPECT_EQ(exit.exit_code, 0);
    EXPECT_EQ(read_file(disks.path() / "a.raw").substr(3 * 512, 12), "raw contents");
    const std::string check = fmt::format(
        "qemu-img check -q {0}/b.qcow2 && qemu-img convert -O raw {0}/b.qcow2 {0}/b.raw",
        disks.path().string());
    EXPECT_EQ(std::system(check.c_str()), 0);
    EXPECT_EQ(read_file(disks.path() / "b.raw").substr(3 * 512, 14), "qcow2 contents");
}

TEST(Machine, MoreDisksThanAMicrovmHasWindows) {
    const TemporaryDirectory disks;
    MachineConfig config;
    for (int i = 0; i < 9; ++i)
        config.disks.push_back({.path = disks.make_disk(fmt::format("{}.raw", i), "-f raw"),
                                .serial = fmt::format("d{}", i)});
    Guest guest(std::move(config));
    guest.wait_until_ready();
    EXPECT_EQ(guest.run("for d in /sys/block/vd?; do cat $d/serial; echo; done"),
              "d0 d1 d2 d3 d4 d5 d6 d7 d8");
    guest.send("poweroff -f");
    EXPECT_EQ(guest.wait().kind, ExitKind::kGuestShutdown);
}

TEST(Machine, AGuestThatPowersOff) {
    Guest guest;
    guest.wait_until_ready();
    guest.send("poweroff -f");
    const MachineExit exit = guest.wait();
    EXPECT_EQ(exit.kind, ExitKind::kGuestShutdown) << exit.detail;
    EXPECT_EQ(exit.exit_code, 0);
}

TEST(Machine, APanicNamesItself) {
    Guest guest;
    guest.wait_until_ready();
    guest.send("exit 3");
    const MachineExit exit = guest.wait();
    EXPECT_EQ(exit.kind, ExitKind::kGuestPanic);
    EXPECT_EQ(exit.exit_code, 1);
    EXPECT_THAT(exit.detail, StartsWith("Kernel panic - not syncing: Attempted to kill init!"));
    EXPECT_THAT(guest.console(), HasSubstr("Attempted to kill init!"));
}

TEST(Machine, AKilledEngineIsNoticedAndOurOwnKillIsNot) {
    Guest guest;
    guest.wait_until_ready();
    ASSERT_EQ(::kill(guest.machine().engine_pid(), SIGKILL), 0);
    MachineExit exit = guest.wait();
    EXPECT_EQ(exit.kind, ExitKind::kEngineKilled);
    EXPECT_THAT(exit.detail, HasSubstr("signal: 9 (SIGKILL)"));
    guest.machine().kill();  // too late to change anything
    EXPECT_EQ(guest.machine().poll_exit()->kind, ExitKind::kEngineKilled);

    Guest other;
    other.machine().kill();
    other.machine().kill();
    exit = other.wait();
    EXPECT_EQ(exit.kind, ExitKind::kHostRequest);
    EXPECT_EQ(exit.exit_code, 0);
}

std::uint64_t memory_mib(Guest& guest) {
    return std::stoull(guest.run("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) /
           1024;
}

TEST(Machine, MemoryFollowsItsTarget) {
    MachineConfig config;
    config.memory_mib = 160;
    config.max_memory_mib = 288;
    Guest guest(std::move(config));
    guest.wait_until_ready();
    Machine& machine = guest.machine();
    // The balloon takes what is beyond the boot size by itself.
    EXPECT_FALSE(serve(machine, [&] { return machine.memory_state().current_mib == 160; }));
    const std::uint64_t small = memory_mib(guest);
    EXPECT_LT(small, 160u);

    machine.set_memory_target(100'000);
    EXPECT_EQ(machine.memory_state().target_mib, 288u);
    EXPECT_FALSE(serve(machine, [&] { return machine.memory_state().current_mib == 288; }));
    EXPECT_EQ(memory_mib(guest), small + 128);

    machine.set_memory_target(1);
    EXPECT_EQ(machine.memory_state().target_mib, 160u);
    EXPECT_FALSE(serve(machine, [&] { return machine.memory_state().current_mib == 160; }));
    EXPECT_EQ(memory_mib(guest), small);
    EXPECT_EQ(machine.memory_state().boot_mib, 160u);
    EXPECT_EQ(machine.memory_state().max_mib, 288u);
}

// Cpus_allowed_list of every vCPU thread of the engine.
std::vector<std::string> vcpu_affinity(pid_t engine) {
    std::vector<std::string> lists;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", engine))) {
        if (!read_file(task.path() / "comm").starts_with("CPU ")) continue;
        std::istringstream status(read_file(task.path() / "status"));
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("Cpus_allowed_list:")) lists.emplace_back(trim(line.substr(18)));
    }
    return lists;
}

TEST(Machine, SpareVcpusComeOnlineAndTheHostLimitFollows) {
    MachineConfig config;
    config.vcpus = 1;
    config.max_vcpus = 2;
    Guest guest(std::move(config));
    guest.wait_until_ready();
    Machine& machine = guest.machine();
    EXPECT_EQ(guest.run("cat /sys/devices/system/cpu/online /sys/devices/system/cpu/present"),
              "0 0-1");
    EXPECT_EQ(machine.cpu_limit(), 1u);
    const auto one = [](const std::string& list) {
        return list.find_first_of(",-") == std::string::npos;
    };
    EXPECT_FALSE(serve(
        machine, [&] { return std::ranges::all_of(vcpu_affinity(machine.engine_pid()), one); }));
    ASSERT_EQ(vcpu_affinity(machine.engine_pid()).size(), 2u);

    guest.run("echo 1 > /sys/devices/system/cpu/cpu1/online");
    EXPECT_EQ(guest.run("nproc"), "2");
    machine.set_cpu_limit(99);
    EXPECT_EQ(machine.cpu_limit(), 2u);
    const std::string self = [] {
        std::istringstream status(read_file("/proc/self/status"));
        for (std::string line; std::getline(status, line);)
            if (line.starts_with("Cpus_allowed_list:")) return std::string(trim(line.substr(18)));
        return std::string();
    }();
    for (const std::string& list : vcpu_affinity(machine.engine_pid()))
        EXPECT_EQ(list, self);
    machine.set_cpu_limit(0);
    EXPECT_EQ(machine.cpu_limit(), 1u);
    for (const std::string& list : vcpu_affinity(machine.engine_pid()))
        EXPECT_TRUE(one(list)) << list;
}

TEST(Machine, AFloodedConsoleIsBoundedAndTheGuestGoesOn) {
    MachineConfig config;
    config.console_log_limit = 64 * 1024;
    Guest guest(std::move(config));
    guest.wait_until_ready();
    guest.run("head -c 200000 /dev/zero | tr '\\0' x > /dev/console");
    EXPECT_EQ(guest.run("echo alive"), "alive");
    EXPECT_FALSE(
        serve(guest.machine(), [&] { return guest.console().ends_with("limit reached]\n"); }));
    EXPECT_LT(guest.console().size(), 64u * 1024 + 100);
}

// A file system of one megabyte, seen by this process and its children only.
void mount_small_file_system(const std::filesystem::path& where) {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    if (::unshare(CLONE_NEWNS) != 0) {
        if (::unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0) throw_os_error(errno, "unshare");
        std::ofstream("/proc/self/setgroups") << "deny";
        std::ofstream("/proc/self/gid_map") << "0 " << gid << " 1";
        std::ofstream("/proc/self/uid_map") << "0 " << uid << " 1";
    }
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", where.c_str(), "tmpfs", 0, "size=1m") != 0)
        throw_os_error(errno, "mount");
}

// What the guest says to more data than fits the host's file system.
std::string overfill(const std::filesystem::path& file_system) {
    mount_small_file_system(file_system);
    const auto disk = file_system / "a.raw";
    std::ofstream(disk).close();
    std::filesystem::resize_file(disk, 8 << 20);
    MachineConfig config;
    config.disks = {{.path = disk}};
    Guest guest(std::move(config));
    guest.wait_until_ready();
    guest.run("dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync");
    // Not zeros, which the engine could leave a hole for.
    const std::string fill = "yes | dd of=/dev/vda bs=64k count=64 iflag=fullblock conv=fsync";
    return guest.run("(" + fill + ") 2>/dev/null && echo written || echo refused; echo alive");
}

// The host's disk is full: the guest gets an error and goes on, the machine is not stopped.
TEST(Machine, AFullHostDiskIsAnErrorInTheGuest) {
    const TemporaryDirectory directory;
    const pid_t child = ::fork();
    if (child == 0) {
        std::string answer;
        try {
            answer = overfill(directory.path());
        } catch (const std::exception& error) {
            answer = error.what();
        }
        std::fprintf(stderr, "%s\n", answer.c_str());
        ::_exit(answer == "refused alive" ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Machine, AWritableDiskBelongsToOneMachine) {
    const TemporaryDirectory disks;
    const Disk disk{.path = disks.make_disk("a.raw", "-f raw")};
    MachineConfig first, second;
    first.disks = {disk};
    second.disks = {disk};
    Guest owner(std::move(first));
    owner.wait_until_ready();
    Guest intruder(std::move(second));
    const MachineExit exit = intruder.wait();
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_THAT(exit.detail, HasSubstr("Failed to get \"write\" lock"));
    EXPECT_EQ(owner.run("echo alive"), "alive");
}

}  // namespace
}  // namespace msb::vmm::test
