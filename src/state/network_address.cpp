#include "state/network_address.h"

#include <arpa/inet.h>

#include <array>
#include <cstdint>
#include <cstdio>

#include "base/text.h"

namespace msb::state {

namespace {

constexpr unsigned kIpv4Bits = 32;
constexpr unsigned kIpv6Bits = 128;

std::optional<std::string> ipv4(const std::string& text) {
    in_addr address{};
    if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
    char buffer[INET_ADDRSTRLEN];
    return std::string(::inet_ntop(AF_INET, &address, buffer, sizeof buffer));
}

std::string format_ipv6(const in6_addr& address) {
    std::array<unsigned, 8> groups{};
    for (std::size_t i = 0; i < groups.size(); ++i)
        groups[i] = unsigned{address.s6_addr[2 * i]} << 8 | address.s6_addr[2 * i + 1];
    // The longest run of zero groups, the first of equals; a single zero is not compressed.
    std::size_t start = 8, length = 1;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        std::size_t end = i;
        while (end < groups.size() && groups[end] == 0)
            ++end;
        if (end - i > length) {
            start = i;
            length = end - i;
        }
    }
    std::string text;
    char group[8];
    for (std::size_t i = 0; i < groups.size(); ++i) {
        if (i == start) {
            text += "::";
            i += length - 1;
            continue;
        }
        if (!text.empty() && !text.ends_with(':')) text += ':';
        std::snprintf(group, sizeof group, "%x", groups[i]);
        text += group;
    }
    return text;
}

std::optional<std::string> ipv6(const std::string& text) {
    in6_addr address{};
    if (::inet_pton(AF_INET6, text.c_str(), &address) != 1) return std::nullopt;
    if (!IN6_IS_ADDR_V4MAPPED(&address)) return format_ipv6(address);
    char buffer[INET6_ADDRSTRLEN];
    return std::string(::inet_ntop(AF_INET6, &address, buffer, sizeof buffer));
}

}  // namespace

std::optional<std::string> normalize_address(std::string_view view, AddressFamily family) {
    const std::string text(view);
    if (text.find('\0') != std::string::npos) return std::nullopt;
    if (family != AddressFamily::kIpv6) {
        if (auto address = ipv4(text)) return address;
    }
    if (family != AddressFamily::kIpv4) return ipv6(text);
    return std::nullopt;
}

std::optional<std::string> normalize_range(std::string_view text, AddressFamily family) {
    const std::size_t slash = text.find('/');
    const auto address = normalize_address(text.substr(0, slash), family);
    if (!address) return std::nullopt;
    const unsigned bits = address->find(':') == std::string::npos ? kIpv4Bits : kIpv6Bits;
    if (slash == std::string_view::npos) return *address + "/" + std::to_string(bits);
    const auto prefix = parse_integer<std::uint8_t>(text.substr(slash + 1));
    if (!prefix || *prefix > bits) return std::nullopt;
    return *address + "/" + std::to_string(*prefix);
}

}  // namespace msb::state
