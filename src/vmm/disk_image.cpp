#include "vmm/disk_image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include "base/fd.h"
#include "vmm/vmdk.h"

namespace msb::vmm {
namespace {

constexpr std::string_view kQcow2Magic = "QFI\xfb";

// qcow2 header, QEMU docs/interop/qcow2.txt: big-endian offsets of the fields we judge by.
constexpr std::size_t kQcow2HeaderV2 = 72;
constexpr std::size_t kQcow2HeaderV3 = 104;
constexpr std::size_t kVersion = 4, kBackingOffset = 8, kClusterBits = 20, kSize = 24,
                      kCryptMethod = 32, kIncompatible = 72;
constexpr std::uint64_t kCorrupt = 1u << 1, kExternalData = 1u << 2, kKnownIncompatible = 0x1f;

template <class Int>
Int big_endian(std::span<const std::byte> bytes, std::size_t offset) {
    Int value = 0;
    for (std::size_t i = 0; i < sizeof(Int); ++i)
        value = static_cast<Int>(value << 8 | static_cast<Int>(bytes[offset + i]));
    return value;
}

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
    return bytes.size() >= magic.size() &&
           std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

std::string_view format_name(DiskFormat format) {
    switch (format) {
        case DiskFormat::kRaw:
            return "raw";
        case DiskFormat::kQcow2:
            return "qcow2";
        case DiskFormat::kVmdk:
            return "vmdk";
    }
    return "";
}

// What contents that are not of the stated format look like, for the error message only.
std::string looks_like(std::span<const std::byte> header) {
    if (starts_with(header, kQcow2Magic)) return "it looks like a qcow2 image";
    if (starts_with(header, kVmdkSparseMagic) || starts_with(header, kVmdkDescriptorMagic))
        return "it looks like a vmdk image";
    return "it may be a raw image";
}

[[noreturn]] void wrong_format(DiskFormat stated, std::span<const std::byte> header) {
    throw DiskImageError(fmt::format("not a {} image ({}): state the format it has",
                                     format_name(stated), looks_like(header)));
}

struct OpenImage {
    UniqueFd fd;
    std::uint64_t size = 0;
    bool block_device = false;
};

OpenImage open_image(const std::filesystem::path& path, bool read_only) {
    // O_NONBLOCK: opening a FIFO must not wait for its other end.
    OpenImage image;
    image.fd.reset(
        ::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!image.fd) throw DiskImageError(os_error_text(errno), errno);
    struct stat status{};
    if (::fstat(image.fd.get(), &status) != 0) throw DiskImageError(os_error_text(errno), errno);
    if (S_ISBLK(status.st_mode)) {
        image.block_device = true;
        if (::ioctl(image.fd.get(), BLKGETSIZE64, &image.size) != 0)
            throw DiskImageError(os_error_text(errno), errno);
    } else if (S_ISREG(status.st_mode)) {
        image.size = static_cast<std::uint64_t>(status.st_size);
    } else {
        throw DiskImageError("neither a regular file nor a block device");
    }
    set_nonblocking(image.fd.get(), false);
    return image;
}

std::vector<std::byte> read_at(int fd, std::uint64_t offset, std::size_t count) {
    std::vector<std::byte> bytes(count);
    std::size_t done = 0;
    while (done < count) {
        const ssize_t n =
            ::pread(fd, bytes.data() + done, count - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw DiskImageError(os_error_text(errno), errno);
        if (n == 0) break;
        done += static_cast<std::size_t>(n);
    }
    bytes.resize(done);
    return bytes;
}

// `inner` is below `outer`, both canonical.
bool is_below(const std::filesystem::path& inner, const std::filesystem::path& outer) {
    const auto [end, rest] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
    return end == outer.end();
}

void check_extent(const DiskExtent& extent, const std::filesystem::path& directory,
                  const std::vector<std::filesystem::path>& roots) {
    std::error_code error;
    const auto path = std::filesystem::canonical(directory / extent.path, error);
    if (error)
        throw DiskImageError(
            fmt::format("extent {}: {}", extent.path.string(), os_error_text(error.value())),
            error.value());
    const bool allowed =
        is_below(path, directory) || std::ranges::any_of(roots, [&](const auto& r) {
            const auto root = std::filesystem::canonical(r, error);
            return !error && is_below(path, root);
        });
    if (!allowed)
        throw DiskImageError(fmt::format(
            "extent {} lies outside the image's directory: copy the image into one file with "
            "`qemu-img convert -O qcow2`",
            extent.path.string()));
    const OpenImage file = [&] {
        try {
            return open_image(path, true);
        } catch (const DiskImageError& e) {
            throw DiskImageError(fmt::format("extent {}: {}", extent.path.string(), e.what()),
                                 e.os_error());
        }
    }();
    if (file.block_device)
        throw DiskImageError(fmt::format("extent {} is a block device", extent.path.string()));
    if (!extent.flat) {
        const std::vector<std::byte> header = read_at(file.fd.get(), 0, kDiskHeaderBytes);
        if (!starts_with(header, kVmdkSparseMagic))
            throw DiskImageError(
                fmt::format("extent {} is not a sparse vmdk extent", extent.path.string()));
        parse_vmdk_sparse_header(header);
        return;
    }
    const std::uint64_t sectors = file.size / 512;
    if ((extent.start_sector > sectors || extent.sectors > sectors - extent.start_sector))
        throw DiskImageError(fmt::format("extent {} is shorter than the image says: it is damaged",
                                         extent.path.string()));
}

// Both readers of a descriptor stop at its first zero byte: an embedded one is padded.
std::string_view as_text(std::span<const std::byte> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return text.substr(0, text.find('\0'));
}

DiskImageInfo inspect_vmdk(const Disk& disk, const OpenImage& image,
                           std::span<const std::byte> header) {
    if (starts_with(header, kVmdkSparseMagic)) {
        // One file that holds everything; the extent name in its embedded descriptor is only what
        // the file was called once.
        const VmdkSparseHeader sparse = parse_vmdk_sparse_header(header);
        const auto text =
            read_at(image.fd.get(), sparse.descriptor_offset, sparse.descriptor_bytes);
        parse_vmdk_descriptor(as_text(text));
        return {.virtual_size = sparse.capacity_sectors * 512};
    }
    if (!starts_with(header, kVmdkDescriptorMagic)) wrong_format(DiskFormat::kVmdk, header);
    if (image.size > kMaxVmdkDescriptorBytes)
        throw DiskImageError("the vmdk descriptor is too long");
    const auto text = read_at(image.fd.get(), 0, static_cast<std::size_t>(image.size));
    DiskImageInfo info = parse_vmdk_descriptor(as_text(text));
    std::error_code error;
    const auto canonical = std::filesystem::canonical(disk.path, error);
    if (error) throw DiskImageError(os_error_text(error.value()), error.value());
    for (const DiskExtent& extent : info.extents)
        check_extent(extent, canonical.parent_path(), disk.extent_roots);
    return info;
}

}  // namespace

DiskImageInfo parse_qcow2_header(std::span<const std::byte> header, bool read_only) {
    if (!starts_with(header, kQcow2Magic)) wrong_format(DiskFormat::kQcow2, header);
    if (header.size() < kQcow2HeaderV2) throw DiskImageError("the qcow2 header is cut off");
    const auto version = big_endian<std::uint32_t>(header, kVersion);
    if (version != 2 && version != 3)
        throw DiskImageError(
            fmt::format("qcow2 version {} is not supported: convert it with "
                        "`qemu-img convert -O qcow2`",
                        version));
    if (version == 3 && header.size() < kQcow2HeaderV3)
        throw DiskImageError("the qcow2 header is cut off");
    if (big_endian<std::uint64_t>(header, kBackingOffset) != 0)
        throw DiskImageError(
            "the qcow2 image has a backing file: make it self-contained with `qemu-img rebase -b "
            "\"\"` or `qemu-img convert -O qcow2`");
    if (big_endian<std::uint32_t>(header, kCryptMethod) != 0)
        throw DiskImageError(
            "the qcow2 image is encrypted: decrypt it with `qemu-img convert -O qcow2`");
    const auto cluster_bits = big_endian<std::uint32_t>(header, kClusterBits);
    if (cluster_bits < 9 || cluster_bits > 21)
        throw DiskImageError("the qcow2 header is damaged (cluster size)");
    const auto incompatible =
        version == 3 ? big_endian<std::uint64_t>(header, kIncompatible) : std::uint64_t{0};
    if ((incompatible & kExternalData) != 0)
        throw DiskImageError(
            "the qcow2 image keeps its data in an external file: copy it into one file with "
            "`qemu-img convert -O qcow2`");
    if ((incompatible & ~kKnownIncompatible) != 0)
        throw DiskImageError("the qcow2 image uses features this version does not know");
    if ((incompatible & kCorrupt) != 0 && !read_only)
        throw DiskImageError(
            "the qcow2 image is marked corrupt: repair it with `qemu-img check -r all`");
    DiskImageInfo info;
    info.virtual_size = big_endian<std::uint64_t>(header, kSize);
    if (info.virtual_size == 0) throw DiskImageError("the qcow2 image is empty (virtual size 0)");
    return info;
}

DiskImageInfo inspect_disk_image(const Disk& disk) {
    const OpenImage image = open_image(disk.path, disk.read_only);
    const std::vector<std::byte> header = read_at(image.fd.get(), 0, kDiskHeaderBytes);
    DiskImageInfo info;
    switch (disk.format) {
        case DiskFormat::kRaw:
            if (starts_with(header, kQcow2Magic) || starts_with(header, kVmdkSparseMagic) ||
                starts_with(header, kVmdkDescriptorMagic))
                wrong_format(DiskFormat::kRaw, header);
            info.virtual_size = image.size;
            if (image.size < 512) throw DiskImageError("the raw image is empty");
            break;
        case DiskFormat::kQcow2:
            info = parse_qcow2_header(header, disk.read_only);
            break;
        case DiskFormat::kVmdk:
            if (image.block_device) throw DiskImageError("a vmdk image has to be a file");
            info = inspect_vmdk(disk, image, header);
            if (info.virtual_size == 0) throw DiskImageError("the vmdk image is empty");
            break;
    }
    info.block_device = image.block_device;
    return info;
}

}  // namespace msb::vmm
