// Secrets and the outbound proxy of a network document.
#include "state/config_fields.h"
#include "state/network_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

HostPattern read_host(const Value& value) {
    using Kind = HostPattern::Kind;
    static constexpr std::array<std::string_view, 3> kNames = {"exact", "wildcard", "any"};
    if (value.is_string()) {
        const std::string text = value.get<std::string>();
        if (text == "any" || text == "Any") return {Kind::kAny, {}};
        if (text == "exact" || text == "Exact" || text == "wildcard" || text == "Wildcard")
            throw json::ParseError("invalid type: unit variant, expected newtype variant");
        unknown_variant(text, kNames);
    }
    const Tagged tagged = read_tagged(value, "HostPattern");
    if (tagged.tag == "exact" || tagged.tag == "Exact")
        return {Kind::kExact, json::to_string(tagged.value)};
    if (tagged.tag == "wildcard" || tagged.tag == "Wildcard")
        return {Kind::kWildcard, json::to_string(tagged.value)};
    if ((tagged.tag == "any" || tagged.tag == "Any") && tagged.value.is_null())
        return {Kind::kAny, {}};
    unknown_variant(tagged.tag, kNames);
}

Value write_host(const HostPattern& pattern) {
    if (pattern.kind == HostPattern::Kind::kAny) return "any";
    Value value = Value::object();
    value[pattern.kind == HostPattern::Kind::kExact ? "exact" : "wildcard"] = pattern.host;
    return value;
}

std::optional<ViolationAction::Kind> plain_violation(std::string_view tag) {
    using Kind = ViolationAction::Kind;
    if (tag == "block" || tag == "Block") return Kind::kBlock;
    if (tag == "block-and-log" || tag == "BlockAndLog" || tag == "block_and_log")
        return Kind::kBlockAndLog;
    if (tag == "block-and-terminate" || tag == "BlockAndTerminate" || tag == "block_and_terminate")
        return Kind::kBlockAndTerminate;
    return std::nullopt;
}

ViolationAction read_violation(const Value& value) {
    static constexpr std::array<std::string_view, 4> kNames = {
        "block", "block-and-log", "block-and-terminate", "passthrough"};
    if (value.is_string()) {
        const std::string text = value.get<std::string>();
        if (auto kind = plain_violation(text)) return {*kind, {}};
        unknown_variant(text, kNames);
    }
    const Tagged tagged = read_tagged(value, "ViolationAction");
    // {"block":null} is another spelling of "block".
    if (auto kind = plain_violation(tagged.tag); kind && tagged.value.is_null()) return {*kind, {}};
    if (tagged.tag != "passthrough" && tagged.tag != "Passthrough")
        unknown_variant(tagged.tag, kNames);
    ViolationAction action{ViolationAction::Kind::kPassthrough, {}};
    for (const Value& host : json::expect_array(tagged.value))
        action.passthrough.push_back(read_host(host));
    return action;
}

Value write_violation(const ViolationAction& action) {
    switch (action.kind) {
        case ViolationAction::Kind::kBlock:
            return "block";
        case ViolationAction::Kind::kBlockAndLog:
            return "block-and-log";
        case ViolationAction::Kind::kBlockAndTerminate:
            return "block-and-terminate";
        case ViolationAction::Kind::kPassthrough:
            break;
    }
    Value value = Value::object();
    value["passthrough"] = write_list(action.passthrough, write_host);
    return value;
}

SecretInjection read_injection(const Value& value) {
    const Reader reader(value, "SecretInjection");
    SecretInjection injection;
    injection.headers = reader.boolean_or("headers", true);
    injection.basic_auth = reader.boolean_or("basic_auth", true);
    injection.query_params = reader.boolean_or("query_params", false);
    injection.body = reader.boolean_or("body", false);
    return injection;
}

SecretEntry read_entry(const Value& value) {
    const Reader reader(value, "SecretEntry");
    SecretEntry entry;
    entry.env_var = reader.string("env_var");
    entry.value = reader.string_or("value", "");
    entry.source = read_optional<SecretSource>(reader, "source", secret_source_from_json);
    entry.placeholder = reader.string("placeholder");
    entry.allowed_hosts = read_list_or_empty<HostPattern>(reader, "allowed_hosts", read_host);
    if (const Value* injection = reader.find("injection"))
        entry.injection = read_injection(*injection);
    entry.on_violation = read_optional<ViolationAction>(reader, "on_violation", read_violation);
    entry.require_tls_identity = reader.boolean_or("require_tls_identity", true);
    return entry;
}

Value write_entry(const SecretEntry& entry) {
    Value value = Value::object();
    value["env_var"] = entry.env_var;
    value["value"] = entry.value;
    if (entry.source) value["source"] = to_json(*entry.source);
    value["placeholder"] = entry.placeholder;
    value["allowed_hosts"] = write_list(entry.allowed_hosts, write_host);
    Value& injection = value["injection"] = Value::object();
    injection["headers"] = entry.injection.headers;
    injection["basic_auth"] = entry.injection.basic_auth;
    injection["query_params"] = entry.injection.query_params;
    injection["body"] = entry.injection.body;
    if (entry.on_violation) value["on_violation"] = write_violation(*entry.on_violation);
    value["require_tls_identity"] = entry.require_tls_identity;
    return value;
}

ProxyCredentials read_credentials(const Value& value) {
    const Reader reader(value, "ProxyCredentials");
    return {reader.string("username"), secret_source_from_json(reader.raw("password"))};
}

}  // namespace

SecretSource secret_source_from_json(const Value& value) {
    static constexpr std::array<std::string_view, 2> kKinds = {"env", "store"};
    const Reader reader(value, "SecretSource");
    SecretSource source;
    source.kind = read_variant<SecretSource::Kind>(reader.raw("kind"), kKinds);
    source.name = reader.string(source.kind == SecretSource::Kind::kEnv ? "var" : "reference");
    return source;
}

Value to_json(const SecretSource& source) {
    const bool env = source.kind == SecretSource::Kind::kEnv;
    Value value = Value::object();
    value["kind"] = env ? "env" : "store";
    value[env ? "var" : "reference"] = source.name;
    return value;
}

SecretsConfig secrets_from_json(const Value& value) {
    const Reader reader(value, "SecretsConfig");
    SecretsConfig secrets;
    secrets.secrets = read_list_or_empty<SecretEntry>(reader, "secrets", read_entry);
    if (const Value* action = reader.find("on_violation"))
        secrets.on_violation = read_violation(*action);
    return secrets;
}

Value to_json(const SecretsConfig& secrets) {
    Value value = Value::object();
    value["secrets"] = write_list(secrets.secrets, write_entry);
    value["on_violation"] = write_violation(secrets.on_violation);
    return value;
}

OutboundProxy outbound_proxy_from_json(const Value& value) {
    static constexpr std::array<std::string_view, 2> kProtocols = {"socks4", "socks5"};
    const Reader reader(value, "OutboundProxy");
    OutboundProxy proxy;
    proxy.protocol = read_variant<OutboundProxy::Protocol>(reader.raw("protocol"), kProtocols);
    proxy.address = reader.string("address");
    if (proxy.protocol == OutboundProxy::Protocol::kSocks4)
        proxy.user_id = reader.optional_string("user_id");
    else
        proxy.credentials =
            read_optional<ProxyCredentials>(reader, "credentials", read_credentials);
    return proxy;
}

Value to_json(const OutboundProxy& proxy) {
    Value value = Value::object();
    value["protocol"] = proxy.protocol == OutboundProxy::Protocol::kSocks4 ? "socks4" : "socks5";
    value["address"] = proxy.address;
    set_if(value, "user_id", proxy.user_id);
    if (proxy.credentials) {
        Value& credentials = value["credentials"] = Value::object();
        credentials["username"] = proxy.credentials->username;
        credentials["password"] = to_json(proxy.credentials->password);
    }
    return value;
}

}  // namespace msb::state
