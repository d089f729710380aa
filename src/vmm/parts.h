// Where the programs and images a machine is made from are found.
#pragma once

#include <filesystem>

namespace msb::vmm {

struct Parts {
    std::filesystem::path kernel;     // $MSB_KERNEL, else <dir of msb>/../lib/microsandbox/vmlinux
    std::filesystem::path initramfs;  // $MSB_INITRAMFS, else .../lib/microsandbox/initramfs.cpio
    std::filesystem::path engine;     // $MSB_QEMU, else qemu-system-x86_64 in PATH
};

// `executable` is the running msb (base/process.h self_executable()). An empty variable counts as
// unset. Throws Error{kCustom} that names every part that is missing and what to do about it.
Parts find_parts(const std::filesystem::path& executable);

}  // namespace msb::vmm
