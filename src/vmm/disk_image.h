// What a disk image file claims to be, read by ourselves before an engine opens it.
//
// Images are hostile: a qcow2 header can name any host file as its backing or data file, and a
// VMDK descriptor is a list of host paths. Formats are never guessed from contents.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/machine.h"

namespace msb::vmm {

// Why an image is refused; what() is for people and says what to do.
class DiskImageError : public std::runtime_error {
  public:
    explicit DiskImageError(const std::string& reason, int os_error = 0)
        : std::runtime_error(reason), os_error_(os_error) {}
    int os_error() const noexcept { return os_error_; }  // 0: not an OS error

  private:
    int os_error_;
};

struct DiskExtent {
    std::filesystem::path path;  // as written in the descriptor
    std::uint64_t sectors = 0;   // of 512 bytes
    std::uint64_t start_sector = 0;
    bool flat = false;  // FLAT or VMFS: bytes as they are, from start_sector on
};

struct DiskImageInfo {
    std::uint64_t virtual_size = 0;  // bytes the guest sees
    bool block_device = false;
    std::vector<DiskExtent> extents;  // VMDK descriptors only
};

// Opens `path` and checks it: readable (and writable unless `read_only`), a regular file or block
// device, of the stated format, self-contained (no backing file, no external data file, no parent,
// extents only below the image's directory or one of `extent_roots`), not marked corrupt.
// Throws DiskImageError.
DiskImageInfo inspect_disk_image(const Disk& disk);

// The pure parts, for tests and fuzzing; all throw DiskImageError. `header` is the beginning of the
// file (kDiskHeaderBytes, less when the file is shorter).
inline constexpr std::size_t kDiskHeaderBytes = 64 * 1024;
inline constexpr std::size_t kMaxVmdkDescriptorBytes = 1 << 20;
inline constexpr std::size_t kMaxVmdkExtents = 4096;
DiskImageInfo parse_qcow2_header(std::span<const std::byte> header, bool read_only);
DiskImageInfo parse_vmdk_descriptor(std::string_view text);

}  // namespace msb::vmm
