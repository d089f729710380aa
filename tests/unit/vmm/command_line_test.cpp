#include "vmm/command_line.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace msb::vmm {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

MachineConfig small_machine() {
    MachineConfig config;
    config.kernel = "/k/vmlinux";
    config.initramfs = "/k/initramfs.cpio";
    return config;
}

std::vector<std::string> arguments(const MachineConfig& config,
                                   Accelerator accelerator = Accelerator::kTcg) {
    EngineLayout layout{
        .qmp_fd = 3, .console_fd = 4, .kernel = config.kernel, .initramfs = config.initramfs};
    int fd = 5;
    for (std::size_t i = 0; i < config.ports.size(); ++i)
        layout.port_fds.push_back(fd++);
    for (const Disk& disk : config.disks)
        layout.disks.push_back(
            {.fd = disk.format == DiskFormat::kVmdk ? -1 : fd++, .path = disk.path});
    return engine_arguments(config, layout, accelerator);
}

// The values given to one option, in order.
std::vector<std::string> values(const std::vector<std::string>& argv, std::string_view option) {
    std::vector<std::string> result;
    for (std::size_t i = 0; i + 1 < argv.size(); ++i)
        if (argv[i] == option) result.push_back(argv[i + 1]);
    return result;
}

std::string error_of(const MachineConfig& config) {
    try {
        validate(config);
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST(CommandLine, SmallestMachineIsExactlyThis) {
    MachineConfig config = small_machine();
    config.ports.push_back({"agent", UniqueFd()});
    const std::vector<std::string> expected = {
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-name",
        "microsandbox,debug-threads=on",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine",
        "microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=off,"
        "auto-kernel-cmdline=off,mem-merge=off,dump-guest-core=off,memory-backend=mem",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "1",
        "-m",
        "512M",
        "-object",
        "memory-backend-ram,id=mem,size=512M,share=off,merge=off,dump=off,reserve=off",
        "-kernel",
        "/k/vmlinux",
        "-initrd",
        "/k/initramfs.cpio",
        "-append",
        kernel_command_line(config),
        "-chardev",
        "socket,id=qmp,fd=3",
        "-mon",
        "chardev=qmp,mode=control",
        "-chardev",
        "socket,id=console,fd=4",
        "-serial",
        "chardev:console",
        "-device",
        R"({"driver":"virtio-serial-device","bus":"virtio-mmio-bus.0","id":"ports"})",
        "-chardev",
        "socket,id=port1,fd=5",
        "-device",
        R"({"driver":"virtserialport","bus":"ports.0","nr":1,"chardev":"port1","name":"agent"})",
        "-device",
        R"({"driver":"virtio-rng-device","bus":"virtio-mmio-bus.1"})",
    };
    EXPECT_EQ(arguments(config), expected);
}

TEST(CommandLine, KvmIsTheOnlyDifferenceOfAKvmMachine) {
    const MachineConfig config = small_machine();
    auto tcg = arguments(config), kvm = arguments(config, Accelerator::kKvm);
    EXPECT_EQ(values(kvm, "-accel"), std::vector<std::string>{"kvm"});
    std::ranges::replace(tcg, std::string("tcg,thread=multi"), std::string("kvm"));
    EXPECT_EQ(tcg, kvm);
}

TEST(CommandLine, KernelIsToldOfEveryDeviceInOrder) {
    MachineConfig config = small_machine();
    config.transparent_hugepage = "never";
    config.kernel_arguments = {"quiet"};
    config.disks.resize(2);
    EXPECT_EQ(
        kernel_command_line(config),
        "console=ttyS0 reboot=t panic=-1 no_timer_check rdinit=/init transparent_hugepage=never "
        "acpi=off pci=off virtio_mmio.device=512@0xfeb00000:5 "
        "virtio_mmio.device=512@0xfeb00200:6 virtio_mmio.device=512@0xfeb00400:7 "
        "virtio_mmio.device=512@0xfeb00800:9 quiet");
}

TEST(CommandLine, SpareVcpusStayOfflineAtBoot) {
    MachineConfig config = small_machine();
    EXPECT_THAT(kernel_command_line(config), Not(HasSubstr("maxcpus")));
    config.vcpus = 2;
    config.max_vcpus = 4;
    EXPECT_EQ(values(arguments(config), "-smp"), std::vector<std::string>{"4"});
    EXPECT_THAT(kernel_command_line(config), HasSubstr(" maxcpus=2 "));
}

TEST(CommandLine, BalloonOnlyWhereMemoryCanChange) {
    MachineConfig config = small_machine();
    EXPECT_THAT(arguments(config), Not(Contains(HasSubstr("balloon"))));
    config.max_memory_mib = 2048;
    const auto argv = arguments(config);
    EXPECT_EQ(values(argv, "-m"), std::vector<std::string>{"2048M"});
    EXPECT_THAT(
        values(argv, "-device"),
        Contains(
            R"({"driver":"virtio-balloon-device","bus":"virtio-mmio-bus.2","free-page-reporting":true})"));
}

TEST(CommandLine, RawDiskGoesInAsADescriptor) {
    MachineConfig config = small_machine();
    config.disks = {{.path = "/d/a.raw", .serial = "root"}};
    const auto argv = arguments(config);
    EXPECT_EQ(values(argv, "-add-fd"), std::vector<std::string>{"fd=5,set=5"});
    EXPECT_EQ(
        values(argv, "-blockdev"),
        std::vector<std::string>{
            R"({"driver":"file","filename":"/dev/fdset/5","aio":"threads","node-name":"disk0",)"
            R"("read-only":false,"cache":{"direct":false,"no-flush":false},"discard":"unmap"})"});
    EXPECT_EQ(values(argv, "-device").back(),
              R"({"driver":"virtio-blk-device","bus":"virtio-mmio-bus.2","drive":"disk0",)"
              R"("werror":"report","rerror":"report","serial":"root"})");
}

TEST(CommandLine, Qcow2NeverFollowsABackingFile) {
    MachineConfig config = small_machine();
    config.disks = {{.path = "/d/a.qcow2", .format = DiskFormat::kQcow2, .read_only = true}};
    const std::string blockdev = values(arguments(config), "-blockdev").at(0);
    EXPECT_THAT(blockdev, StartsWith(R"({"driver":"qcow2","file":{"driver":"file",)"
                                     R"("filename":"/dev/fdset/5")"));
    EXPECT_THAT(blockdev, HasSubstr(R"("backing":null)"));
    EXPECT_THAT(blockdev, Not(HasSubstr(R"("read-only":false)")));
}

TEST(CommandLine, VmdkGoesInByPathBecauseItNamesItsExtents) {
    MachineConfig config = small_machine();
    config.disks = {
        {.path = "/d/odd,name=\"x\".vmdk", .format = DiskFormat::kVmdk, .read_only = true}};
    const auto argv = arguments(config);
    EXPECT_TRUE(values(argv, "-add-fd").empty());
    EXPECT_THAT(values(argv, "-blockdev").at(0),
                AllOf(HasSubstr(R"("driver":"vmdk")"),
                      HasSubstr(R"("filename":"/d/odd,name=\"x\".vmdk")")));
}

TEST(CommandLine, AMachineWithMoreDevicesThanWindowsIsAPciMachine) {
    MachineConfig config = small_machine();
    config.disks.resize(5);
    EXPECT_THAT(values(arguments(config), "-machine").at(0), StartsWith("microvm,"));
    config.disks.resize(6);
    const auto argv = arguments(config);
    EXPECT_THAT(values(argv, "-machine").at(0), StartsWith("q35,"));
    EXPECT_EQ(values(argv, "-device").back(),
              R"({"driver":"virtio-blk-pci","addr":"0x8","drive":"disk5",)"
              R"("werror":"report","rerror":"report"})");
    EXPECT_THAT(kernel_command_line(config), Not(HasSubstr("acpi=off")));
    EXPECT_THAT(kernel_command_line(config), Not(HasSubstr("virtio_mmio")));
    config.disks.resize(28);
    EXPECT_EQ(error_of(config), "");
    config.disks.resize(29);
    EXPECT_EQ(error_of(config), "configuration error: too many disks: 29 (at most 28)");
}

TEST(CommandLine, RefusesWhatAMachineCannotBe) {
    MachineConfig config = small_machine();
    config.vcpus = 0;
    EXPECT_EQ(error_of(config), "configuration error: invalid vCPU count: 0");
    config = small_machine();
    config.memory_mib = 0;
    EXPECT_EQ(error_of(config), "configuration error: invalid memory size: 0 MiB");
    config = small_machine();
    config.max_vcpus = 65;
    EXPECT_THAT(error_of(config), HasSubstr("invalid maximum vCPU count: 65"));
    config = small_machine();
    config.max_memory_mib = 511;
    EXPECT_THAT(error_of(config), HasSubstr("invalid maximum memory size: 511 MiB"));
    config = small_machine();
    config.transparent_hugepage = "always rdinit=/evil";
    EXPECT_THAT(error_of(config), HasSubstr("transparent hugepage"));
    config = small_machine();
    config.kernel_arguments = {"a b"};
    EXPECT_THAT(error_of(config), HasSubstr("invalid kernel argument"));
    config.kernel_arguments = {std::string(2048, 'x')};
    EXPECT_THAT(error_of(config), HasSubstr("kernel command line"));
    config = small_machine();
    config.disks = {{.path = "/d", .serial = "123456789012345678901"}};
    EXPECT_THAT(error_of(config), HasSubstr("longer than 20 bytes"));
    config.disks = {{.path = "/d", .serial = "12345678901234567890"}};
    EXPECT_EQ(error_of(config), "");
}

}  // namespace
}  // namespace msb::vmm
