#include "cli/conf/conf_reader.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include "base/text.h"

namespace msb::cli {

namespace {

bool is_name(std::string_view text) {
    if (text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) != 0) return false;
    return std::ranges::all_of(
        text, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
}

}  // namespace

std::string describe(const YamlNode& node) {
    switch (node.kind) {
        case YamlNode::Kind::kNull:
            return "null";
        case YamlNode::Kind::kBool:
            return std::string("boolean `") + (node.boolean ? "true" : "false") + "`";
        case YamlNode::Kind::kInteger:
            return "integer `" + std::to_string(node.integer) + "`";
        case YamlNode::Kind::kFloat:
            return "floating point `" + node.text + "`";
        case YamlNode::Kind::kString:
            return "string " + msb::quoted(node.text);
        case YamlNode::Kind::kList:
            return "sequence";
        case YamlNode::Kind::kMap:
            return "map";
    }
    return "";
}

void wrong_type(const YamlNode& node, std::string_view expected) {
    throw ConfShapeError{"invalid type: " + describe(node) + ", expected " + std::string(expected)};
}

std::string substitute(std::string_view text) {
    std::string out;
    std::size_t at = 0;
    for (;;) {
        const std::size_t open = text.find("${", at);
        if (open == std::string_view::npos) break;
        const std::size_t close = text.find('}', open);
        if (close == std::string_view::npos)
            throw ConfShapeError{"unclosed environment reference in " + msb::quoted(text)};
        const std::string name(text.substr(open + 2, close - open - 2));
        if (!is_name(name))
            throw ConfShapeError{"unsupported environment expression `${" + name +
                                 "}`; only `${NAME}` is allowed"};
        const char* value = std::getenv(name.c_str());
        if (value == nullptr)
            throw ConfShapeError{"environment variable " + msb::quoted(name) + " is not set"};
        out.append(text.substr(at, open - at)).append(value);
        at = close + 1;
    }
    return out.append(text.substr(at));
}

std::string conf_string(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kString) wrong_type(node, "a string");
    return substitute(node.text);
}

bool conf_bool(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kBool) wrong_type(node, "a boolean");
    return node.boolean;
}

const std::vector<YamlNode>& conf_list(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kList) wrong_type(node, "a sequence");
    return node.items;
}

std::vector<std::string> conf_strings(const YamlNode& node) {
    std::vector<std::string> words;
    for (const YamlNode& item : conf_list(node))
        words.push_back(conf_string(item));
    return words;
}

std::map<std::string, std::string> conf_string_map(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kMap) wrong_type(node, "a map");
    std::map<std::string, std::string> map;
    for (const auto& [key, value] : node.entries)
        map.emplace(key, conf_string(value));
    return map;
}

std::string alternatives(std::span<const std::string_view> words) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i)
        text += (i == 0             ? ""
                 : words.size() > 2 ? ", "
                                    : " or ") +
                ("`" + std::string(words[i]) + "`");
    return words.size() > 2 ? "one of " + text : text;
}

std::string conf_word(const YamlNode& node, std::initializer_list<std::string_view> words) {
    if (node.kind != YamlNode::Kind::kString) wrong_type(node, "a string");
    if (std::ranges::find(words, node.text) == words.end())
        throw ConfShapeError{"unknown variant `" + node.text + "`, expected " +
                             alternatives({words.begin(), words.size()})};
    return node.text;
}

ConfMap::ConfMap(const YamlNode& node, std::string_view name,
                 std::initializer_list<std::string_view> fields)
    : node_(node) {
    if (node.kind != YamlNode::Kind::kMap) wrong_type(node, "struct " + std::string(name));
    for (const auto& [key, value] : node.entries)
        if (std::ranges::find(fields, key) == fields.end())
            throw ConfShapeError{"unknown field `" + key + "`, expected " +
                                 alternatives({fields.begin(), fields.size()})};
}

const YamlNode& ConfMap::require(std::string_view key) const {
    const YamlNode* found = find(key);
    if (found == nullptr) throw ConfShapeError{"missing field `" + std::string(key) + "`"};
    return *found;
}

std::optional<std::string> ConfMap::optional_string(std::string_view key) const {
    const YamlNode* found = find(key);
    return found == nullptr ? std::nullopt : std::optional(conf_string(*found));
}

bool ConfMap::flag(std::string_view key) const {
    const YamlNode* found = find(key);
    return found != nullptr && conf_bool(*found);
}

}  // namespace msb::cli
