// Images in files: docker-archives and OCI layouts, as tars (spec/images.md section 16).
//
// Archives are hostile. Nothing of them reaches the host's file system but layer images in the cache, under the digest
// that their content was found to have. Rows of the database are the caller's.
#pragma once

#include <microsandbox/image.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "image/cache.h"
#include "image/manifest.h"
#include "image/pull.h"

namespace msb::image {

using microsandbox::ArchiveFormat;

// ---- load

inline constexpr std::uint64_t kMaxArchiveMetadata = 16 << 20;  // of one manifest, index, config
inline constexpr std::uint64_t kMaxArchiveLayer = std::uint64_t{10} << 30;  // as stored
inline constexpr std::size_t kMaxArchiveMembers = 1'000'000;
inline constexpr std::size_t kMaxIndexNesting = 32;
inline constexpr std::size_t kMaxNestedIndexes = 1024;
// Ours; upstream bounds none of these.
inline constexpr std::size_t kMaxArchiveImages = 1024;
inline constexpr std::uint64_t kMaxArchiveDocuments = 256 << 20;  // metadata of all images
inline constexpr std::size_t kMaxImageReferences = 256;  // of one image: each is a lock held
inline constexpr std::size_t kMaxMemberPath = 4096;
inline constexpr std::size_t kMaxMemberPaths = 64 << 20;  // sum of all members' path lengths
inline constexpr std::uint64_t kMaxSpooledArchive = std::uint64_t{64} << 30;

struct LoadOptions {
    std::vector<std::string> tags;  // name the archive's first image, in addition to its own names
    // kLayerMaterialize* and kStitch* only. layer_index and layer_count are those of the image being loaded (images of
    // one archive come one after the other); a layer that is cached already sends kLayerMaterializeComplete alone.
    PullEventSink events;
    std::stop_token stop;
};

// One reference that an archive brought: its metadata file is written and the image is complete for layered roots.
struct LoadedReference {
    std::string reference;  // the text as the archive or the tag gave it; what the database stores
    std::shared_ptr<const CachedImage> image;  // shared between the references of one image
    bool cached = false;  // it was complete under this name: no layer has been read for it
};

// Reads an archive from `input`, which is not closed: a regular file from its offset on, read in place and in parallel;
// or anything that can be read once (pipe, socket, terminal), kept in an unnamed file of the cache meanwhile. The archive
// may be compressed as a whole with gzip, zstd, xz or bzip2 (upstream takes plain ones only); it is unpacked into such a
// file too.
// A pipe is read to its end.
//
// The result is in the manifest's order, then by reference; at least one. Layers that are in the cache are not made
// again; loads of one image wait for each other and the second finds it done. Images become visible one after the
// other, each with all its references; on failure those before the faulty one stay. A faulty index, config or name is
// found before anything is made.
//
// Throws, with code kCustom and the whole text:
//   "archive entry ...", "manifest parse error: ...", "config parse error: ...": the table of section 16.1;
//   "materialization failed for layer DIFFID: ...", "digest mismatch for layer DIFFID: ...": section 3.5;
//   "cannot read the archive: ..." when the tar or its compression is damaged;
//   "cache error at PATH: ...";
// and Error{kCancelled} after `stop`.
std::vector<LoadedReference> load_archive(const Cache& cache, int input,
                                          const LoadOptions& options);
// The file at `path`; "cache error at PATH: <os error>" when it cannot be opened, as upstream says.
std::vector<LoadedReference> load_archive(const Cache& cache, const std::filesystem::path& path,
                                          const LoadOptions& options);

// ---- save

struct ImageToSave {
    std::string reference;  // written to the archive exactly so
    CachedImage image;
};

// The images of these names, in this order, from their metadata files. Throws Error{kCustom}
// "invalid image reference 'R': ...", Error{kImageNotFound} "R" (read: "image not found: R").
std::vector<ImageToSave> find_images_to_save(const Cache& cache,
                                             std::span<const std::string> references);

// Writes an archive to `output`, front to back, so that it may be a pipe. Layers come from the layer images in the
// cache, uncompressed, each distinct one once; the same images always give the same bytes. Two passes over the layers,
// no work files.
// Throws Error{kImage} "cache error at PATH: ..." (read: "image error: cache error at PATH: ...") when a layer is
// missing or `output` fails ("write archive: ..."), Error{kCustom} "config parse error: ..." when a stored config is no
// JSON object, Error{kCancelled}.
void save_archive(const Cache& cache, std::span<const ImageToSave> images, ArchiveFormat format,
                  int output, std::stop_token stop = {});
// To a file that is replaced, or made, only when the whole archive is written; what exists there and is no regular file
// (/dev/stdout, a fifo) is written to directly. Faults of the file: Error{kImage} "cache error at PATH: ...".
void save_archive(const Cache& cache, std::span<const ImageToSave> images, ArchiveFormat format,
                  const std::filesystem::path& output, std::stop_token stop = {});

}  // namespace msb::image
