// OCI and Docker image documents: index, manifest, config (spec/images.md section 3.3), and the cache's own record of
// an image (section 6). All of them come from registries and archives and are hostile.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::image {

inline constexpr std::string_view kOciManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndexType = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kDockerManifestType =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerListType =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kOciConfigType = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciLayerType = "application/vnd.oci.image.layer.v1.tar";

// Upstream bounds none of these; a registry may not make us hold more.
inline constexpr std::size_t kMaxManifestBytes = 16 << 20;
inline constexpr std::size_t kMaxConfigBytes = 16 << 20;
inline constexpr std::size_t kMaxLayers = 1024;
inline constexpr std::size_t kMaxIndexEntries = 1024;

struct Platform {
    std::string architecture;
    std::string os;
    bool operator==(const Platform&) const = default;
};
// linux and amd64 or arm64.
Platform host_platform();

struct Descriptor {
    std::string media_type;
    std::string digest;
    std::uint64_t size = 0;
    std::optional<Platform> platform;
    std::map<std::string, std::string> annotations;
    std::vector<std::string> urls;
};

struct Manifest {
    Descriptor config;
    std::vector<Descriptor> layers;
    std::string raw;  // the exact bytes
    std::string
        canonical;  // re-serialised in upstream's key order: "raw_manifest_json" of pulled images
};

struct Index {
    std::vector<Descriptor> manifests;
};

// What the text is, by "mediaType" or by shape.
bool is_index(std::string_view text);
// Throw Error{kCustom} "registry error: Unsupported schema version: N", "... Unsupported media type: T",
// "... Failed to parse manifest: ...", "manifest parse error: ...".
Manifest parse_manifest(std::string_view text);
Index parse_index(std::string_view text);
// The entry for the host's platform, attestations passed over; nullptr when there is none.
const Descriptor* select_platform(const Index& index);

// The parts of an image's config that sandboxes use. Absent lists are nullopt only where the difference matters.
struct ImageConfig {
    std::vector<std::string> env;
    std::optional<std::vector<std::string>> cmd;
    std::optional<std::vector<std::string>> entrypoint;
    std::optional<std::string> working_dir;
    std::optional<std::string> user;
    std::vector<std::string> exposed_ports;
    std::vector<std::string> volumes;
    std::vector<std::pair<std::string, std::string>> labels;  // sorted by key
    std::optional<std::string> stop_signal;
    bool operator==(const ImageConfig&) const = default;
};

struct ConfigDocument {
    std::string raw;  // the exact text
    std::string architecture;
    std::string os;
    std::vector<std::string> diff_ids;
    ImageConfig config;
};
// Throws Error{kCustom} "config parse error: failed to parse image config: ...",
// "manifest parse error: invalid diff_id at layer I: S".
ConfigDocument parse_config(std::string_view text);

// One layer as the cache records it.
struct CachedLayer {
    std::string digest;  // of the blob
    std::optional<std::string> media_type;
    std::optional<std::uint64_t> size_bytes;
    std::string diff_id;
    bool operator==(const CachedLayer&) const = default;
};

// manifests/<key>.json
struct CachedImage {
    std::string manifest_digest;
    std::string config_digest;
    std::string raw_manifest_json;
    std::string raw_config_json;
    ImageConfig config;
    std::vector<CachedLayer> layers;  // bottom first
    bool operator==(const CachedImage&) const = default;
};
std::string write_cached_image(const CachedImage& image);
// nullopt when the text is not a complete record: it counts as absent.
std::optional<CachedImage> read_cached_image(std::string_view text);

// "layer count mismatch: config has A diff_ids but manifest has B layers"
void check_layer_count(const ConfigDocument& config, std::size_t layers, std::string_view where);

}  // namespace msb::image
