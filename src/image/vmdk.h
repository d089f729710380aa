// The VMDK descriptor that presents files as one disk (spec/images.md section 10).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace msb::image {

struct VmdkExtent {
    std::filesystem::path path;  // absolute
    std::uint64_t size = 0;      // bytes
};

// The descriptor's text. Throws Error{kImage} "extent P size (N) is not 512-byte aligned", or when a path holds what
// the format cannot carry (a quote, a line break).
std::string vmdk_descriptor(std::span<const VmdkExtent> extents);

}  // namespace msb::image
