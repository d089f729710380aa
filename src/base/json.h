// Strict reading of JSON documents whose shape is a contract: duplicate keys, wrong types and
// missing fields are errors with the words Rust's serde uses, because clients and users see them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace msb::json {

using Value = nlohmann::ordered_json;  // key order is kept: documents are rewritten byte for byte

// Any failure of parse() and of Reader: detail() is serde's text.
class ParseError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Parses one document; trailing white space is allowed, anything else after it is "trailing
// characters". Duplicate keys are "duplicate field `x`". Nesting is limited to 128. Messages end in
// " at line L column C". Throws ParseError.
Value parse(std::string_view text);

// Typed access to the fields of one object. All throw ParseError:
//   missing field `x` | invalid type: integer `5`, expected a boolean | unknown variant `x`,
//   expected one of `a`, `b` | invalid value: integer `300`, expected u8
class Reader {
  public:
    // `what` names the struct in "invalid type: ..., expected struct <what>".
    Reader(const Value& object, std::string_view what);

    bool has(std::string_view key) const;           // present and not null
    bool present(std::string_view key) const;       // present, null included
    const Value& raw(std::string_view key) const;   // required
    const Value* find(std::string_view key) const;  // nullptr when absent; null counts as present

    bool boolean(std::string_view key) const;
    bool boolean_or(std::string_view key, bool fallback) const;  // null is an error
    template <class Int>
    Int integer(std::string_view key) const;
    template <class Int>
    Int integer_or(std::string_view key, Int fallback) const;  // null is an error
    template <class Int>
    std::optional<Int> optional_integer(std::string_view key) const;  // null and absent are nullopt
    std::string string(std::string_view key) const;
    std::string string_or(std::string_view key, std::string_view fallback) const;
    std::optional<std::string> optional_string(std::string_view key) const;
    std::vector<std::string> string_list(std::string_view key) const;  // required
    std::vector<std::string> string_list_or_empty(
        std::string_view key) const;  // absent = empty, null is an error
    std::optional<std::vector<std::string>> optional_string_list(std::string_view key) const;
    // The index of the variant in `names`.
    std::size_t variant(std::string_view key, std::initializer_list<std::string_view> names) const;
    std::size_t variant_or(std::string_view key, std::initializer_list<std::string_view> names,
                           std::size_t fallback) const;

  private:
    const Value& object_;
};

// The same for a value that is not an object field.
template <class Int>
Int to_integer(const Value& value);
bool to_boolean(const Value& value);
std::string to_string(const Value& value);
std::vector<std::string> to_string_list(const Value& value);
std::size_t to_variant(const Value& value, std::initializer_list<std::string_view> names);
std::size_t to_variant(const Value& value, std::span<const std::string_view> names);
const Value& expect_array(const Value& value);  // "invalid type: ..., expected a sequence"

// Compact and pretty (2 spaces) text with UTF-8 kept and invalid UTF-8 replaced.
std::string dump(const Value& value);
std::string dump_pretty(const Value& value);

}  // namespace msb::json
