// Private to state: small readers and writers shared by the configuration documents.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace msb::state {

// The enumerators of E in order, as they are spelled in documents.
template <class E, std::size_t N>
E read_variant(const json::Value& value, const std::array<std::string_view, N>& names) {
    return static_cast<E>(json::to_variant(value, std::span<const std::string_view>(names)));
}

// Absent: `fallback`; null is an error.
template <class E, std::size_t N>
E read_variant_or(const json::Reader& reader, std::string_view key,
                  const std::array<std::string_view, N>& names, E fallback) {
    const json::Value* value = reader.find(key);
    return value == nullptr ? fallback : read_variant<E>(*value, names);
}

template <class E, std::size_t N>
std::string_view variant_name(E value, const std::array<std::string_view, N>& names) {
    return names[static_cast<std::size_t>(value)];
}

// A list of T read by `read`; absent is empty, null an error.
template <class T, class Read>
std::vector<T> read_list_or_empty(const json::Reader& reader, std::string_view key, Read read) {
    std::vector<T> list;
    const json::Value* value = reader.find(key);
    if (value == nullptr) return list;
    for (const json::Value& item : json::expect_array(*value))
        list.push_back(read(item));
    return list;
}

// An optional sub-document: absent and null are nullopt.
template <class T, class Read>
std::optional<T> read_optional(const json::Reader& reader, std::string_view key, Read read) {
    if (!reader.has(key)) return std::nullopt;
    return read(reader.raw(key));
}

template <class T, class Write>
json::Value write_list(const std::vector<T>& list, Write write) {
    json::Value value = json::Value::array();
    for (const T& item : list)
        value.push_back(write(item));
    return value;
}

template <class T>
json::Value or_null(const std::optional<T>& value) {
    return value ? json::Value(*value) : json::Value(nullptr);
}

template <class T>
void set_if(json::Value& object, const char* key, const std::optional<T>& value) {
    if (value) object[key] = *value;
}

// The value of the field `key` or of its older spelling `alias`; nullptr when absent. Both at once is an error, as for
// any field given twice.
const json::Value* find_aliased(const json::Reader& reader, std::string_view key,
                                std::string_view alias);

// {"Variant": value}: name and value of an externally tagged enum. Throws json::ParseError unless the object has
// exactly one key.
struct Tagged {
    std::string_view tag;
    const json::Value& value;
};
Tagged read_tagged(const json::Value& value, std::string_view what);
[[noreturn]] void unknown_variant(std::string_view tag, std::span<const std::string_view> names);

}  // namespace msb::state
