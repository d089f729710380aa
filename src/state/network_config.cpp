// The network document but for policy (policy_config.cpp) and secrets (secrets_config.cpp).
#include "state/network_config.h"

#include "state/config_fields.h"
#include "state/network_address.h"
#include "state/network_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 2> kPortProtocols = {"tcp", "udp"};

std::optional<std::string> read_address(const Reader& reader, std::string_view key,
                                        AddressFamily family) {
    const auto text = reader.optional_string(key);
    if (!text) return std::nullopt;
    if (auto address = normalize_address(*text, family)) return address;
    throw json::ParseError(family == AddressFamily::kIpv4 ? "invalid IPv4 address syntax"
                                                          : "invalid IPv6 address syntax");
}

std::optional<std::string> read_pool(const Reader& reader, std::string_view key,
                                     AddressFamily family) {
    const auto text = reader.optional_string(key);
    if (!text) return std::nullopt;
    if (auto range = normalize_range(*text, family)) return range;
    throw json::ParseError("invalid network range: " + *text);
}

InterfaceConfig read_interface(const Value& value) {
    const Reader reader(value, "InterfaceOverrides");
    InterfaceConfig interface;
    if (reader.has("mac")) {
        const Value& octets = json::expect_array(reader.raw("mac"));
        if (octets.size() != 6)
            throw json::ParseError("invalid length " + std::to_string(octets.size()) +
                                   ", expected an array of length 6");
        interface.mac.emplace();
        for (std::size_t i = 0; i < 6; ++i)
            (*interface.mac)[i] = json::to_integer<std::uint8_t>(octets[i]);
    }
    interface.mtu = reader.optional_integer<std::uint16_t>("mtu");
    interface.ipv4_address = read_address(reader, "ipv4_address", AddressFamily::kIpv4);
    interface.ipv4_pool = read_pool(reader, "ipv4_pool", AddressFamily::kIpv4);
    interface.ipv6_address = read_address(reader, "ipv6_address", AddressFamily::kIpv6);
    interface.ipv6_pool = read_pool(reader, "ipv6_pool", AddressFamily::kIpv6);
    return interface;
}

Value write_interface(const InterfaceConfig& interface) {
    Value value = Value::object();
    if (interface.mac) value["mac"] = *interface.mac;
    set_if(value, "mtu", interface.mtu);
    set_if(value, "ipv4_address", interface.ipv4_address);
    set_if(value, "ipv4_pool", interface.ipv4_pool);
    set_if(value, "ipv6_address", interface.ipv6_address);
    set_if(value, "ipv6_pool", interface.ipv6_pool);
    return value;
}

PublishedPort read_port(const Value& value) {
    const Reader reader(value, "PublishedPort");
    PublishedPort port;
    port.host_port = reader.integer<std::uint16_t>("host_port");
    port.guest_port = reader.integer<std::uint16_t>("guest_port");
    port.protocol = read_variant_or(reader, "protocol", kPortProtocols, PortProtocol::kTcp);
    port.host_bind = reader.string("host_bind");
    return port;
}

Value write_port(const PublishedPort& port) {
    Value value = Value::object();
    value["host_port"] = port.host_port;
    value["guest_port"] = port.guest_port;
    value["protocol"] = variant_name(port.protocol, kPortProtocols);
    value["host_bind"] = port.host_bind;
    return value;
}

DnsConfig read_dns(const Value& value) {
    const Reader reader(value, "DnsConfig");
    DnsConfig dns;
    dns.rebind_protection = reader.boolean_or("rebind_protection", true);
    dns.nameservers = reader.string_list_or_empty("nameservers");
    dns.query_timeout_ms = reader.integer_or<std::uint64_t>("query_timeout_ms", 5000);
    return dns;
}

Value write_dns(const DnsConfig& dns) {
    Value value = Value::object();
    value["rebind_protection"] = dns.rebind_protection;
    value["nameservers"] = dns.nameservers;
    value["query_timeout_ms"] = dns.query_timeout_ms;
    return value;
}

ScopedCaCert read_scoped_ca(const Value& value) {
    const Reader reader(value, "ScopedUpstreamCaCert");
    return {reader.string("pattern"), reader.string("path")};
}

ScopedVerify read_scoped_verify(const Value& value) {
    const Reader reader(value, "ScopedVerifyUpstream");
    return {reader.string("pattern"), reader.boolean("verify")};
}

void read_intercept_ca(const Value& value, TlsConfig& tls) {
    const Reader reader(value, "InterceptCaConfig");
    tls.intercept_ca_cert_path = reader.optional_string("cert_path");
    tls.intercept_ca_key_path = reader.optional_string("key_path");
}

void read_cache(const Value& value, TlsConfig& tls) {
    const Reader reader(value, "CertCacheConfig");
    tls.cache_capacity = reader.integer_or<std::uint64_t>("capacity", 1000);
    tls.cache_validity_hours = reader.integer_or<std::uint64_t>("validity_hours", 24);
}

TlsConfig read_tls(const Value& value) {
    const Reader reader(value, "TlsConfig");
    TlsConfig tls;
    tls.enabled = reader.boolean_or("enabled", false);
    if (reader.present("intercepted_ports"))
        tls.intercepted_ports = read_list_or_empty<std::uint16_t>(reader, "intercepted_ports",
                                                                  json::to_integer<std::uint16_t>);
    tls.bypass = reader.string_list_or_empty("bypass");
    tls.verify_upstream = reader.boolean_or("verify_upstream", true);
    tls.block_quic_on_intercept = reader.boolean_or("block_quic_on_intercept", true);
    tls.upstream_ca_cert = reader.string_list_or_empty("upstream_ca_cert");
    if (const Value* scoped =
            find_aliased(reader, "scoped_upstream_ca_cert", "scoped_upstream_ca_certs")) {
        for (const Value& item : json::expect_array(*scoped))
            tls.scoped_upstream_ca_cert.push_back(read_scoped_ca(item));
    }
    tls.scoped_verify_upstream =
        read_list_or_empty<ScopedVerify>(reader, "scoped_verify_upstream", read_scoped_verify);
    if (const Value* ca = find_aliased(reader, "intercept_ca", "ca")) read_intercept_ca(*ca, tls);
    if (const Value* cache = reader.find("cache")) read_cache(*cache, tls);
    return tls;
}

Value write_tls(const TlsConfig& tls) {
    Value value = Value::object();
    value["enabled"] = tls.enabled;
    value["intercepted_ports"] = tls.intercepted_ports;
    value["bypass"] = tls.bypass;
    value["verify_upstream"] = tls.verify_upstream;
    value["block_quic_on_intercept"] = tls.block_quic_on_intercept;
    value["upstream_ca_cert"] = tls.upstream_ca_cert;
    value["scoped_upstream_ca_cert"] =
        write_list(tls.scoped_upstream_ca_cert, [](const ScopedCaCert& scoped) {
            Value item = Value::object();
            item["pattern"] = scoped.pattern;
            item["path"] = scoped.path;
            return item;
        });
    value["scoped_verify_upstream"] =
        write_list(tls.scoped_verify_upstream, [](const ScopedVerify& scoped) {
            Value item = Value::object();
            item["pattern"] = scoped.pattern;
            item["verify"] = scoped.verify;
            return item;
        });
    Value& ca = value["intercept_ca"] = Value::object();
    ca["cert_path"] = or_null(tls.intercept_ca_cert_path);
    ca["key_path"] = or_null(tls.intercept_ca_key_path);
    Value& cache = value["cache"] = Value::object();
    cache["capacity"] = tls.cache_capacity;
    cache["validity_hours"] = tls.cache_validity_hours;
    return value;
}

TokenBucket read_bucket(const Value& value) {
    const Reader reader(value, "TokenBucketConfig");
    return {reader.integer<std::uint64_t>("size"), reader.integer<std::uint64_t>("refill_time_ms"),
            reader.integer_or<std::uint64_t>("one_time_burst", 0)};
}

Value write_bucket(const TokenBucket& bucket) {
    Value value = Value::object();
    value["size"] = bucket.size;
    value["refill_time_ms"] = bucket.refill_time_ms;
    value["one_time_burst"] = bucket.one_time_burst;
    return value;
}

RateLimit read_limit(const Value& value) {
    const Reader reader(value, "RateLimiterConfig");
    return {read_optional<TokenBucket>(reader, "bandwidth", read_bucket),
            read_optional<TokenBucket>(reader, "ops", read_bucket)};
}

Value write_limit(const RateLimit& limit) {
    Value value = Value::object();
    if (limit.bandwidth) value["bandwidth"] = write_bucket(*limit.bandwidth);
    if (limit.ops) value["ops"] = write_bucket(*limit.ops);
    return value;
}

RateLimiter read_rate_limiter(const Value& value) {
    const Reader reader(value, "NetworkRateLimiterConfig");
    return {read_optional<RateLimit>(reader, "egress", read_limit),
            read_optional<RateLimit>(reader, "ingress", read_limit)};
}

Value write_rate_limiter(const RateLimiter& limiter) {
    Value value = Value::object();
    if (limiter.egress) value["egress"] = write_limit(*limiter.egress);
    if (limiter.ingress) value["ingress"] = write_limit(*limiter.ingress);
    return value;
}

}  // namespace

NetworkConfig network_config_from_json(const Value& value) {
    const Reader reader(value, "NetworkConfig");
    NetworkConfig network;
    network.enabled = reader.boolean_or("enabled", true);
    network.interface = read_optional<InterfaceConfig>(reader, "interface", read_interface);
    network.ports = read_list_or_empty<PublishedPort>(reader, "ports", read_port);
    network.policy = read_optional<PolicyConfig>(reader, "policy", policy_from_json);
    network.dns = read_optional<DnsConfig>(reader, "dns", read_dns);
    network.tls = read_optional<TlsConfig>(reader, "tls", read_tls);
    network.strict = reader.boolean_or("strict", false);
    network.secrets = read_optional<SecretsConfig>(reader, "secrets", secrets_from_json);
    network.max_connections = reader.optional_integer<std::uint64_t>("max_connections");
    network.rate_limiter = read_optional<RateLimiter>(reader, "rate_limiter", read_rate_limiter);
    network.trust_host_cas = reader.boolean_or("trust_host_cas", false);
    network.outbound_proxy =
        read_optional<OutboundProxy>(reader, "outbound_proxy", outbound_proxy_from_json);
    return network;
}

Value to_json(const NetworkConfig& network) {
    Value value = Value::object();
    value["enabled"] = network.enabled;
    if (network.interface) value["interface"] = write_interface(*network.interface);
    value["ports"] = write_list(network.ports, write_port);
    if (network.policy) value["policy"] = to_json(*network.policy);
    if (network.dns) value["dns"] = write_dns(*network.dns);
    if (network.tls) value["tls"] = write_tls(*network.tls);
    value["strict"] = network.strict;
    if (network.secrets) value["secrets"] = to_json(*network.secrets);
    value["max_connections"] = or_null(network.max_connections);
    if (network.rate_limiter) value["rate_limiter"] = write_rate_limiter(*network.rate_limiter);
    value["trust_host_cas"] = network.trust_host_cas;
    if (network.outbound_proxy) value["outbound_proxy"] = to_json(*network.outbound_proxy);
    return value;
}

}  // namespace msb::state
