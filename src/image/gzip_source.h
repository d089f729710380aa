// Inflates gzip (RFC 1952) with ISA-L, members one after the other, each checked against its CRC and length.
#pragma once

#include <memory>

#include "image/byte_source.h"

namespace msb::image {

// `source` is not owned. What follows the last member and does not begin like another one is padding, which is not read.
// read() throws Error{kImage} "damaged gzip data", "unexpected end of gzip data".
std::unique_ptr<ByteSource> inflate_gzip(ByteSource& source);

}  // namespace msb::image
