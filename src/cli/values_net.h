// The grammars of the network flags (spec/cli.md section 3). This build checks them and then refuses the flags by name,
// because it has no network yet; the values are what the network configuration will be made from.
// Errors as in values.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::cli {

// PORT: "[BIND:]HOST:GUEST[/tcp|/udp]".
struct PortValue {
    std::string bind = "127.0.0.1";
    std::uint16_t host = 0;
    std::uint16_t guest = 0;
    bool udp = false;
};
PortValue parse_port(std::string_view text);

// VSOCK: "/ABS:PORT[/stream|/dgram]".
struct VsockValue {
    std::string path;
    std::uint32_t port = 0;
    bool datagram = false;
};
VsockValue parse_vsock(std::string_view text);

// RATE: "V[/DURMS]", V in bytes or packets; `flag` is named in errors.
struct RateValue {
    std::uint64_t amount = 0;
    std::chrono::milliseconds interval{1000};
};
RateValue parse_bandwidth(std::string_view text, std::string_view flag);
RateValue parse_ops(std::string_view text, std::string_view flag);

// --net, all occurrences.
struct NetProfiles {
    bool all = false;
    bool none = false;
    bool public_net = false;
    bool private_net = false;
    bool host = false;
};
NetProfiles parse_net_profiles(const std::vector<std::string>& values);

// --net-default and its one-sided forms: true = allow.
bool parse_net_default(std::string_view text, std::string_view flag);

// One token of --net-rule.
struct NetRule {
    enum class Direction : std::uint8_t { kEgress, kIngress, kAny };
    enum class Target : std::uint8_t { kAny, kDns, kGroup, kCidr, kDomain, kSuffix };
    bool allow = false;
    Direction direction = Direction::kEgress;
    Target target = Target::kAny;
    std::string name;                       // group, address or CIDR, domain
    std::string protocol;                   // "any", "tcp", "udp", "icmpv4", "icmpv6"
    std::optional<std::uint16_t> port_low;  // unset: every port
    std::optional<std::uint16_t> port_high;
};
// A comma list; empty parts are skipped.
std::vector<NetRule> parse_net_rules(std::string_view text);

// --secret "ENV@HOST[,HOST...]".
struct SecretValue {
    std::string variable;
    std::vector<std::string> hosts;
};
SecretValue parse_secret(std::string_view text);

// --dns-nameserver: IP, IP:PORT, HOST or HOST:PORT, as written.
std::string parse_nameserver(std::string_view text);

// --proxy: true = SOCKS5.
struct ProxyValue {
    bool socks5 = false;
    std::string address;  // "IP:PORT"
};
ProxyValue parse_proxy(std::string_view text);

// --net-ipv4-pool, --net-ipv6-pool: the CIDR with its prefix length.
std::string parse_pool(std::string_view text, bool v6);

// --tls-upstream-ca-cert-for "PATTERN=PATH".
std::pair<std::string, std::string> parse_scoped_ca(std::string_view text);

}  // namespace msb::cli
