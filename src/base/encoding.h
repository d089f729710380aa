// Base64 and hexadecimal text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace msb {

enum class Base64 { kStandardPadded, kUrlUnpadded };
std::string base64_encode(std::string_view data, Base64 form = Base64::kStandardPadded);
std::optional<std::string> base64_decode(std::string_view text,
                                         Base64 form = Base64::kStandardPadded);
std::string hex(std::string_view data);

// Replaces every maximal invalid subsequence by U+FFFD (what Rust's from_utf8_lossy does).
std::string utf8_lossy(std::string_view bytes);
bool is_utf8(std::string_view bytes);

}  // namespace msb
