// The image cache and the image rows, kept in step (spec/images.md sections 3.2, 4, 6 and 17).
#pragma once

#include <microsandbox/image.h>

#include <string>
#include <vector>

#include "base/file_lock.h"
#include "image/cache.h"
#include "image/pull.h"
#include "sdk/local_backend.h"
#include "sdk/wait.h"

namespace msb::sdk {

// Throws Error{kCustom} "cache error at PATH: ...".
image::Cache open_image_cache(const LocalBackend& backend);

// Held shared from before artifacts are looked at until rows protect them, exclusively while artifacts are deleted: a
// removal waits for pulls, loads and creates, and they for it. Ours; upstream's processes do not know it.
FileLock use_images(const image::Cache& cache);

// The layers as a sandbox boots them: kFlat for a flat root disk, else kLayered.
microsandbox::PullTarget default_pull_target(const LocalBackend& backend);

// Credentials, certificates and insecure hosts from config.json and `registry`, for one reference.
image::PullOptions pull_options(const LocalBackend& backend, const image::Reference& reference,
                                const microsandbox::RegistryOptions& registry);

// Pulls and records the rows; a database that fails is only logged, as the image is there. The caller holds use_images().
image::PulledImage pull_image(LocalBackend& backend, const image::Cache& cache,
                              const std::string& reference, image::PullOptions options);

// Upserts the rows of a cached image under `reference`. Throws Error{kDatabase}.
void record_cached_image(LocalBackend& backend, const std::string& reference,
                         const image::CachedImage& image);

// Deletes rows and, for what no row names any more, files. See Image::remove.
void remove_image(LocalBackend& backend, const std::string& reference, bool force);
microsandbox::ImagePruneReport prune_images(LocalBackend& backend);

}  // namespace msb::sdk
