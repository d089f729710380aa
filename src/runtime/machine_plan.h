// From the launch document to a machine and a guest configuration.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "protocol/messages.h"
#include "runtime/inputs.h"
#include "vmm/machine.h"
#include "vmm/parts.h"

namespace msb::runtime {

// Refuses what this version cannot do yet (directory roots, shared mounts, vsock) with the error texts of
// spec/sandbox-process.md sections 4.2, 5 and 16. Opens what it can check. Throws Error.
void check_supported(const contract::LaunchConfig& config);

// Disks in guest order: root, upper, then the extra ones (serial = id). Ports and descriptors are the caller's to add.
// Throws Error.
vmm::MachineConfig plan_machine(const Inputs& inputs, const vmm::Parts& parts);

// The text of a disk that start_machine() refused: "rootfs: ...", "disk ID: host path not found: P".
std::string disk_failure(const Inputs& inputs, const vmm::DiskError& error);

// The launcher's guest configuration plus what the sandbox process adds: block root, script and certificate files of
// runtime_dir, fresh entropy. Throws Error{kIo}.
protocol::Bootstrap plan_bootstrap(const contract::LaunchConfig& config);

// Files shipped to the guest may together have this many bytes: they travel in one frame of at most 4 MiB.
inline constexpr std::size_t kMaxRuntimeFileBytes = 3u << 20;

}  // namespace msb::runtime
