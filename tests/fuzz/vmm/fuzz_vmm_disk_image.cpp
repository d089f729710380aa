// Disk image headers: qcow2, VMDK descriptor, VMDK sparse extent.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "vmm/disk_image.h"
#include "vmm/vmdk.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::vmm;
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    try {
        if (parse_qcow2_header(bytes, size % 2 == 0).virtual_size == 0) std::abort();
    } catch (const DiskImageError&) {
    }
    try {
        const VmdkSparseHeader header = parse_vmdk_sparse_header(bytes);
        if (header.capacity_sectors == 0 || header.descriptor_bytes > kMaxVmdkDescriptorBytes)
            std::abort();
    } catch (const DiskImageError&) {
    }
    try {
        const DiskImageInfo info = parse_vmdk_descriptor(text);
        if (info.extents.size() > kMaxVmdkExtents) std::abort();
        for (const DiskExtent& extent : info.extents) {
            const std::string& path = extent.path.native();
            if (path.empty() || path.contains('\n')) std::abort();
            // Never something an engine would take for a protocol.
            if (const std::size_t at = path.find_first_of(":/"); at != path.npos && path[at] == ':')
                std::abort();
        }
    } catch (const DiskImageError&) {
    }
    return 0;
}
