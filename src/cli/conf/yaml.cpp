#include "cli/conf/yaml.h"

#include <yaml.h>

#include <charconv>
#include <optional>
#include <set>

#include "base/encoding.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

constexpr std::string_view kCoreTag = "tag:yaml.org,2002:";

// Frees what the parser allocated for an event.
class Event {
  public:
    explicit Event(yaml_parser_t& parser) { ok_ = yaml_parser_parse(&parser, &event_) != 0; }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() {
        if (ok_) yaml_event_delete(&event_);
    }
    bool ok() const { return ok_; }
    const yaml_event_t* operator->() const { return &event_; }

  private:
    yaml_event_t event_{};
    bool ok_ = false;
};

const char* text_of(const yaml_char_t* text) {
    return reinterpret_cast<const char*>(text);
}

template <class Number>
bool parse_whole(std::string_view text, Number& value, int base) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc() && end == text.data() + text.size();
}

// The core schema's integers: decimal with a sign, 0o and 0x.
std::optional<std::int64_t> core_integer(std::string_view text) {
    std::int64_t value = 0;
    if (text.starts_with("0x"))
        return parse_whole(text.substr(2), value, 16) ? std::optional(value) : std::nullopt;
    if (text.starts_with("0o"))
        return parse_whole(text.substr(2), value, 8) ? std::optional(value) : std::nullopt;
    if (text.starts_with('+')) text.remove_prefix(1);
    if (text.starts_with('+')) return std::nullopt;
    return parse_whole(text, value, 10) ? std::optional(value) : std::nullopt;
}

bool core_float(std::string_view text) {
    if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
    if (text == ".inf" || text == ".Inf" || text == ".INF" || text == ".nan" || text == ".NaN" ||
        text == ".NAN")
        return true;
    if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string_view::npos ||
        text.find_first_of("0123456789") == std::string_view::npos)
        return false;
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return end == text.data() + text.size() && error != std::errc::invalid_argument;
}

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
    for (std::string_view word : words)
        if (text == word) return true;
    return false;
}

YamlNode plain_scalar(std::string text) {
    YamlNode node;
    if (one_of(text, {"", "~", "null", "Null", "NULL"})) {
        node.kind = YamlNode::Kind::kNull;
    } else if (one_of(text, {"true", "True", "TRUE", "false", "False", "FALSE"})) {
        node.kind = YamlNode::Kind::kBool;
        node.boolean = text[0] == 't' || text[0] == 'T';
    } else if (auto integer = core_integer(text)) {
        node.kind = YamlNode::Kind::kInteger;
        node.integer = *integer;
    } else if (core_float(text)) {
        node.kind = YamlNode::Kind::kFloat;
    } else {
        node.kind = YamlNode::Kind::kString;
    }
    node.text = std::move(text);
    return node;
}

class Loader {
  public:
    Loader(std::string_view text, std::string_view path, std::string_view kind)
        : path_(path), kind_(kind) {
        if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc();
        yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                     text.size());
    }
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;
    ~Loader() { yaml_parser_delete(&parser_); }

    YamlNode load() {
        YamlNode root;
        bool any = false;
        for (;;) {
            const Event event(parser_);
            check(event);
            if (event->type == YAML_STREAM_END_EVENT) return root;
            if (event->type == YAML_DOCUMENT_START_EVENT && any)
                refuse(event->start_mark, "a second document");
            if (event->type == YAML_STREAM_START_EVENT ||
                event->type == YAML_DOCUMENT_START_EVENT || event->type == YAML_DOCUMENT_END_EVENT)
                continue;
            root = node(event);
            any = true;
        }
    }

  private:
    // An open list or map; nesting is bounded by kMaxYamlDepth, so this stack is the recursion.
    struct Open {
        YamlNode node;
        bool expects_key = false;
        std::string key;
        std::set<std::string> keys;  // of a map
    };

    // The node that begins with `first`; consumes its events.
    YamlNode node(const Event& first) {
        std::vector<Open> stack;
        std::optional<YamlNode> whole = enter(first, stack);
        while (!whole) {
            const Event event(parser_);
            check(event);
            if (event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT) {
                YamlNode done = std::move(stack.back().node);
                stack.pop_back();
                whole = attach(std::move(done), stack);
            } else {
                whole = enter(event, stack);
            }
        }
        return std::move(*whole);
    }

    std::optional<YamlNode> enter(const Event& event, std::vector<Open>& stack) {
        if (++nodes_ > kMaxYamlNodes) refuse(event->start_mark, "too many nodes");
        switch (event->type) {
            case YAML_SCALAR_EVENT:
                return scalar(event, stack);
            case YAML_SEQUENCE_START_EVENT:
                check_marks(event, event->data.sequence_start.anchor,
                            event->data.sequence_start.tag, "seq");
                open(event, YamlNode::Kind::kList, stack);
                return std::nullopt;
            case YAML_MAPPING_START_EVENT:
                check_marks(event, event->data.mapping_start.anchor, event->data.mapping_start.tag,
                            "map");
                open(event, YamlNode::Kind::kMap, stack);
                return std::nullopt;
            case YAML_ALIAS_EVENT:
                refuse_at(event->start_mark, "YAML anchors and aliases are not supported");
            default:
                refuse(event->start_mark, "unexpected content");
        }
    }

    void open(const Event& event, YamlNode::Kind kind, std::vector<Open>& stack) {
        if (!stack.empty() && stack.back().expects_key)
            refuse(event->start_mark, "a key must be a string");
        if (stack.size() >= kMaxYamlDepth) refuse(event->start_mark, "nesting too deep");
        stack.push_back({});
        stack.back().node.kind = kind;
        stack.back().expects_key = kind == YamlNode::Kind::kMap;
    }

    std::optional<YamlNode> scalar(const Event& event, std::vector<Open>& stack) {
        const auto& raw = event->data.scalar;
        check_marks(event, raw.anchor, raw.tag, nullptr);
        std::string text(text_of(raw.value), raw.length);
        if (!stack.empty() && stack.back().expects_key) {
            take_key(event->start_mark, std::move(text),
                     raw.plain_implicit != 0 && raw.style == YAML_PLAIN_SCALAR_STYLE, stack.back());
            return std::nullopt;
        }
        const std::string_view tag = raw.tag == nullptr ? "" : text_of(raw.tag);
        // Quotes and !!str make a string of anything; the other core tags say what a plain scalar is anyway.
        const bool quoted = raw.style != YAML_PLAIN_SCALAR_STYLE;
        YamlNode value;
        if (tag.ends_with(":str") || (tag.empty() && quoted)) {
            value.kind = YamlNode::Kind::kString;
            value.text = std::move(text);
        } else {
            value = plain_scalar(std::move(text));
        }
        return attach(std::move(value), stack);
    }

    void take_key(const yaml_mark_t& mark, std::string key, bool plain, Open& map) {
        if (plain && key == "<<") refuse(mark, "YAML merge keys are not allowed");
        if (!map.keys.insert(key).second) refuse(mark, "duplicate mapping key: " + key);
        map.key = std::move(key);
        map.expects_key = false;
    }

    // Puts a finished node where it belongs; gives it back when it is the root.
    static std::optional<YamlNode> attach(YamlNode done, std::vector<Open>& stack) {
        if (stack.empty()) return done;
        Open& parent = stack.back();
        if (parent.node.kind == YamlNode::Kind::kList) {
            parent.node.items.push_back(std::move(done));
        } else {
            parent.node.entries.push_back({std::move(parent.key), std::move(done)});
            parent.expects_key = true;
        }
        return std::nullopt;
    }

    // `collection`: the only tag a list or map may carry; nullptr for scalars.
    void check_marks(const Event& event, const yaml_char_t* anchor, const yaml_char_t* tag,
                     const char* collection) {
        if (anchor != nullptr)
            refuse_at(event->start_mark, "YAML anchors and aliases are not supported");
        if (tag == nullptr) return;
        std::string_view name = text_of(tag);
        const bool core = name.starts_with(kCoreTag);
        if (core) name.remove_prefix(kCoreTag.size());
        const bool known = collection != nullptr
                               ? name == collection
                               : one_of(name, {"str", "int", "float", "bool", "null"});
        if (!core || !known) refuse_at(event->start_mark, "custom YAML tags are not supported");
    }

    void check(const Event& event) const {
        if (event.ok()) return;
        const char* problem = parser_.problem == nullptr ? "unreadable" : parser_.problem;
        fail_value("invalid YAML in " + std::string(path_) + ": " + problem + " at line " +
                   std::to_string(parser_.problem_mark.line + 1) + " column " +
                   std::to_string(parser_.problem_mark.column + 1));
    }
    [[noreturn]] void refuse_at(const yaml_mark_t& mark, const std::string& why) const {
        fail_value(std::string(path_) + ":" + std::to_string(mark.line + 1) + ":" +
                   std::to_string(mark.column + 1) + ": " + why);
    }
    [[noreturn]] void refuse(const yaml_mark_t& mark, const std::string& why) const {
        fail_value("invalid " + std::string(kind_) + " " + std::string(path_) + ": error: line " +
                   std::to_string(mark.line + 1) + " column " + std::to_string(mark.column + 1) +
                   ": " + why);
    }

    std::string_view path_;
    std::string_view kind_;
    yaml_parser_t parser_{};
    std::size_t nodes_ = 0;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
    for (const auto& [name, value] : entries)
        if (name == key) return value.kind == Kind::kNull ? nullptr : &value;
    return nullptr;
}

YamlNode parse_yaml(std::string_view text, std::string_view path, std::string_view kind) {
    if (text.size() > kMaxYamlBytes)
        fail_value(std::string(kind) + " " + std::string(path) + " exceeds the 16 MiB input limit");
    if (!is_utf8(text))
        fail_value("invalid YAML in " + std::string(path) + ": the text is not UTF-8");
    return Loader(text, path, kind).load();
}

}  // namespace msb::cli
