// --net-rule: "<action>[:<direction>]@<target>[:<proto>[:<ports>]]".
#include <arpa/inet.h>

#include <algorithm>

#include "base/text.h"
#include "cli/suggest.h"
#include "cli/values.h"
#include "cli/values_net.h"

namespace msb::cli {

namespace {

using Words = std::vector<std::string_view>;

constexpr std::size_t kTypo = 2;         // edit distance of "Did you mean"
constexpr std::size_t kMaxLabel = 63;    // bytes of a DNS label
constexpr std::size_t kMaxDomain = 253;  // bytes of a domain name
constexpr std::string_view kGroups[] = {"public", "private",   "loopback", "link-local",
                                        "meta",   "multicast", "host"};

// " Did you mean `X`?" for the nearest word within kTypo, else "".
std::string did_you_mean(std::string_view word, const Words& words,
                         std::string_view before = ". ") {
    std::size_t best = kTypo + 1;
    std::string_view nearest;
    for (auto candidate : words) {
        const auto distance = edit_distance(word, candidate);
        if (distance < best) {
            best = distance;
            nearest = candidate;
        }
    }
    return nearest.empty() ? std::string()
                           : std::string(before) + "Did you mean `" + std::string(nearest) + "`?";
}

std::string ticked(std::string_view text) {
    return "`" + std::string(text) + "`";
}

// action[:direction]
void parse_head(NetRule& rule, std::string_view head) {
    const auto colon = head.find(':');
    const auto action = head.substr(0, colon);
    if (action != "allow" && action != "deny")
        fail_value(ticked(action) + " is not a recognized action. Expected `allow` or `deny`" +
                   did_you_mean(action, {"allow", "deny"}));
    rule.allow = action == "allow";
    if (colon == std::string_view::npos) return;
    const auto direction = head.substr(colon + 1);
    if (direction == "egress") {
        rule.direction = NetRule::Direction::kEgress;
    } else if (direction == "ingress") {
        rule.direction = NetRule::Direction::kIngress;
    } else if (direction == "any") {
        rule.direction = NetRule::Direction::kAny;
    } else {
        fail_value(ticked(direction) +
                   " is not a recognized direction. Expected `egress`, `ingress`, or `any`" +
                   did_you_mean(direction, {"egress", "ingress", "any"}));
    }
}

void check_domain(std::string_view domain, bool suffix) {
    const std::string shown = "invalid domain " + ticked(domain) + ": ";
    auto name = domain;
    if (name.ends_with('.')) name.remove_suffix(1);
    if (name.empty()) fail_value(shown + "domain name is empty");
    const auto labels = split(name, '.');
    for (auto label : labels) {
        const bool fine = !label.empty() && label.size() <= kMaxLabel && !label.starts_with('-') &&
                          !label.ends_with('-') &&
                          std::all_of(label.begin(), label.end(), [](unsigned char c) {
                              return std::isalnum(c) || c == '-' || c == '_' || c >= 0x80;
                          });
        if (!fine)
            fail_value(shown + "invalid domain name: Malformed label: " + std::string(label));
    }
    if (name.size() > kMaxDomain) fail_value(shown + "invalid domain name: too long");
    if (suffix && labels.size() < 2)
        fail_value(shown + "suffix " + ticked(domain) +
                   " is a single DNS label and would match every domain under that TLD; add at "
                   "least one parent label to "
                   "scope it (e.g. `myco.com`)");
}

bool set_address(NetRule& rule, std::string_view text, int family) {
    const auto slash = text.find('/');
    unsigned char bytes[sizeof(in6_addr)];
    if (::inet_pton(family, std::string(text.substr(0, slash)).c_str(), bytes) != 1) return false;
    if (slash != std::string_view::npos) {
        const auto prefix = parse_integer<unsigned>(text.substr(slash + 1));
        if (!prefix || *prefix > (family == AF_INET ? 32u : 128u))
            fail_value("invalid CIDR " + ticked(text));
    }
    rule.target = NetRule::Target::kCidr;
    rule.name = text;
    return true;
}

void set_domain(NetRule& rule, std::string_view domain, bool suffix) {
    check_domain(domain, suffix);
    rule.target = suffix ? NetRule::Target::kSuffix : NetRule::Target::kDomain;
    rule.name = domain;
}

void parse_target(NetRule& rule, std::string_view target) {
    if (target == "any") return;
    if (target == "dns") {
        if (rule.direction != NetRule::Direction::kEgress)
            fail_value(
                "the `dns` target only supports egress rules; omit the direction or use "
                "`allow:egress@dns`/`deny:egress@dns`");
        rule.target = NetRule::Target::kDns;
        return;
    }
    if (std::find(std::begin(kGroups), std::end(kGroups), target) != std::end(kGroups)) {
        rule.target = NetRule::Target::kGroup;
        rule.name = target;
        return;
    }
    if (target.starts_with("domain=")) return set_domain(rule, target.substr(7), false);
    if (target.starts_with("suffix=")) return set_domain(rule, target.substr(7), true);
    if (target.starts_with("*.")) return set_domain(rule, target.substr(2), true);
    if (set_address(rule, target, AF_INET)) return;
    if (target.find('/') != std::string_view::npos) fail_value("invalid CIDR " + ticked(target));
    if (target.find('.') != std::string_view::npos) return set_domain(rule, target, false);
    if (target.empty())
        fail_value(
            "`` is not a valid target. Expected: any, dns, a group name (public, private, "
            "loopback, link-local, meta, "
            "multicast, host), an IP, a CIDR, a domain (with dot), domain=<name>, or "
            "suffix=<domain>");
    Words words{"any", "dns"};
    words.insert(words.end(), std::begin(kGroups), std::end(kGroups));
    fail_value(
        ticked(target) +
        " is ambiguous (looks like a single-label hostname or a typoed keyword). Use `domain=" +
        std::string(target) + "` to target a literal hostname" + did_you_mean(target, words));
}

void parse_protocol(NetRule& rule, std::string_view protocol, std::string_view target) {
    static const Words protocols{"any", "tcp", "udp", "icmpv4", "icmpv6"};
    const bool icmp = protocol == "icmpv4" || protocol == "icmpv6";
    if (std::find(protocols.begin(), protocols.end(), protocol) == protocols.end()) {
        if (parse_integer<std::uint32_t>(protocol))
            fail_value(ticked(protocol) + " is a port, not a protocol; did you mean `" +
                       std::string(target) + ":tcp:" + std::string(protocol) +
                       "`? port numbers don't belong in the target");
        fail_value(
            ticked(protocol) +
            " is not a recognized protocol. Expected `any`, `tcp`, `udp`, `icmpv4`, or `icmpv6`" +
            did_you_mean(protocol, protocols));
    }
    if (rule.target == NetRule::Target::kDns && icmp)
        fail_value("the `dns` target supports `tcp`, `udp`, or `any`, not " + ticked(protocol));
    if (icmp && rule.direction != NetRule::Direction::kEgress)
        fail_value(
            "ingress and any-direction rules do not support ICMP; only TCP (and UDP when UDP "
            "publishing lands)");
    rule.protocol = protocol;
}

void parse_ports(NetRule& rule, std::string_view ports) {
    if (ports == "any") return;
    const auto dash = ports.find('-');
    const auto low = parse_integer<std::uint16_t>(ports.substr(0, dash));
    const auto high =
        dash == std::string_view::npos ? low : parse_integer<std::uint16_t>(ports.substr(dash + 1));
    if (!low || !high)
        fail_value(ticked(ports) +
                   " is not a valid ports value. Expected `any`, `<port>`, or `<lo>-<hi>`");
    if (*low > *high)
        fail_value("invalid port range " + std::to_string(*low) + ".." + std::to_string(*high) +
                   "; lo must be <= hi");
    if (rule.target == NetRule::Target::kDns && (*low != 53 || *high != 53))
        fail_value("the `dns` target is fixed to port 53; omit the port or use `53`/`any`");
    rule.port_low = low;
    rule.port_high = high;
}

NetRule parse_rule(std::string_view token) {
    const auto at = token.find('@');
    if (at == std::string_view::npos)
        fail_value(
            "rule token " + ticked(token) +
            " is missing `@`; expected `<action>[:<direction>]@<target>[:<proto>[:<ports>]]`");
    NetRule rule;
    parse_head(rule, token.substr(0, at));
    auto rest = token.substr(at + 1);

    std::string_view target;
    std::vector<std::string_view> fields;
    if (rest.starts_with('[')) {
        const auto close = rest.find(']');
        if (close == std::string_view::npos)
            fail_value("unclosed `[` in rule token " + ticked(token) +
                       "; IPv6 addresses must be wrapped as `[<addr>]`");
        target = rest.substr(1, close - 1);
        if (!set_address(rule, target, AF_INET6))
            fail_value("invalid IP address " + ticked(target));
        fields = split(rest.substr(close + 1), ':');
    } else {
        fields = split(rest, ':');
        target = fields.front();
        parse_target(rule, target);
    }
    rule.protocol = "any";
    if (fields.size() > 3)
        fail_value("rule token " + ticked(token) +
                   " has trailing fields after `<ports>`; if this is an IPv6 address, wrap it as "
                   "`[<addr>]`");
    if (fields.size() > 1) parse_protocol(rule, fields[1], target);
    if (fields.size() > 2) parse_ports(rule, fields[2]);
    return rule;
}

}  // namespace

std::vector<NetRule> parse_net_rules(std::string_view text) {
    std::vector<NetRule> rules;
    for (auto token : split(text, ','))
        if (!trim(token).empty()) rules.push_back(parse_rule(trim(token)));
    return rules;
}

}  // namespace msb::cli
