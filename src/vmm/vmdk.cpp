#include "vmm/vmdk.h"

#include <fmt/format.h>

#include <limits>
#include <optional>
#include <string>

#include "base/text.h"

namespace msb::vmm {
namespace {

// Offsets in the sparse extent header: magic, version, flags, then these.
constexpr std::size_t kCapacity = 12, kDescriptorOffset = 28, kDescriptorSize = 36;
constexpr std::size_t kSparseHeaderBytes = 79;
constexpr std::uint64_t kMaxSectors = std::numeric_limits<std::int64_t>::max() / 512;

std::uint64_t little_endian64(std::span<const std::byte> bytes, std::size_t offset) {
    std::uint64_t value = 0;
    for (std::size_t i = 8; i-- > 0;)
        value = value << 8 | static_cast<std::uint64_t>(bytes[offset + i]);
    return value;
}

[[noreturn]] void bad_descriptor(std::string_view what) {
    throw DiskImageError(fmt::format("the vmdk descriptor is damaged: {}", what));
}

// Takes the next word off `line`; "" at its end.
std::string_view take_word(std::string_view& line) {
    line = trim(line);
    const std::size_t end = line.find_first_of(" \t");
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(word.size());
    return word;
}

std::string_view take_quoted(std::string_view& line) {
    line = trim(line);
    if (line.empty() || line.front() != '"') bad_descriptor("extent without a file name");
    const std::size_t end = line.find('"', 1);
    if (end == std::string_view::npos) bad_descriptor("unterminated file name");
    const std::string_view name = line.substr(1, end - 1);
    line.remove_prefix(end + 1);
    return name;
}

void check_name(std::string_view name) {
    if (name.empty()) bad_descriptor("empty file name");
    if (name.size() > 511) bad_descriptor("file name too long");  // QEMU's buffer
    for (const char c : name)
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f)
            bad_descriptor("control character in a file name");
    // "nbd:...", "json:{...}": QEMU opens such a name as a protocol, not as a file.
    const std::size_t special = name.find_first_of(":/");
    if (special != std::string_view::npos && name[special] == ':')
        throw DiskImageError(fmt::format("extent {} is not a file name", msb::quoted(name)));
}

// ACCESS SECTORS TYPE ["NAME" [START]]
DiskExtent parse_extent(std::string_view line) {
    take_word(line);  // the access; the caller knows it is one
    DiskExtent extent;
    const auto sectors = parse_integer<std::uint64_t>(take_word(line));
    if (!sectors || *sectors == 0 || *sectors > kMaxSectors) bad_descriptor("extent size");
    extent.sectors = *sectors;
    const std::string_view type = take_word(line);
    if (type == "ZERO") return extent;
    extent.flat = type == "FLAT" || type == "VMFS";
    if (!extent.flat && type != "SPARSE")
        throw DiskImageError(
            fmt::format("vmdk extents of type {} are not supported: convert the "
                        "image with `qemu-img convert -O qcow2`",
                        msb::quoted(type)));
    const std::string_view name = take_quoted(line);
    check_name(name);
    extent.path = name;
    if (const std::string_view start = take_word(line); !start.empty()) {
        const auto sector = parse_integer<std::uint64_t>(start);
        if (!sector || *sector > kMaxSectors) bad_descriptor("extent start");
        extent.start_sector = *sector;
    }
    return extent;
}

// parentCID=ffffffff says "no parent"; parentFileNameHint names one.
void check_parent(std::string_view key, std::string_view value) {
    const bool parent = (iequals(key, "parentCID") && !iequals(value, "ffffffff")) ||
                        iequals(key, "parentFileNameHint");
    if (parent)
        throw DiskImageError(
            "the vmdk image depends on a parent image: make it self-contained with `qemu-img "
            "convert -O qcow2`");
}

// QEMU scans with sscanf, for which vertical tabs and stray carriage returns separate words too;
// without them its idea of a line and of its words is ours.
void check_characters(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const bool line_end = c == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
        if (c < ' ' && c != '\t' && c != '\n' && !line_end) bad_descriptor("control character");
    }
}

}  // namespace

VmdkSparseHeader parse_vmdk_sparse_header(std::span<const std::byte> header) {
    if (header.size() < kSparseHeaderBytes) throw DiskImageError("the vmdk header is cut off");
    VmdkSparseHeader result;
    result.capacity_sectors = little_endian64(header, kCapacity);
    const std::uint64_t offset = little_endian64(header, kDescriptorOffset);
    const std::uint64_t size = little_endian64(header, kDescriptorSize);
    // QEMU takes a sparse extent without capacity for a wrapped descriptor and opens what it names.
    if (result.capacity_sectors == 0 || result.capacity_sectors > kMaxSectors ||
        offset > kMaxSectors)
        throw DiskImageError("the vmdk header is damaged");
    if (offset == 0) return result;
    if (size > kMaxVmdkDescriptorBytes / 512)
        throw DiskImageError("the vmdk descriptor is too long");
    result.descriptor_offset = offset * 512;
    result.descriptor_bytes = static_cast<std::size_t>(size) * 512;
    return result;
}

DiskImageInfo parse_vmdk_descriptor(std::string_view text) {
    if (text.size() > kMaxVmdkDescriptorBytes)
        throw DiskImageError("the vmdk descriptor is too long");
    check_characters(text);
    DiskImageInfo info;
    std::uint64_t sectors = 0;
    while (!text.empty()) {
        const std::size_t newline = text.find('\n');
        std::string_view line = trim(text.substr(0, newline));
        text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
        if (line.empty() || line.front() == '#') continue;
        std::string_view rest = line;
        const std::string_view access = take_word(rest);
        if (iequals(access, "RW") || iequals(access, "RDONLY") || iequals(access, "NOACCESS")) {
            if (info.extents.size() == kMaxVmdkExtents) bad_descriptor("too many extents");
            DiskExtent extent = parse_extent(line);
            if (extent.sectors > kMaxSectors - sectors) bad_descriptor("total size");
            sectors += extent.sectors;
            if (!extent.path.empty()) info.extents.push_back(std::move(extent));
            continue;
        }
        const std::size_t equals = line.find('=');
        if (equals == std::string_view::npos)
            bad_descriptor("line " + msb::quoted(line.substr(0, 80)));
        check_parent(trim(line.substr(0, equals)), trim(line.substr(equals + 1)));
    }
    info.virtual_size = sectors * 512;
    return info;
}

}  // namespace msb::vmm
