#include "state/config_fields.h"

namespace msb::state {

const json::Value* find_aliased(const json::Reader& reader, std::string_view key,
                                std::string_view alias) {
    const json::Value* value = reader.find(key);
    const json::Value* aliased = reader.find(alias);
    if (value != nullptr && aliased != nullptr)
        throw json::ParseError("duplicate field `" + std::string(key) + "`");
    return value != nullptr ? value : aliased;
}

Tagged read_tagged(const json::Value& value, std::string_view what) {
    if (!value.is_object() || value.size() != 1)
        throw json::ParseError("invalid value: expected enum " + std::string(what) +
                               " as an object with a single key");
    return {value.begin().key(), value.begin().value()};
}

void unknown_variant(std::string_view tag, std::span<const std::string_view> names) {
    json::to_variant(json::Value(std::string(tag)), names);
    throw json::ParseError("unknown variant `" + std::string(tag) + "`");
}

}  // namespace msb::state
