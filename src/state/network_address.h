// Private to state: IP addresses and ranges in documents, read strictly and written in one form (that of Rust's std::net,
// which is RFC 5952), so that documents rewritten by either implementation are the same.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace msb::state {

enum class AddressFamily { kIpv4, kIpv6, kAny };

// "FD00::0001" -> "fd00::1"; nullopt when it is no address of the family.
std::optional<std::string> normalize_address(std::string_view text, AddressFamily family);
// "10.0.0.1" -> "10.0.0.1/32", "FD00::/8" -> "fd00::/8"; host bits are kept.
std::optional<std::string> normalize_range(std::string_view text, AddressFamily family);

}  // namespace msb::state
