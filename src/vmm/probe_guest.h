// The smallest guest that proves an accelerator works: our kernel, and an initramfs whose /init
// says so from user mode and reboots.
#pragma once

#include <string>
#include <string_view>

namespace msb::vmm {

inline constexpr std::string_view kProbeMarker = "msb-accelerator-works";

// A newc cpio archive with /dev/console and a static x86-64 /init.
std::string probe_initramfs();

}  // namespace msb::vmm
