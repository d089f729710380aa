// The engine's argument vector, as a pure function of the machine's description.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "vmm/machine.h"

namespace msb::vmm {

// How the engine reaches the contents of one disk.
struct DiskSource {
    int fd = -1;                 // descriptor in the engine; -1: opened by path (VMDK)
    std::filesystem::path path;  // absolute
    bool block_device = false;
};

// What the engine finds under which descriptor.
struct EngineLayout {
    int qmp_fd = -1;
    int console_fd = -1;
    std::vector<int> port_fds;      // as MachineConfig::ports
    std::vector<DiskSource> disks;  // as MachineConfig::disks
    std::filesystem::path kernel;   // as the engine is to open them
    std::filesystem::path initramfs;
};

// virtio-mmio devices of a machine: serial, rng, balloon when memory can change, the disks.
std::size_t virtio_device_count(const MachineConfig& config);
// More than this many cannot be attached (see command_line.cpp).
extern const std::size_t kMaxVirtioDevices;

// Throws Error{kCustom} "configuration error: ..." for what the machine cannot be.
void validate(const MachineConfig& config);

// What the kernel is told; public for tests.
std::string kernel_command_line(const MachineConfig& config);

// argv without argv[0]. `config` is valid.
std::vector<std::string> engine_arguments(const MachineConfig& config, const EngineLayout& layout,
                                          Accelerator accelerator);

}  // namespace msb::vmm
