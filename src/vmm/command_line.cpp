#include "vmm/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/encoding.h"
#include "base/json.h"
#include "base/text.h"

namespace msb::vmm {
namespace {

// A microvm without ACPI has eight virtio-mmio windows, wired to the ISA interrupts 5 to 12. The
// fourth shares line 8 with the real-time clock, whose driver does not share, so it stays empty.
constexpr std::array<unsigned, 7> kIsaSlots = {0, 1, 2, 4, 5, 6, 7};
// A machine with more devices than that is a q35 with virtio on PCI: it starts slower (SeaBIOS,
// ACPI and PCI enumeration, docs/engine.md) and has thirty slots besides its own two.
constexpr std::size_t kPciSlots = 30;
constexpr unsigned kFirstPciSlot = 1;

constexpr std::uint64_t kWindowBase = 0xfeb00000;  // VIRTIO_MMIO_BASE of QEMU's microvm
constexpr unsigned kWindowSize = 512;
constexpr unsigned kFirstIrq = 5;

constexpr std::size_t kMaxKernelCommandLine = 2047;  // COMMAND_LINE_SIZE of x86, with its NUL
constexpr std::size_t kMaxSerialBytes = 20;          // VIRTIO_BLK_ID_BYTES
constexpr std::size_t kMaxPorts = 30;                // virtio-serial: 31 ports, port 0 is a console

bool is_wide(const MachineConfig& config) {
    return virtio_device_count(config) > kIsaSlots.size();
}

bool has_balloon(const MachineConfig& config) {
    return config.max_memory_mib > config.memory_mib;
}

[[noreturn]] void invalid(const std::string& text) {
    throw Error(ErrorCode::kCustom, "configuration error: " + text);
}

bool is_word(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; });
}

// Hands out the places of virtio devices, in the order in which the guest finds them.
class DeviceSlots {
  public:
    explicit DeviceSlots(const MachineConfig& config) : wide_(is_wide(config)) {}
    // `type` is "virtio-blk", "virtio-rng", ...
    json::Value next(std::string_view type) {
        const std::size_t index = used_++;
        if (wide_)
            return {{"driver", fmt::format("{}-pci", type)},
                    {"addr", fmt::format("{:#x}", kFirstPciSlot + index)}};
        return {{"driver", fmt::format("{}-device", type)},
                {"bus", fmt::format("virtio-mmio-bus.{}", kIsaSlots.at(index))}};
    }

  private:
    bool wide_;
    std::size_t used_ = 0;
};

// Keys and values that come from outside go through JSON, where nothing needs QEMU's own escaping.
void add_device(std::vector<std::string>& argv, const json::Value& device) {
    argv.emplace_back("-device");
    argv.push_back(json::dump(device));
}

void add_disk(std::vector<std::string>& argv, const Disk& disk, const DiskSource& source,
              std::size_t index, json::Value device) {
    const std::string node = fmt::format("disk{}", index);
    json::Value file{{"driver", source.block_device ? "host_device" : "file"}};
    if (source.fd >= 0) {
        argv.emplace_back("-add-fd");
        argv.push_back(fmt::format("fd={},set={}", source.fd, source.fd));
        file["filename"] = fmt::format("/dev/fdset/{}", source.fd);
    } else {
        file["filename"] = source.path.string();
    }
    file["aio"] = "threads";
    const json::Value cache{{"direct", false}, {"no-flush", false}};

    json::Value top;
    if (disk.format == DiskFormat::kRaw) {
        // The protocol layer alone: a raw format layer above it would only pass requests on.
        top = file;
    } else {
        top["driver"] = disk.format == DiskFormat::kQcow2 ? "qcow2" : "vmdk";
        file["read-only"] = disk.read_only;
        file["cache"] = cache;
        file["discard"] = "unmap";
        top["file"] = file;
        top["backing"] = nullptr;  // whatever the header says
    }
    top["node-name"] = node;
    top["read-only"] = disk.read_only;
    top["cache"] = cache;
    top["discard"] = "unmap";
    argv.emplace_back("-blockdev");
    argv.push_back(json::dump(top));

    device["drive"] = node;
    // An error of the host's storage is the guest's to handle. (Left alone, the engine would stop
    // the machine when the host's disk is full, for somebody to resume it.)
    device["werror"] = "report";
    device["rerror"] = "report";
    if (!disk.serial.empty()) device["serial"] = disk.serial;
    add_device(argv, device);
}

}  // namespace

const std::size_t kMaxVirtioDevices = kPciSlots;

std::size_t virtio_device_count(const MachineConfig& config) {
    return 2 + (has_balloon(config) ? 1 : 0) + config.disks.size();
}

void validate(const MachineConfig& config) {
    if (config.vcpus == 0) invalid("invalid vCPU count: 0");
    if (config.memory_mib == 0) invalid("invalid memory size: 0 MiB");
    if (config.max_vcpus < config.vcpus || config.max_vcpus > kMaxVcpus)
        invalid(fmt::format("invalid maximum vCPU count: {} (at least {}, at most {})",
                            config.max_vcpus, config.vcpus, kMaxVcpus));
    if (config.max_memory_mib < config.memory_mib || config.max_memory_mib > kMaxMemoryMib)
        invalid(fmt::format("invalid maximum memory size: {} MiB (at least {}, at most {})",
                            config.max_memory_mib, config.memory_mib, kMaxMemoryMib));
    if (!config.vcpu_processors.empty() && config.vcpu_processors.size() != config.max_vcpus)
        invalid(fmt::format("{} processors for {} vCPUs", config.vcpu_processors.size(),
                            config.max_vcpus));
    if (config.transparent_hugepage != "always" && config.transparent_hugepage != "madvise" &&
        config.transparent_hugepage != "never")
        invalid(fmt::format("invalid transparent hugepage policy: {}",
                            msb::quoted(config.transparent_hugepage)));
    if (const std::size_t count = virtio_device_count(config); count > kMaxVirtioDevices)
        invalid(fmt::format("too many disks: {} (at most {})", config.disks.size(),
                            kMaxVirtioDevices - (count - config.disks.size())));
    if (config.ports.size() > kMaxPorts)
        invalid(fmt::format("too many serial ports: {}", config.ports.size()));
    for (const SerialPort& port : config.ports)
        if (!is_word(port.name)) invalid("invalid serial port name: " + msb::quoted(port.name));
    for (const Disk& disk : config.disks) {
        if (disk.serial.size() > kMaxSerialBytes)
            invalid(fmt::format("disk serial {} is longer than {} bytes", msb::quoted(disk.serial),
                                kMaxSerialBytes));
        if (!disk.serial.empty() && !is_word(disk.serial))
            invalid("invalid disk serial: " + msb::quoted(disk.serial));
    }
    for (const std::string& argument : config.kernel_arguments)
        if (!is_word(argument)) invalid("invalid kernel argument: " + msb::quoted(argument));
    if (const std::size_t size = kernel_command_line(config).size(); size > kMaxKernelCommandLine)
        invalid(fmt::format("the kernel command line has {} bytes (at most {})", size,
                            kMaxKernelCommandLine));
}

std::string kernel_command_line(const MachineConfig& config) {
    // reboot=t: a triple fault, which the engine turns into its own exit; panic=-1: at once.
    // no_timer_check: the kernel waits for a few timer interrupts and panics without them, which is what a vCPU that
    // gets no host CPU for some milliseconds looks like. The engine's timers are not in doubt.
    std::string line = "console=ttyS0 reboot=t panic=-1 no_timer_check rdinit=/init";
    line += fmt::format(" transparent_hugepage={}", config.transparent_hugepage);
    if (config.max_vcpus > config.vcpus) line += fmt::format(" maxcpus={}", config.vcpus);
    if (!is_wide(config)) {
        line += " acpi=off pci=off";
        // In this order, so that disks are named in this order.
        for (std::size_t i = 0; i < virtio_device_count(config); ++i)
            line += fmt::format(" virtio_mmio.device={}@{:#x}:{}", kWindowSize,
                                kWindowBase + std::uint64_t{kWindowSize} * kIsaSlots.at(i),
                                kFirstIrq + kIsaSlots.at(i));
    }
    for (const std::string& argument : config.kernel_arguments)
        line += " " + argument;
    return line;
}

std::vector<std::string> engine_arguments(const MachineConfig& config, const EngineLayout& layout,
                                          Accelerator accelerator) {
    std::string machine =
        is_wide(config) ? "q35,sata=off,smbus=off,usb=off,graphics=off"
                        : "microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=off,"
                          "auto-kernel-cmdline=off";
    machine += ",mem-merge=off,dump-guest-core=off,memory-backend=mem";
    std::vector<std::string> argv = {"-nodefaults", "-no-user-config", "-no-reboot"};
    const auto add = [&](std::string_view option, std::string value) {
        argv.emplace_back(option);
        argv.push_back(std::move(value));
    };
    add("-display", "none");
    add("-name", "microsandbox,debug-threads=on");
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    add("-machine", machine);
    add("-accel", accelerator == Accelerator::kKvm ? "kvm" : "tcg,thread=multi");
    add("-cpu", "max");
    add("-smp", std::to_string(config.max_vcpus));
    add("-m", fmt::format("{}M", config.max_memory_mib));
    // reserve=off: memory the guest has not touched is not charged against overcommit limits.
    std::string memory =
        fmt::format("memory-backend-ram,id=mem,size={}M,share=off,merge=off,dump=off,reserve=off",
                    config.max_memory_mib);
    if (config.memory_node)
        memory += fmt::format(",host-nodes={},policy={}", *config.memory_node,
                              config.memory_node_only ? "bind" : "preferred");
    add("-object", memory);
    add("-kernel", layout.kernel.string());
    if (!layout.initramfs.empty()) add("-initrd", layout.initramfs.string());
    add("-append", kernel_command_line(config));

    add("-chardev", fmt::format("socket,id=qmp,fd={}", layout.qmp_fd));
    add("-mon", "chardev=qmp,mode=control");
    add("-chardev", fmt::format("socket,id=console,fd={}", layout.console_fd));
    add("-serial", "chardev:console");

    DeviceSlots slots(config);
    json::Value ports = slots.next("virtio-serial");
    ports["id"] = "ports";
    add_device(argv, ports);
    for (std::size_t i = 0; i < config.ports.size(); ++i) {
        const std::string id = fmt::format("port{}", i + 1);
        add("-chardev", fmt::format("socket,id={},fd={}", id, layout.port_fds.at(i)));
        add_device(argv, {{"driver", "virtserialport"},
                          {"bus", "ports.0"},
                          {"nr", i + 1},
                          {"chardev", id},
                          {"name", config.ports[i].name}});
    }
    add_device(argv, slots.next("virtio-rng"));
    if (has_balloon(config)) {
        json::Value balloon = slots.next("virtio-balloon");
        balloon["free-page-reporting"] = true;
        add_device(argv, balloon);
    }
    for (std::size_t i = 0; i < config.disks.size(); ++i)
        add_disk(argv, config.disks[i], layout.disks.at(i), i, slots.next("virtio-blk"));
    return argv;
}

}  // namespace msb::vmm
