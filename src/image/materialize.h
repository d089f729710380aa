// From the bytes of an image's layers to the files a sandbox boots from: layer images, fsmeta, VMDK.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "image/cache.h"
#include "image/streams.h"

namespace msb::image {

// Of a layer uncompressed: what its files may hold (layer_ingest.h), and as much again for headers, padding and the tail.
inline constexpr std::uint64_t kMaxLayerStream = std::uint64_t{20} << 30;

// Makes layers/<diff>.erofs from a layer's blob. The caller holds the layer's lock. The uncompressed stream is read to
// its end and must hash to `diff_id`; nothing is published otherwise.
// Throws Error{kCustom} "materialization failed for layer DIFFID: tar ingestion failed: ...",
// "... EROFS write failed: ...", "digest mismatch for layer DIFFID: expected ..., got ...".
// `writing` is called once, between reading the archive and writing the image.
void materialize_layer(const Cache& cache, std::string_view diff_id, ByteSource& blob,
                       Compression compression, const std::function<void()>& writing = {});

// What stitching is doing, for progress events.
enum class StitchStep { kMergingTrees, kWritingFsmeta, kWritingVmdk };

// Makes fsmeta/<man>.erofs and vmdk/<man>.vmdk from cached layer images, bottom first. The caller holds the
// composition's lock. Publishes fsmeta before the VMDK.
// Throws Error{kCustom} "materialization failed for layer <manifest digest>: fsmeta write failed: ...", "... VMDK ...".
void compose_layers(const Cache& cache, std::string_view manifest_digest,
                    std::span<const std::string> diff_ids,
                    const std::function<void(StitchStep)>& progress = {});

// Only the descriptor, from artifacts that are all there.
void write_vmdk(const Cache& cache, std::string_view manifest_digest,
                std::span<const std::string> diff_ids);

// Whether a sandbox can boot: every layer image and fsmeta valid, and the VMDK there.
bool layered_artifacts_complete(const Cache& cache, std::string_view manifest_digest,
                                std::span<const std::string> diff_ids);

}  // namespace msb::image
