// From a tar stream to the tree of one layer (spec/images.md section 7).
//
// File contents go to a spool file as they come; the tree remembers where. Nothing is ever unpacked to the host's file
// system.
#pragma once

#include "image/byte_source.h"
#include "image/file_tree.h"

namespace msb::image {

inline constexpr std::uint64_t kMaxLayerBytes = std::uint64_t{10} << 30;
inline constexpr std::uint64_t kMaxFileBytes = std::uint64_t{5} << 30;
inline constexpr std::uint64_t kMaxLayerEntries = 1'000'000;
inline constexpr std::size_t kMaxPathLength = 4096;
inline constexpr std::size_t kMaxPathDepth = 128;
inline constexpr std::size_t kMaxNameLength = 255;
inline constexpr std::size_t kMaxSymlinkTarget = 4096;

// Reads the archive to its end mark. `spool` is an empty file open for reading and writing; sparse files leave holes.
// Throws Error{kImage} with the texts of section 7, without the "tar ingestion failed: " in front.
FileTree ingest_layer(ByteSource& tar, int spool);

}  // namespace msb::image
