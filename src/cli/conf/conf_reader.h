// Private to conf: typed access to a YAML tree, with the words upstream's deserialiser uses for what does not fit.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/conf/yaml.h"

namespace msb::cli {

// what() follows "invalid <kind> <path>: ".
struct ConfShapeError {
    std::string text;
};

// "integer `512`", `string "x"`, "sequence"
std::string describe(const YamlNode& node);
[[noreturn]] void wrong_type(const YamlNode& node, std::string_view expected);

// `${NAME}` replaced by the host's variables; `$NAME` stays. Throws ConfShapeError.
std::string substitute(std::string_view text);

std::string conf_string(const YamlNode& node);
bool conf_bool(const YamlNode& node);
template <class Int>
Int conf_integer(const YamlNode& node, std::string_view type) {
    if (node.kind != YamlNode::Kind::kInteger) wrong_type(node, type);
    if (node.integer < 0 ||
        static_cast<std::uint64_t>(node.integer) > std::numeric_limits<Int>::max())
        throw ConfShapeError{"invalid value: " + describe(node) + ", expected " +
                             std::string(type)};
    return static_cast<Int>(node.integer);
}
std::vector<std::string> conf_strings(const YamlNode& node);
std::map<std::string, std::string> conf_string_map(const YamlNode& node);
// The word if it is one of `words`: "unknown variant `x`, expected `a` or `b`".
std::string conf_word(const YamlNode& node, std::initializer_list<std::string_view> words);

const std::vector<YamlNode>& conf_list(const YamlNode& node);

// A map whose keys are known.
class ConfMap {
  public:
    // Throws when `node` is no map ("expected struct NAME") or has a key that is not in `fields`.
    ConfMap(const YamlNode& node, std::string_view name,
            std::initializer_list<std::string_view> fields);

    const YamlNode* find(std::string_view key) const { return node_.find(key); }
    bool has(std::string_view key) const { return find(key) != nullptr; }
    const YamlNode& require(std::string_view key) const;  // "missing field `key`"

    std::string string(std::string_view key) const { return conf_string(require(key)); }
    std::optional<std::string> optional_string(std::string_view key) const;
    bool flag(std::string_view key) const;  // false when absent

  private:
    const YamlNode& node_;
};

// "`a` or `b`", "one of `a`, `b`, `c`"
std::string alternatives(std::span<const std::string_view> words);

}  // namespace msb::cli
