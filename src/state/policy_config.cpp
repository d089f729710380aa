// The policy of a network document.
#include "state/config_fields.h"
#include "state/network_address.h"
#include "state/network_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 2> kActions = {"deny", "allow"};
constexpr std::array<std::string_view, 3> kDirections = {"egress", "ingress", "any"};
constexpr std::array<std::string_view, 4> kProtocols = {"tcp", "udp", "icmpv4", "icmpv6"};
constexpr std::array<std::string_view, 7> kGroups = {
    "public", "loopback", "private", "link_local", "metadata", "multicast", "host"};
constexpr std::array<std::string_view, 5> kDestinations = {"any", "cidr", "domain", "domain_suffix",
                                                           "group"};

std::string read_cidr(const Value& value) {
    const std::string text = json::to_string(value);
    if (auto range = normalize_range(text, AddressFamily::kAny)) return *range;
    throw json::ParseError("invalid network range: " + text);
}

PolicyDestination read_destination(const Value& value) {
    using Kind = PolicyDestination::Kind;
    PolicyDestination destination;
    if (value.is_string()) {
        if (value.get<std::string>() != "any")
            unknown_variant(value.get<std::string>(), kDestinations);
        return destination;
    }
    const Tagged tagged = read_tagged(value, "Destination");
    destination.kind = read_variant<Kind>(Value(std::string(tagged.tag)), kDestinations);
    switch (destination.kind) {
        case Kind::kAny:
            if (!tagged.value.is_null())
                throw json::ParseError("invalid type: newtype variant, expected unit variant");
            break;
        case Kind::kGroup:
            destination.group = read_variant<DestinationGroup>(tagged.value, kGroups);
            break;
        case Kind::kCidr:
            destination.text = read_cidr(tagged.value);
            break;
        default:
            destination.text = json::to_string(tagged.value);
    }
    return destination;
}

Value write_destination(const PolicyDestination& destination) {
    using Kind = PolicyDestination::Kind;
    if (destination.kind == Kind::kAny) return "any";
    Value value = Value::object();
    const std::string key(variant_name(destination.kind, kDestinations));
    if (destination.kind == Kind::kGroup)
        value[key] = to_string(destination.group);
    else
        value[key] = destination.text;
    return value;
}

PortRange read_range(const Value& value) {
    const Reader reader(value, "PortRange");
    return {reader.integer<std::uint16_t>("start"), reader.integer<std::uint16_t>("end")};
}

PolicyRule read_rule(const Value& value) {
    const Reader reader(value, "Rule");
    PolicyRule rule;
    rule.direction = read_variant<PolicyDirection>(reader.raw("direction"), kDirections);
    rule.destination = read_destination(reader.raw("destination"));
    rule.protocols = read_list_or_empty<PolicyProtocol>(reader, "protocols", [](const Value& item) {
        return read_variant<PolicyProtocol>(item, kProtocols);
    });
    rule.ports = read_list_or_empty<PortRange>(reader, "ports", read_range);
    rule.action = read_variant<PolicyAction>(reader.raw("action"), kActions);
    return rule;
}

Value write_rule(const PolicyRule& rule) {
    Value value = Value::object();
    value["direction"] = variant_name(rule.direction, kDirections);
    value["destination"] = write_destination(rule.destination);
    value["protocols"] = write_list(rule.protocols, [](PolicyProtocol protocol) {
        return Value(variant_name(protocol, kProtocols));
    });
    value["ports"] = write_list(rule.ports, [](const PortRange& range) {
        Value port = Value::object();
        port["start"] = range.start;
        port["end"] = range.end;
        return port;
    });
    value["action"] = variant_name(rule.action, kActions);
    return value;
}

}  // namespace

std::string_view to_string(DestinationGroup group) {
    return variant_name(group, kGroups);
}

PolicyConfig policy_from_json(const Value& value) {
    const Reader reader(value, "NetworkPolicy");
    PolicyConfig policy;
    policy.default_egress =
        read_variant_or(reader, "default_egress", kActions, PolicyAction::kDeny);
    policy.default_ingress =
        read_variant_or(reader, "default_ingress", kActions, PolicyAction::kDeny);
    policy.rules = read_list_or_empty<PolicyRule>(reader, "rules", read_rule);
    return policy;
}

Value to_json(const PolicyConfig& policy) {
    Value value = Value::object();
    value["default_egress"] = variant_name(policy.default_egress, kActions);
    value["default_ingress"] = variant_name(policy.default_ingress, kActions);
    value["rules"] = write_list(policy.rules, write_rule);
    return value;
}

}  // namespace msb::state
