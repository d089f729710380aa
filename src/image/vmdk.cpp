#include "image/vmdk.h"

#include <algorithm>

#include "base/error.h"

namespace msb::image {

namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kMaxExtentSectors = 4'194'304;  // 2 GiB: "twoGbMaxExtentFlat"
constexpr std::uint64_t kHeads = 16;
constexpr std::uint64_t kSectorsPerTrack = 63;

void append_extent(std::string& text, const VmdkExtent& extent) {
    const std::string& path = extent.path.native();
    if (path.find_first_of("\"\n\r") != std::string::npos)
        throw Error(ErrorCode::kImage,
                    "the path of a disk extent holds a quote or a line break, which a VMDK "
                    "descriptor cannot express: " +
                        path + "; move the cache (paths.cache) to another directory");
    if (extent.size % kSector != 0)
        throw Error(ErrorCode::kImage, "extent " + path + " size (" + std::to_string(extent.size) +
                                           ") is not 512-byte aligned");
    std::uint64_t sectors = extent.size / kSector;
    for (std::uint64_t start = 0; start < sectors; start += kMaxExtentSectors) {
        std::uint64_t count = std::min(kMaxExtentSectors, sectors - start);
        text += "RW " + std::to_string(count) + " FLAT \"" + path + "\" " + std::to_string(start) +
                "\n";
    }
}

}  // namespace

std::string vmdk_descriptor(std::span<const VmdkExtent> extents) {
    std::string text =
        "# Disk DescriptorFile\n"
        "version=1\n"
        "CID=fffffffe\n"
        "parentCID=ffffffff\n"
        "createType=\"twoGbMaxExtentFlat\"\n"
        "\n"
        "# Extent description\n";
    std::uint64_t sectors = 0;
    for (const VmdkExtent& extent : extents) {
        append_extent(text, extent);
        sectors += extent.size / kSector;
    }
    std::uint64_t per_cylinder = kHeads * kSectorsPerTrack;
    text +=
        "\n"
        "# The Disk Data Base\n"
        "#DDB\n"
        "ddb.virtualHWVersion = \"4\"\n"
        "ddb.geometry.cylinders = \"" +
        std::to_string((sectors + per_cylinder - 1) / per_cylinder) +
        "\"\n"
        "ddb.geometry.heads = \"16\"\n"
        "ddb.geometry.sectors = \"63\"\n"
        "ddb.adapterType = \"ide\"\n";
    return text;
}

}  // namespace msb::image
