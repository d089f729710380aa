// Network grammars (spec/cli.md section 3; texts as upstream 0.6.18 prints them).
#include "cli/values_net.h"

#include <gtest/gtest.h>

#include "value_error.h"

namespace msb::cli {
namespace {

using Cases = std::vector<std::pair<std::string, std::string>>;

TEST(Port, BindsToLoopbackUnlessTold) {
    const auto port = parse_port("8080:80/udp");
    EXPECT_EQ(port.bind, "127.0.0.1");
    EXPECT_EQ(port.host, 8080);
    EXPECT_EQ(port.guest, 80);
    EXPECT_TRUE(port.udp);
    EXPECT_EQ(parse_port("1.2.3.4:1:2").bind, "1.2.3.4");
    EXPECT_EQ(parse_port("[::1]:1:2/tcp").bind, "::1");
    const Cases cases = {
        {"70000:80", "invalid host port: 70000"},
        {"80:70000", "invalid guest port: 70000"},
        {"80:80/sctp", "invalid guest port: 80/sctp"},
        {"80:80/UDP", "invalid guest port: 80/UDP"},
        {":80", "invalid host port: "},
        {"80:80:80", "invalid bind address: 80"},
        {"localhost:80:80", "invalid bind address: localhost"},
        {"[zz]:80:80", "invalid bind address: zz"},
        {"[::1:80:80", "IPv6 port bind must be in format [ADDR]:HOST:GUEST[/udp]"},
        {"80", "port must be in format HOST:GUEST[/udp] or BIND_ADDR:HOST:GUEST[/udp]"},
        {"::1:80:80", "port must be in format HOST:GUEST[/udp] or BIND_ADDR:HOST:GUEST[/udp]"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_port(text); }), error) << text;
}

TEST(Vsock, SplitsAtTheLastColon) {
    const auto vsock = parse_vsock("/a:b:5/dgram");
    EXPECT_EQ(vsock.path, "/a:b");
    EXPECT_EQ(vsock.port, 5u);
    EXPECT_TRUE(vsock.datagram);
    const Cases cases = {
        {"/a", "--vsock must use HOST_PATH:PORT[/stream|/dgram], got \"/a\""},
        {"a:1", "--vsock host path must be absolute, got a"},
        {"/a:x", "--vsock port must be an unsigned 32-bit integer, got \"x\""},
        {"/a:1/zz", "--vsock socket type must be stream or dgram, got \"zz\""},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_vsock(text); }), error) << text;
}

TEST(Rate, IsAnAmountPerInterval) {
    EXPECT_EQ(parse_bandwidth("1M", "--f").amount, 1048576u);
    EXPECT_EQ(parse_bandwidth("1M", "--f").interval.count(), 1000);
    EXPECT_EQ(parse_bandwidth("1k/2m", "--f").interval.count(), 120000);
    EXPECT_EQ(parse_ops("1000/500ms", "--f").interval.count(), 500);
    EXPECT_EQ(error_of([] { return parse_bandwidth("1T", "--f"); }),
              "--f: invalid size `1T` (expected raw bytes or K/M/G suffix): invalid digit found in "
              "string");
    EXPECT_EQ(error_of([] { return parse_bandwidth("1M/", "--f"); }),
              "--f: cannot parse integer from empty string");
    EXPECT_EQ(error_of([] { return parse_ops("1M", "--f"); }),
              "--f: invalid digit found in string");
}

TEST(NetProfiles, TerminalOnesStandAlone) {
    EXPECT_TRUE(parse_net_profiles({"public, private", "host"}).host);
    const std::pair<std::vector<std::string>, std::string> cases[] = {
        {{"all,public"}, "--net `all` cannot be combined with public, private, or host"},
        {{"none", "public"}, "--net `none` cannot be combined with public, private, or host"},
        {{"all,none"}, "--net terminal profiles `all` and `none` cannot be combined"},
        {{"zz"}, "unknown --net profile \"zz\"; expected public, private, host, all, or none"},
        {{","}, "empty --net profile; expected public, private, host, all, or none"},
    };
    for (const auto& [values, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_net_profiles(values); }), error);
    EXPECT_TRUE(parse_net_default("allow", "--net-default"));
    EXPECT_EQ(error_of([] { return parse_net_default("x", "--net-default"); }),
              "unknown --net-default value \"x\"; expected `allow` or `deny`");
}

TEST(NetRule, ReadsEveryPart) {
    const auto rules =
        parse_net_rules("allow@public:tcp:80-443, deny:any@[fd00::/8],allow@*.a.com");
    ASSERT_EQ(rules.size(), 3u);
    EXPECT_TRUE(rules[0].allow);
    EXPECT_EQ(rules[0].name, "public");
    EXPECT_EQ(rules[0].protocol, "tcp");
    EXPECT_EQ(rules[0].port_low, 80);
    EXPECT_EQ(rules[0].port_high, 443);
    EXPECT_EQ(rules[1].direction, NetRule::Direction::kAny);
    EXPECT_EQ(rules[1].target, NetRule::Target::kCidr);
    EXPECT_EQ(rules[2].target, NetRule::Target::kSuffix);
    EXPECT_EQ(rules[2].name, "a.com");
    EXPECT_TRUE(parse_net_rules("").empty());
}

TEST(NetRule, SaysWhatIsWrong) {
    const Cases cases = {
        {"alow@public",
         "`alow` is not a recognized action. Expected `allow` or `deny`. Did you mean `allow`?"},
        {"@any", "`` is not a recognized action. Expected `allow` or `deny`"},
        {"allow",
         "rule token `allow` is missing `@`; expected "
         "`<action>[:<direction>]@<target>[:<proto>[:<ports>]]`"},
        {"allow:ingres@any",
         "`ingres` is not a recognized direction. Expected `egress`, `ingress`, or `any`. Did you "
         "mean `ingress`?"},
        {"allow@a.b:443",
         "`443` is a port, not a protocol; did you mean `a.b:tcp:443`? port numbers don't belong "
         "in the target"},
        {"allow@public:tpc",
         "`tpc` is not a recognized protocol. Expected `any`, `tcp`, `udp`, `icmpv4`, or `icmpv6`. "
         "Did you mean `tcp`?"},
        {"allow@public:tcp:443-80", "invalid port range 443..80; lo must be <= hi"},
        {"allow@any:tcp:1-2-3",
         "`1-2-3` is not a valid ports value. Expected `any`, `<port>`, or `<lo>-<hi>`"},
        {"allow@dns:tcp:54",
         "the `dns` target is fixed to port 53; omit the port or use `53`/`any`"},
        {"allow@publik",
         "`publik` is ambiguous (looks like a single-label hostname or a typoed keyword). Use "
         "`domain=publik` to target a "
         "literal hostname. Did you mean `public`?"},
        {"allow@1.2.3.4/33", "invalid CIDR `1.2.3.4/33`"},
        {"allow@[::1",
         "unclosed `[` in rule token `allow@[::1`; IPv6 addresses must be wrapped as `[<addr>]`"},
        {"allow@[zz]", "invalid IP address `zz`"},
        {"allow@suffix=com",
         "invalid domain `com`: suffix `com` is a single DNS label and would match every domain "
         "under that TLD; add at "
         "least one parent label to scope it (e.g. `myco.com`)"},
        {"allow@a..b", "invalid domain `a..b`: invalid domain name: Malformed label: "},
        {"allow@any:tcp:80:90",
         "rule token `allow@any:tcp:80:90` has trailing fields after `<ports>`; if this is an IPv6 "
         "address, wrap it as "
         "`[<addr>]`"},
        {"allow:any@public:icmpv6",
         "ingress and any-direction rules do not support ICMP; only TCP (and UDP when UDP "
         "publishing lands)"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_net_rules(text); }), error) << text;
}

TEST(Secret, NamesAVariableAndItsHosts) {
    const auto secret = parse_secret("KEY@x@a.com,*.b.com");
    EXPECT_EQ(secret.variable, "KEY@x");
    EXPECT_EQ(secret.hosts, (std::vector<std::string>{"a.com", "*.b.com"}));
    EXPECT_EQ(error_of([] { return parse_secret("FOO"); }),
              "secret must be in format ENV@HOST[,HOST...]");
    EXPECT_EQ(error_of([] { return parse_secret("FOO@"); }),
              "secret must be in format ENV@HOST[,HOST...] (all parts required)");
    EXPECT_TRUE(error_of([] {
                    return parse_secret("A=B@h");
                }).starts_with("inline secret values (`A=VALUE@HOST`)"));
}

TEST(Addresses, AreChecked) {
    EXPECT_EQ(parse_nameserver("dns.google:53"), "dns.google:53");
    EXPECT_EQ(parse_nameserver("[::1]:53"), "[::1]:53");
    EXPECT_EQ(error_of([] { return parse_nameserver("1.1.1.1:x"); }),
              "invalid nameserver \"1.1.1.1:x\"; expected IP, IP:PORT, HOST, or HOST:PORT");
    EXPECT_TRUE(parse_proxy("socks5://[::1]:1").socks5);
    EXPECT_EQ(error_of([] { return parse_proxy("socks5://h:1"); }),
              "invalid SOCKS5 proxy address \"h:1\": invalid socket address syntax");
    EXPECT_EQ(error_of([] { return parse_proxy("http://1.2.3.4:1"); }),
              "unsupported outbound proxy protocol \"http\"; supported protocols are socks4:// and "
              "socks5://");
    EXPECT_EQ(parse_pool("10.0.0.0/8", false), "10.0.0.0/8");
    EXPECT_EQ(error_of([] { return parse_pool("x/8", false); }),
              "invalid address: invalid IPv4 address syntax");
    EXPECT_EQ(error_of([] { return parse_pool("10.0.0.0/31", false); }),
              "network builder: invalid IPv4 pool `10.0.0.0/31`: prefix must be /30 or shorter");
    EXPECT_EQ(error_of([] { return parse_scoped_ca("=x"); }),
              "scoped upstream CA must be in format PATTERN=PATH");
}

}  // namespace
}  // namespace msb::cli
