// From a reference to an image in the cache (spec/images.md sections 4 and 5).
#pragma once

#include <microsandbox/image.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "image/cache.h"
#include "image/credentials.h"
#include "image/manifest.h"
#include "image/reference.h"
#include "image/registry_client.h"

namespace msb::image {

using microsandbox::PullEvent;
using microsandbox::PullPolicy;
using microsandbox::PullTarget;

inline constexpr std::uint64_t kProgressStep =
    256 * 1024;  // bytes between two progress events of a layer

// Called from several threads, one at a time; must not wait. What it throws is dropped.
using PullEventSink = microsandbox::PullProgress;

// Makes flat root file systems (section 13). Implementations are thread-safe and take their own locks.
class FlatComposer {
  public:
    virtual ~FlatComposer() = default;
    // Whether a flat reference with our materializer ABI and the right derivation exists.
    virtual bool complete(const Cache& cache, const std::string& manifest_digest,
                          std::span<const std::string> diff_ids) const = 0;
    // All layer images are in the cache. Throws Error{kCustom} "materialization failed for layer <manifest digest>:
    // flat ext4 materialization failed: ...".
    virtual void compose(const Cache& cache, const std::string& manifest_digest,
                         std::span<const std::string> diff_ids, bool force,
                         std::stop_token stop) const = 0;
};

struct PullOptions {
    PullPolicy policy = PullPolicy::kIfMissing;
    bool force = false;
    PullTarget target = PullTarget::kLayered;
    CredentialSources credentials;
    std::vector<std::string> ca_certificates;  // PEM texts, config's first
    std::set<std::string> insecure_hosts;      // exact host[:port] of the API host
    HttpTimeouts timeouts;
    RetryPolicy retry;
    const FlatComposer* flat = nullptr;  // kFlat and kAll need it
    PullEventSink events;
    std::stop_token stop;
};

struct PulledImage {
    CachedImage image;
    bool cached = false;  // nothing had to be done, nobody was contacted
};

// Throws Error{kCustom} with the texts of section 3.5, Error{kInvalidConfig} for faulty credentials, Error{kCancelled}.
PulledImage pull(const Cache& cache, const Reference& reference, const PullOptions& options);

// The image if it is complete for `target` (a cache hit), without contacting anybody.
std::optional<CachedImage> find_cached_image(const Cache& cache, const Reference& reference,
                                             PullTarget target, const FlatComposer* flat);

inline constexpr std::size_t kMaxCaBytes = 16 << 20;
// A PEM file of `registries.ca_certs` (code kInvalidConfig) or `--ca-certs` (code kCustom); throws Error{code} "failed to
// read CA certs from `P`: ...".
std::string read_ca_certificates(const std::filesystem::path& path, ErrorCode code);

}  // namespace msb::image
