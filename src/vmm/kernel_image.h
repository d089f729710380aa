// Whether a file is a kernel the engine can enter directly.
#pragma once

#include <filesystem>

namespace msb::vmm {

// An uncompressed x86-64 ELF with the Xen note 18 (XEN_ELFNOTE_PHYS32_ENTRY, "PVH"). An engine
// given anything else starts all the same and executes whatever it finds.
// Throws Error{kCustom} that names the file and what to do.
void check_kernel(const std::filesystem::path& kernel);

}  // namespace msb::vmm
