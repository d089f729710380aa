// One strict YAML 1.2 document as a tree (spec/state.md section 12). JSON is a subset.
//
// Refused, though YAML: anchors and aliases, tags other than the core schema's, merge keys, keys that are no strings,
// duplicate keys, a second document. Plain scalars follow the core schema (so `yes` is a string); quoted ones are strings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace msb::cli {

inline constexpr std::size_t kMaxYamlBytes = 16u << 20;
inline constexpr std::size_t kMaxYamlDepth = 64;
inline constexpr std::size_t kMaxYamlNodes = 100'000;

struct YamlEntry;

struct YamlNode {
    enum class Kind : std::uint8_t { kNull, kBool, kInteger, kFloat, kString, kList, kMap };
    Kind kind = Kind::kNull;
    std::string text;                // scalars: as written, quotes and escapes resolved
    bool boolean = false;            // kBool
    std::int64_t integer = 0;        // kInteger; larger ones are floats
    std::vector<YamlNode> items;     // kList
    std::vector<YamlEntry> entries;  // kMap, in the document's order

    const YamlNode* find(std::string_view key) const;  // kMap; nullptr when absent or null
};

struct YamlEntry {
    std::string key;
    YamlNode value;
};

// `path` and `kind` ("sandbox configuration", ...) go into messages. Throws Error{kCustom} "PATH:L:C: YAML anchors and
// aliases are not supported", "invalid YAML in PATH: ...", "invalid KIND PATH: error: line L column C: ...".
YamlNode parse_yaml(std::string_view text, std::string_view path, std::string_view kind);

}  // namespace msb::cli
