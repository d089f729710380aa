// Archives that are compressed as a whole: gzip, zstd, xz, bzip2, as `docker load` takes them. (Layers are another matter:
// streams.h.)
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "image/byte_source.h"

namespace msb::image {

inline constexpr std::size_t kArchiveMagicBytes = 10;  // as many first bytes tell

bool is_compressed_archive(std::span<const std::byte> head);

// Unpacks `source` (not owned) as its first bytes `head` say; `source` gives them too. What is not compressed passes
// through. read() throws Error{kImage} when the stream is damaged or ends early.
std::unique_ptr<ByteSource> unpack_archive(ByteSource& source, std::span<const std::byte> head);

}  // namespace msb::image
