// Digests used for names on disk and for content (OpenSSL).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace msb {

std::string sha256_hex(std::string_view data);  // 64 lowercase hex digits
std::uint64_t fnv1a64(std::string_view data);   // metrics shared-memory name

}  // namespace msb
