// Flat root file systems: an image's merged layers as one ext4 file, and private copies of it (spec/images.md section 13).
//
// The shared artifact lives in the cache under the hash of its content (flat/blobs) and is named by a reference per
// manifest (flat/refs). A sandbox boots a clone of it, grown to the wanted size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "image/cache.h"
#include "image/ext4_format.h"
#include "image/pull.h"

namespace msb::image {

inline constexpr std::uint32_t kFlatSchema = 1;
inline constexpr std::uint32_t kFlatMaterializerAbi = 2;
inline constexpr std::uint32_t kDefaultFlatRootDiskMib = 4096;

// "sha256:<hex>": names the artifact before it exists; its first 16 bytes become the UUID.
std::string flat_derivation_digest(std::string_view manifest_digest,
                                   std::span<const std::string> diff_ids);
Ext4Uuid flat_uuid(std::string_view derivation_digest);

// flat/refs/<man>.json
struct FlatReference {
    std::string manifest_digest;
    std::string derivation_digest;
    std::string artifact_digest;
    std::uint32_t materializer_abi = kFlatMaterializerAbi;
    std::string uuid;  // 32 hex digits
    std::uint64_t virtual_size_bytes = 0;
    std::uint64_t inode_count = 0;
    std::uint64_t content_bytes = 0;

    bool operator==(const FlatReference&) const = default;
};
std::string write_flat_reference(const FlatReference& reference);
// nullopt when the text is no complete record of schema 1.
std::optional<FlatReference> read_flat_reference(std::string_view text);

// The artifact of an image, if the cache holds a usable one (right ABI, derivation and file size).
std::optional<FlatReference> find_flat(const Cache& cache, const std::string& manifest_digest,
                                       std::span<const std::string> diff_ids);

// What pull() uses for PullTarget::kFlat and kAll. Stateless and thread-safe.
class FlatMaterializer : public FlatComposer {
  public:
    bool complete(const Cache& cache, const std::string& manifest_digest,
                  std::span<const std::string> diff_ids) const override;
    void compose(const Cache& cache, const std::string& manifest_digest,
                 std::span<const std::string> diff_ids, bool force,
                 std::stop_token stop) const override;
};

enum class CloneMode : std::uint8_t {
    kAuto,     // a reflink where the file system can, else a sparse copy
    kCopy,     // a sparse copy
    kReflink,  // a reflink or an error
};

// The size a flat root gets: the requested one, else max(4096, the image's own), in MiB.
// Throws Error{kInvalidConfig} "flat root disk must be at least N MiB for this image (requested M MiB)".
std::uint32_t flat_size_mib(const FlatReference& reference, std::optional<std::uint32_t> requested);

// Makes the private instance `path` (`<sandbox dir>/rootfs.raw`) of the image's artifact: cloned into `<path>.part`,
// grown, fsynced, renamed. Throws Error{kCustom} "flat rootfs requested clone=reflink, but the clone failed: <os error>",
// "failed to grow flat rootfs: <reason>", "cache error at PATH: ...".
void create_flat_root(const Cache& cache, const FlatReference& reference,
                      const std::filesystem::path& path, std::uint32_t size_mib, CloneMode mode);

// As grow_upper(): before each start and at `modify`. Throws Error{kCustom} "failed to grow flat rootfs: <reason>".
bool grow_flat_root(const std::filesystem::path& path, std::uint32_t size_mib);

}  // namespace msb::image
