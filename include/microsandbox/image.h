// OCI images on this machine: pulling, listing, removing, archives.
//
// Images are identified by the reference text they were asked for ("alpine", "docker.io/library/alpine:latest" and
// "alpine:latest" are three names that may share one image). Thread-safe; several processes may work on one cache.
// `operation is not supported` (Error{kUnsupported}) when the environment selects a cloud backend.
#pragma once

#include <microsandbox/error.h>
#include <microsandbox/export.h>
#include <microsandbox/logs.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microsandbox {

// When a registry is asked although the image may be in the cache.
enum class PullPolicy : std::uint8_t { kIfMissing, kAlways, kNever };

// What is made of the layers: one EROFS image each with a merged index (layered), one private ext4 file system to copy
// from (flat), or both.
enum class PullTarget : std::uint8_t { kLayered, kFlat, kAll };

// How to reach a registry and who we are to it. What is not said here comes from config.json `registries`, then Docker's
// configuration.
struct RegistryOptions {
    struct BasicAuth {
        std::string username, password;
    };
    std::optional<BasicAuth> basic_auth;
    bool anonymous = false;  // no credentials at all, whatever is configured
    bool insecure = false;   // plain HTTP to the image's registry
    // Certificates trusted in addition to the system's: PEM texts, and PEM files (read when used: Error{kCustom}
    // "failed to read CA certs from `P`: ...").
    std::vector<std::string> ca_certs;
    std::vector<std::filesystem::path> ca_cert_files;
};

// Progress of a pull, a load, or of a create that pulls (spec/images.md section 5).
struct PullEvent {
    enum class Kind : std::uint8_t {
        kResolving,  // reference
        kResolved,   // reference, manifest_digest, layer_count, total (known compressed bytes)
        kLayerDownloadProgress,     // layer_index, digest, bytes, total
        kLayerDownloadComplete,     // layer_index, digest, bytes
        kLayerMaterializeStarted,   // layer_index, diff_id
        kLayerMaterializeProgress,  // layer_index, bytes (compressed), total
        kLayerMaterializeWriting,   // layer_index
        kLayerMaterializeComplete,  // layer_index, diff_id
        kStitchMergingTrees,        // layer_count
        kStitchWritingFsmeta,
        kStitchWritingVmdk,
        kStitchComplete,
        kComplete,  // reference, layer_count
    };
    Kind kind = Kind::kResolving;
    std::string reference;
    std::string manifest_digest;
    std::string digest;
    std::string diff_id;
    std::size_t layer_index = 0;  // 0 is the bottom
    std::size_t layer_count = 0;
    std::uint64_t bytes = 0;
    std::optional<std::uint64_t> total;
};
// The stable camelCase name, e.g. "layerDownloadProgress".
MICROSANDBOX_API std::string_view to_string(PullEvent::Kind kind) noexcept;

// Called from several threads, one call at a time; must be quick. What it throws is dropped.
using PullProgress = std::function<void(const PullEvent&)>;

struct ImagePullOptions {
    bool force = false;  // make everything anew, whatever is cached
    PullPolicy policy = PullPolicy::kIfMissing;
    std::optional<PullTarget>
        target;  // unset: flat when config.json's default root disk is flat, else layered
    RegistryOptions registry;
    PullProgress progress;
};

// One reference in the list of images.
struct ImageInfo {
    std::string reference;  // as it was given
    std::optional<std::string> manifest_digest;
    std::optional<std::string> architecture, os;
    std::size_t layer_count = 0;
    std::optional<std::uint64_t> size_bytes;  // sum of the compressed layers
    std::optional<Timestamp> created_at;      // when this machine first had it
    std::optional<Timestamp> last_used_at;
};

// The parts of an image's configuration that sandboxes use.
struct ImageConfigInfo {
    std::string digest;
    std::vector<std::string> env;  // "KEY=VALUE"
    std::optional<std::vector<std::string>> entrypoint, cmd;
    std::optional<std::string> working_dir, user, stop_signal;
    std::map<std::string, std::string> labels;
};

struct ImageLayerInfo {
    std::size_t position = 0;  // 0 is the bottom
    std::string blob_digest;   // of what the registry served
    std::string diff_id;       // of the uncompressed archive
    std::optional<std::string> media_type;
    std::optional<std::uint64_t> compressed_size_bytes;
    std::optional<std::uint64_t> erofs_size_bytes;
};

struct ImageDetail {
    ImageInfo image;
    std::optional<ImageConfigInfo> config;
    std::vector<ImageLayerInfo> layers;  // bottom first
};

struct PulledImage {
    std::string reference;
    std::string manifest_digest;
    std::size_t layer_count = 0;
    bool cached = false;  // nothing had to be done and no registry was asked
};

struct ImagePruneReport {
    std::uint64_t image_refs_removed = 0;
    std::uint64_t manifests_removed = 0;
    std::uint64_t layers_removed = 0;
    std::uint64_t fsmeta_removed = 0;
    std::uint64_t vmdk_removed = 0;
    std::optional<std::uint64_t> bytes_reclaimed;  // unset when nothing was removed
};

enum class ArchiveFormat : std::uint8_t { kDocker, kOci };

class MICROSANDBOX_API Image {
  public:
    // Error{kCustom} with the texts of spec/images.md section 3.5, Error{kInvalidConfig} for faulty credentials,
    // Error{kCancelled}.
    static PulledImage pull(const std::string& reference, const ImagePullOptions& options = {},
                            std::stop_token stop = {});

    // Error{kImageNotFound} unless exactly this text was pulled or loaded.
    static ImageInfo get(const std::string& reference);
    static std::vector<ImageInfo> list();  // newest first
    static ImageDetail inspect(const std::string& reference);

    // Error{kImageInUse} "1, 2" (sandbox ids) while sandboxes that have booted use it; `force` skips that check, but the
    // last name of an image in use cannot be removed even so: Error{kDatabase}.
    static void remove(const std::string& reference, bool force = false);
    // Everything no sandbox and no snapshot uses.
    static ImagePruneReport prune();

    // Docker archives and OCI layouts, from a file (or with load_from(), from any descriptor, pipes included). `tags`
    // name the first image of the archive in addition to its own names. Error{kCustom}: spec/images.md section 16.1.
    static std::vector<ImageInfo> load(const std::filesystem::path& archive,
                                       const std::vector<std::string>& tags = {},
                                       const PullProgress& progress = {},
                                       std::stop_token stop = {});
    static std::vector<ImageInfo> load_from(int fd, const std::vector<std::string>& tags = {},
                                            const PullProgress& progress = {},
                                            std::stop_token stop = {});
    // Writes an archive; a file at `archive` is replaced only when everything has been written.
    static void save(const std::vector<std::string>& references,
                     const std::filesystem::path& archive,
                     ArchiveFormat format = ArchiveFormat::kDocker, std::stop_token stop = {});
    static void save_to(int fd, const std::vector<std::string>& references,
                        ArchiveFormat format = ArchiveFormat::kDocker, std::stop_token stop = {});
};

}  // namespace microsandbox
