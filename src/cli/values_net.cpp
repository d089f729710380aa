#include "cli/values_net.h"

#include <arpa/inet.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

bool is_address(std::string_view text, int family) {
    unsigned char bytes[sizeof(in6_addr)];
    return ::inet_pton(family, std::string(text).c_str(), bytes) == 1;
}
bool is_ip(std::string_view text) {
    return is_address(text, AF_INET) || is_address(text, AF_INET6);
}

// "IP:PORT" with "[v6]:PORT".
bool is_socket_address(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos || !parse_integer<std::uint16_t>(text.substr(colon + 1)))
        return false;
    auto host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']'))
        return is_address(host.substr(1, host.size() - 2), AF_INET6);
    return is_address(host, AF_INET);
}

}  // namespace

PortValue parse_port(std::string_view text) {
    static const std::string form =
        "port must be in format HOST:GUEST[/udp] or BIND_ADDR:HOST:GUEST[/udp]";
    PortValue port;
    std::string_view rest = text;
    if (rest.ends_with("/udp")) {
        port.udp = true;
        rest.remove_suffix(4);
    } else if (rest.ends_with("/tcp")) {
        rest.remove_suffix(4);
    }
    std::vector<std::string_view> parts;
    if (rest.starts_with('[')) {
        const auto close = rest.find("]:");
        if (close == std::string_view::npos)
            fail_value("IPv6 port bind must be in format [ADDR]:HOST:GUEST[/udp]");
        parts = split(rest.substr(close + 2), ':');
        parts.insert(parts.begin(), rest.substr(1, close - 1));
        if (parts.size() != 3) fail_value(form);
    } else {
        parts = split(rest, ':');
    }
    if (parts.size() < 2 || parts.size() > 3) fail_value(form);
    if (parts.size() == 3) {
        if (!is_ip(parts[0])) fail_value("invalid bind address: " + std::string(parts[0]));
        port.bind = parts[0];
        parts.erase(parts.begin());
    }
    const auto host = parse_integer<std::uint16_t>(parts[0]);
    if (!host) fail_value("invalid host port: " + std::string(parts[0]));
    const auto guest = parse_integer<std::uint16_t>(parts[1]);
    if (!guest) fail_value("invalid guest port: " + std::string(parts[1]));
    port.host = *host;
    port.guest = *guest;
    return port;
}

VsockValue parse_vsock(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos)
        fail_value("--vsock must use HOST_PATH:PORT[/stream|/dgram], got " + quoted(text));
    VsockValue vsock{.path = std::string(text.substr(0, colon))};
    auto port = text.substr(colon + 1);
    if (const auto slash = port.find('/'); slash != std::string_view::npos) {
        const auto type = port.substr(slash + 1);
        if (type != "stream" && type != "dgram")
            fail_value("--vsock socket type must be stream or dgram, got " + quoted(type));
        vsock.datagram = type == "dgram";
        port = port.substr(0, slash);
    }
    if (!vsock.path.starts_with('/'))
        fail_value("--vsock host path must be absolute, got " + vsock.path);
    const auto number = parse_integer<std::uint32_t>(port);
    if (!number) fail_value("--vsock port must be an unsigned 32-bit integer, got " + quoted(port));
    vsock.port = *number;
    return vsock;
}

namespace {

template <class Amount>
RateValue parse_rate(std::string_view text, std::string_view flag, Amount&& amount) {
    const auto slash = text.find('/');
    RateValue rate;
    if (slash != std::string_view::npos)
        rate.interval = parse_milliseconds(text.substr(slash + 1), flag);
    try {
        rate.amount = amount(text.substr(0, slash));
    } catch (const Error& error) {
        fail_value(std::string(flag) + ": " + error.what());
    }
    return rate;
}

}  // namespace

RateValue parse_bandwidth(std::string_view text, std::string_view flag) {
    return parse_rate(text, flag, [](std::string_view amount) { return parse_bytes(amount); });
}

RateValue parse_ops(std::string_view text, std::string_view flag) {
    return parse_rate(text, flag, [](std::string_view amount) {
        if (const auto count = parse_integer<std::uint64_t>(amount)) return *count;
        fail_value(std::string(parse_integer_error<std::uint64_t>(amount)));
    });
}

NetProfiles parse_net_profiles(const std::vector<std::string>& values) {
    NetProfiles profiles;
    for (const auto& value : values) {
        for (auto part : split(value, ',')) {
            part = trim(part);
            if (part.empty())
                fail_value("empty --net profile; expected public, private, host, all, or none");
            bool* profile = part == "public"    ? &profiles.public_net
                            : part == "private" ? &profiles.private_net
                            : part == "host"    ? &profiles.host
                            : part == "all"     ? &profiles.all
                            : part == "none"    ? &profiles.none
                                                : nullptr;
            if (!profile)
                fail_value("unknown --net profile " + quoted(part) +
                           "; expected public, private, host, all, or none");
            *profile = true;
        }
    }
    if (profiles.all && profiles.none)
        fail_value("--net terminal profiles `all` and `none` cannot be combined");
    const bool composable = profiles.public_net || profiles.private_net || profiles.host;
    if (composable && (profiles.all || profiles.none))
        fail_value(std::string("--net `") + (profiles.all ? "all" : "none") +
                   "` cannot be combined with public, private, or host");
    return profiles;
}

bool parse_net_default(std::string_view text, std::string_view flag) {
    if (text == "allow" || text == "deny") return text == "allow";
    fail_value("unknown " + std::string(flag) + " value " + quoted(text) +
               "; expected `allow` or `deny`");
}

SecretValue parse_secret(std::string_view text) {
    if (text.find('=') != std::string_view::npos)
        fail_value(
            "inline secret values (`A=VALUE@HOST`) are not supported by `create`: the value would "
            "be stored in the sandbox "
            "config at rest. Export the value as a host environment variable and reference it with "
            "`A@HOST` instead, which "
            "is resolved from the environment at start time.");
    const auto at = text.rfind('@');
    if (at == std::string_view::npos) fail_value("secret must be in format ENV@HOST[,HOST...]");
    SecretValue secret{.variable = std::string(text.substr(0, at))};
    for (auto host : split(text.substr(at + 1), ','))
        if (!trim(host).empty()) secret.hosts.emplace_back(trim(host));
    if (secret.variable.empty() || secret.hosts.empty())
        fail_value("secret must be in format ENV@HOST[,HOST...] (all parts required)");
    return secret;
}

std::string parse_nameserver(std::string_view text) {
    const auto valid_host = [](std::string_view host) {
        return !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) {
            return std::isalnum(c) || c == '.' || c == '-' || c == '_';
        });
    };
    if (is_ip(text) || is_socket_address(text) || valid_host(text)) return std::string(text);
    const auto colon = text.rfind(':');
    if (colon != std::string_view::npos && valid_host(text.substr(0, colon)) &&
        parse_integer<std::uint16_t>(text.substr(colon + 1)))
        return std::string(text);
    fail_value("invalid nameserver " + quoted(text) + "; expected IP, IP:PORT, HOST, or HOST:PORT");
}

ProxyValue parse_proxy(std::string_view text) {
    const auto scheme_end = text.find("://");
    if (scheme_end == std::string_view::npos)
        fail_value(
            "outbound proxy URI must include a protocol, for example socks5://127.0.0.1:1080");
    const auto scheme = text.substr(0, scheme_end);
    if (scheme != "socks4" && scheme != "socks5")
        fail_value("unsupported outbound proxy protocol " + quoted(scheme) +
                   "; supported protocols are socks4:// and socks5://");
    const auto address = text.substr(scheme_end + 3);
    if (address.find('@') != std::string_view::npos)
        fail_value("outbound proxy credentials are not supported in the URI");
    if (address.find_first_of("/?#") != std::string_view::npos)
        fail_value("outbound proxy URI must not include a path, query, or fragment");
    ProxyValue proxy{scheme == "socks5", std::string(address)};
    if (!is_socket_address(address))
        fail_value(std::string("invalid ") + (proxy.socks5 ? "SOCKS5" : "SOCKS4") +
                   " proxy address " + quoted(address) + ": invalid socket address syntax");
    return proxy;
}

std::string parse_pool(std::string_view text, bool v6) {
    const auto slash = text.find('/');
    if (!is_address(text.substr(0, slash), v6 ? AF_INET6 : AF_INET))
        fail_value(std::string("invalid address: invalid ") + (v6 ? "IPv6" : "IPv4") +
                   " address syntax");
    const unsigned widest = v6 ? 128 : 32;
    unsigned prefix = widest;
    if (slash != std::string_view::npos) {
        const auto parsed = parse_integer<unsigned>(text.substr(slash + 1));
        if (!parsed || *parsed > widest) fail_value("invalid prefix");
        prefix = *parsed;
    }
    const std::string cidr = std::string(text.substr(0, slash)) + "/" + std::to_string(prefix);
    const unsigned smallest = v6 ? 64 : 30;  // a sandbox takes a /30 or a /64
    if (prefix > smallest)
        fail_value(std::string("network builder: invalid ") + (v6 ? "IPv6" : "IPv4") + " pool `" +
                   cidr + "`: prefix must be /" + std::to_string(smallest) + " or shorter");
    return cidr;
}

std::pair<std::string, std::string> parse_scoped_ca(std::string_view text) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size())
        fail_value("scoped upstream CA must be in format PATTERN=PATH");
    return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

}  // namespace msb::cli
