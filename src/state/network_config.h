// The `network` part of a configuration document: types only, with upstream's defaults (spec/state.md section 9.2).
// What the fields do is network.md's business. An empty optional sub-document is "not written": the engine's default.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace msb::state {

// --- Secrets -----------------------------------------------------------------------------------------------------

// Where a secret's value is read when the sandbox is spawned.
struct SecretSource {
    enum class Kind : std::uint8_t { kEnv, kStore } kind = Kind::kEnv;
    std::string name;  // env: the host variable `var`; store: `reference`

    bool operator==(const SecretSource&) const = default;
};

struct HostPattern {
    enum class Kind : std::uint8_t { kExact, kWildcard, kAny } kind = Kind::kExact;
    std::string host;  // empty for kAny

    bool operator==(const HostPattern&) const = default;
};

struct ViolationAction {
    enum class Kind : std::uint8_t {
        kBlock,
        kBlockAndLog,
        kBlockAndTerminate,
        kPassthrough
    } kind = Kind::kBlockAndLog;
    std::vector<HostPattern> passthrough;  // hosts of kPassthrough

    bool operator==(const ViolationAction&) const = default;
};

struct SecretInjection {
    bool headers = true;
    bool basic_auth = true;
    bool query_params = false;
    bool body = false;

    bool operator==(const SecretInjection&) const = default;
};

struct SecretEntry {
    std::string env_var;
    std::string value;  // clear text; empty for a reference until the spawn resolves it
    std::optional<SecretSource> source;
    std::string placeholder;
    std::vector<HostPattern> allowed_hosts;
    SecretInjection injection;
    std::optional<ViolationAction> on_violation;
    bool require_tls_identity = true;

    bool operator==(const SecretEntry&) const = default;
};

struct SecretsConfig {
    std::vector<SecretEntry> secrets;
    ViolationAction on_violation;

    bool operator==(const SecretsConfig&) const = default;
};

// --- Policy ------------------------------------------------------------------------------------------------------

enum class PolicyAction : std::uint8_t { kDeny, kAllow };
enum class PolicyDirection : std::uint8_t { kEgress, kIngress, kAny };
enum class PolicyProtocol : std::uint8_t { kTcp, kUdp, kIcmpv4, kIcmpv6 };
enum class DestinationGroup : std::uint8_t {
    kPublic,
    kLoopback,
    kPrivate,
    kLinkLocal,
    kMetadata,
    kMulticast,
    kHost
};
std::string_view to_string(DestinationGroup group);  // "link_local" ...

struct PolicyDestination {
    enum class Kind : std::uint8_t {
        kAny,
        kCidr,
        kDomain,
        kDomainSuffix,
        kGroup
    } kind = Kind::kAny;
    std::string text;  // of cidr, domain, domain_suffix
    DestinationGroup group = DestinationGroup::kPublic;

    bool operator==(const PolicyDestination&) const = default;
};

struct PortRange {
    std::uint16_t start = 0;
    std::uint16_t end = 0;  // inclusive

    bool operator==(const PortRange&) const = default;
};

struct PolicyRule {
    PolicyDirection direction = PolicyDirection::kEgress;
    PolicyDestination destination;
    std::vector<PolicyProtocol> protocols;
    std::vector<PortRange> ports;
    PolicyAction action = PolicyAction::kDeny;

    bool operator==(const PolicyRule&) const = default;
};

struct PolicyConfig {
    PolicyAction default_egress = PolicyAction::kDeny;
    PolicyAction default_ingress = PolicyAction::kDeny;
    std::vector<PolicyRule> rules;

    bool operator==(const PolicyConfig&) const = default;
};

// --- The rest ----------------------------------------------------------------------------------------------------

struct InterfaceConfig {
    std::optional<std::array<std::uint8_t, 6>> mac;
    std::optional<std::uint16_t> mtu;
    std::optional<std::string> ipv4_address;
    std::optional<std::string> ipv4_pool;
    std::optional<std::string> ipv6_address;
    std::optional<std::string> ipv6_pool;

    bool operator==(const InterfaceConfig&) const = default;
};

enum class PortProtocol : std::uint8_t { kTcp, kUdp };

struct PublishedPort {
    std::uint16_t host_port = 0;
    std::uint16_t guest_port = 0;
    PortProtocol protocol = PortProtocol::kTcp;
    std::string host_bind;  // IP address

    bool operator==(const PublishedPort&) const = default;
};

struct DnsConfig {
    bool rebind_protection = true;
    std::vector<std::string> nameservers;  // "1.1.1.1:53"
    std::uint64_t query_timeout_ms = 5000;

    bool operator==(const DnsConfig&) const = default;
};

struct ScopedCaCert {
    std::string pattern;
    std::string path;

    bool operator==(const ScopedCaCert&) const = default;
};

struct ScopedVerify {
    std::string pattern;
    bool verify = true;

    bool operator==(const ScopedVerify&) const = default;
};

struct TlsConfig {
    bool enabled = false;
    std::vector<std::uint16_t> intercepted_ports = {443};
    std::vector<std::string> bypass;
    bool verify_upstream = true;
    bool block_quic_on_intercept = true;
    std::vector<std::string> upstream_ca_cert;
    std::vector<ScopedCaCert> scoped_upstream_ca_cert;
    std::vector<ScopedVerify> scoped_verify_upstream;
    std::optional<std::string> intercept_ca_cert_path;
    std::optional<std::string> intercept_ca_key_path;
    std::uint64_t cache_capacity = 1000;
    std::uint64_t cache_validity_hours = 24;

    bool operator==(const TlsConfig&) const = default;
};

struct TokenBucket {
    std::uint64_t size = 0;            // > 0
    std::uint64_t refill_time_ms = 0;  // > 0
    std::uint64_t one_time_burst = 0;

    bool operator==(const TokenBucket&) const = default;
};

struct RateLimit {
    std::optional<TokenBucket> bandwidth;  // tokens are bytes
    std::optional<TokenBucket> ops;        // tokens are frames

    bool operator==(const RateLimit&) const = default;
};

struct RateLimiter {
    std::optional<RateLimit> egress;
    std::optional<RateLimit> ingress;

    bool operator==(const RateLimiter&) const = default;
};

struct ProxyCredentials {
    std::string username;
    SecretSource password;

    bool operator==(const ProxyCredentials&) const = default;
};

struct OutboundProxy {
    enum class Protocol : std::uint8_t { kSocks4, kSocks5 } protocol = Protocol::kSocks5;
    std::string address;                          // "ip:port"
    std::optional<std::string> user_id;           // socks4
    std::optional<ProxyCredentials> credentials;  // socks5

    bool operator==(const OutboundProxy&) const = default;
};

struct NetworkConfig {
    bool enabled = true;
    std::optional<InterfaceConfig> interface;
    std::vector<PublishedPort> ports;
    std::optional<PolicyConfig> policy;
    std::optional<DnsConfig> dns;
    std::optional<TlsConfig> tls;
    bool strict = false;
    std::optional<SecretsConfig> secrets;
    std::optional<std::uint64_t> max_connections;
    std::optional<RateLimiter> rate_limiter;
    bool trust_host_cas = false;
    std::optional<OutboundProxy> outbound_proxy;

    bool operator==(const NetworkConfig&) const = default;
};

}  // namespace msb::state
