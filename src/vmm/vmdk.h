// VMDK: the parts of the format that decide which host files an engine would open.
// (VMware "Virtual Disk Format 5.0"; accepted forms follow what QEMU's block/vmdk.c reads.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/disk_image.h"

namespace msb::vmm {

inline constexpr std::string_view kVmdkSparseMagic = "KDMV";
inline constexpr std::string_view kVmdkDescriptorMagic = "# Disk DescriptorFile";

// The binary header of a sparse extent ("KDMV", little-endian).
struct VmdkSparseHeader {
    std::uint64_t capacity_sectors = 0;   // never 0
    std::uint64_t descriptor_offset = 0;  // bytes; 0 with 0 bytes: none embedded
    std::size_t descriptor_bytes = 0;     // at most kMaxVmdkDescriptorBytes
};
VmdkSparseHeader parse_vmdk_sparse_header(std::span<const std::byte> header);

}  // namespace msb::vmm
