#include "base/json.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/encoding.h"

namespace msb::json {

namespace {

constexpr std::size_t kMaxDepth = 128;  // serde_json's recursion limit

std::string position(std::string_view text, std::size_t offset) {
    offset = std::min(offset, text.size());
    std::string_view before = text.substr(0, offset);
    auto line = std::count(before.begin(), before.end(), '\n') + 1;
    std::size_t newline = before.rfind('\n');
    std::size_t column = newline == std::string_view::npos ? offset : offset - newline - 1;
    return " at line " + std::to_string(line) + " column " + std::to_string(column);
}

// Builds the value without recursion and refuses what the library's own builder lets pass:
// duplicate keys and unlimited nesting.
class Builder {
  public:
    bool null() { return add(nullptr); }
    bool boolean(bool value) { return add(value); }
    bool number_integer(std::int64_t value) { return add(value); }
    bool number_unsigned(std::uint64_t value) { return add(value); }
    bool number_float(double value, const std::string&) { return add(value); }
    bool string(std::string& value) { return add(std::move(value)); }
    bool binary(nlohmann::json::binary_t&) { return false; }
    bool start_object(std::size_t) { return open(Value::object()); }
    bool start_array(std::size_t) { return open(Value::array()); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }

    bool key(std::string& name) {
        if (!stack_.back().keys.insert(name).second) {
            error_ = "duplicate field `" + name + "`";
            return false;
        }
        stack_.back().key = std::move(name);
        return true;
    }

    bool parse_error(std::size_t offset, const std::string&, const nlohmann::json::exception&) {
        error_offset_ = offset;
        return false;
    }

    Value take() { return std::move(root_); }
    bool complete() const { return complete_; }
    const std::string& error() const { return error_; }
    std::optional<std::size_t> error_offset() const { return error_offset_; }

  private:
    struct Level {
        Value* value;
        std::string key;
        std::unordered_set<std::string> keys;
    };

    Value* place(Value value) {
        if (stack_.empty()) {
            root_ = std::move(value);
            complete_ = !root_.is_structured();
            return &root_;
        }
        Level& top = stack_.back();
        if (top.value->is_array()) {
            top.value->push_back(std::move(value));
            return &top.value->back();
        }
        // Keys are known to be new: append without the linear search of operator[].
        auto& object = top.value->get_ref<Value::object_t&>();
        object.Value::object_t::Container::emplace_back(std::move(top.key), std::move(value));
        return &object.back().second;
    }

    bool add(Value value) {
        place(std::move(value));
        return true;
    }

    bool open(Value container) {
        if (stack_.size() >= kMaxDepth) {
            error_ = "recursion limit exceeded";
            return false;
        }
        Value* placed = place(std::move(container));
        stack_.push_back({placed, {}, {}});
        return true;
    }

    bool close() {
        stack_.pop_back();
        if (stack_.empty()) complete_ = true;
        return true;
    }

    Value root_;
    std::vector<Level> stack_;
    bool complete_ = false;
    std::string error_;
    std::optional<std::size_t> error_offset_;
};

std::string quoted_json(const Value& value) {
    return dump(value);
}

// "integer `5`": how serde describes a value it did not expect.
std::string unexpected(const Value& value) {
    switch (value.type()) {
        case Value::value_t::null:
            return "null";
        case Value::value_t::boolean:
            return "boolean `" + quoted_json(value) + "`";
        case Value::value_t::number_integer:
        case Value::value_t::number_unsigned:
            return "integer `" + quoted_json(value) + "`";
        case Value::value_t::number_float:
            return "floating point `" + quoted_json(value) + "`";
        case Value::value_t::string:
            return "string " + quoted_json(value);
        case Value::value_t::array:
            return "sequence";
        case Value::value_t::object:
            return "map";
        default:
            return "value";
    }
}

[[noreturn]] void wrong_type(const Value& value, std::string_view expected) {
    throw ParseError("invalid type: " + unexpected(value) + ", expected " + std::string(expected));
}

template <class Int>
constexpr std::string_view type_name() {
    if constexpr (std::is_same_v<Int, std::uint8_t>) return "u8";
    if constexpr (std::is_same_v<Int, std::uint16_t>) return "u16";
    if constexpr (std::is_same_v<Int, std::uint32_t>) return "u32";
    if constexpr (std::is_same_v<Int, std::uint64_t>) return "u64";
    if constexpr (std::is_same_v<Int, std::int32_t>) return "i32";
    return "i64";
}

}  // namespace

Value parse(std::string_view text) {
    if (!is_utf8(text)) throw ParseError("invalid unicode code point" + position(text, 0));
    Builder builder;
    // The library's sax_parse wants the value type of its default instantiation for binary; ours
    // has none.
    bool parsed = Value::sax_parse(text.begin(), text.end(), &builder);
    if (parsed) return builder.take();
    if (!builder.error().empty()) throw ParseError(builder.error() + position(text, text.size()));

    std::size_t offset = builder.error_offset().value_or(text.size());
    std::string_view rest = text.substr(std::min(offset, text.size()));
    bool at_end = offset > text.size() || (rest.empty() && !builder.complete());
    if (builder.complete()) throw ParseError("trailing characters" + position(text, offset));
    if (at_end || text.find_first_not_of(" \t\r\n") == std::string_view::npos)
        throw ParseError("EOF while parsing a value" + position(text, text.size()));
    throw ParseError("expected value" + position(text, offset));
}

Reader::Reader(const Value& object, std::string_view what) : object_(object) {
    if (!object.is_object()) wrong_type(object, "struct " + std::string(what));
}

const Value* Reader::find(std::string_view key) const {
    auto it = object_.find(std::string(key));
    return it == object_.end() ? nullptr : &*it;
}

bool Reader::present(std::string_view key) const {
    return find(key) != nullptr;
}

bool Reader::has(std::string_view key) const {
    const Value* value = find(key);
    return value != nullptr && !value->is_null();
}

const Value& Reader::raw(std::string_view key) const {
    const Value* value = find(key);
    if (value == nullptr) throw ParseError("missing field `" + std::string(key) + "`");
    return *value;
}

bool to_boolean(const Value& value) {
    if (!value.is_boolean()) wrong_type(value, "a boolean");
    return value.get<bool>();
}

std::string to_string(const Value& value) {
    if (!value.is_string()) wrong_type(value, "a string");
    return value.get<std::string>();
}

const Value& expect_array(const Value& value) {
    if (!value.is_array()) wrong_type(value, "a sequence");
    // Callers pass parts of a document they hold, never temporaries.
    return value;  // NOLINT(bugprone-return-const-ref-from-parameter)
}

std::vector<std::string> to_string_list(const Value& value) {
    std::vector<std::string> list;
    for (const Value& item : expect_array(value))
        list.push_back(to_string(item));
    return list;
}

template <class Int>
Int to_integer(const Value& value) {
    if (!value.is_number_integer()) wrong_type(value, type_name<Int>());
    if (value.is_number_unsigned()) {
        auto number = value.get<std::uint64_t>();
        if (std::in_range<Int>(number)) return static_cast<Int>(number);
    } else {
        auto number = value.get<std::int64_t>();
        if (std::in_range<Int>(number)) return static_cast<Int>(number);
    }
    throw ParseError("invalid value: " + unexpected(value) + ", expected " +
                     std::string(type_name<Int>()));
}

std::size_t to_variant(const Value& value, std::initializer_list<std::string_view> names) {
    return to_variant(value, std::span(names.begin(), names.size()));
}

std::size_t to_variant(const Value& value, std::span<const std::string_view> names) {
    std::string text = to_string(value);
    std::size_t index = 0;
    for (std::string_view name : names) {
        if (name == text) return index;
        ++index;
    }
    std::string message = "unknown variant `" + text + "`, expected ";
    if (names.size() > 2) message += "one of ";
    index = 0;
    for (std::string_view name : names) {
        if (index++ > 0) message += names.size() == 2 ? " or " : ", ";
        message += "`" + std::string(name) + "`";
    }
    throw ParseError(message);
}

bool Reader::boolean(std::string_view key) const {
    return to_boolean(raw(key));
}
bool Reader::boolean_or(std::string_view key, bool fallback) const {
    const Value* value = find(key);
    return value == nullptr ? fallback : to_boolean(*value);
}

template <class Int>
Int Reader::integer(std::string_view key) const {
    return to_integer<Int>(raw(key));
}
template <class Int>
Int Reader::integer_or(std::string_view key, Int fallback) const {
    const Value* value = find(key);
    return value == nullptr ? fallback : to_integer<Int>(*value);
}
template <class Int>
std::optional<Int> Reader::optional_integer(std::string_view key) const {
    if (!has(key)) return std::nullopt;
    return to_integer<Int>(raw(key));
}

std::string Reader::string(std::string_view key) const {
    return to_string(raw(key));
}
std::string Reader::string_or(std::string_view key, std::string_view fallback) const {
    const Value* value = find(key);
    return value == nullptr ? std::string(fallback) : to_string(*value);
}
std::optional<std::string> Reader::optional_string(std::string_view key) const {
    if (!has(key)) return std::nullopt;
    return to_string(raw(key));
}
std::vector<std::string> Reader::string_list(std::string_view key) const {
    return to_string_list(raw(key));
}
std::vector<std::string> Reader::string_list_or_empty(std::string_view key) const {
    const Value* value = find(key);
    return value == nullptr ? std::vector<std::string>{} : to_string_list(*value);
}
std::optional<std::vector<std::string>> Reader::optional_string_list(std::string_view key) const {
    if (!has(key)) return std::nullopt;
    return to_string_list(raw(key));
}
std::size_t Reader::variant(std::string_view key,
                            std::initializer_list<std::string_view> names) const {
    return to_variant(raw(key), names);
}
std::size_t Reader::variant_or(std::string_view key, std::initializer_list<std::string_view> names,
                               std::size_t fallback) const {
    const Value* value = find(key);
    return value == nullptr ? fallback : to_variant(*value, names);
}

#define MSB_INSTANTIATE(Int)                                           \
    template Int to_integer<Int>(const Value&);                        \
    template Int Reader::integer<Int>(std::string_view) const;         \
    template Int Reader::integer_or<Int>(std::string_view, Int) const; \
    template std::optional<Int> Reader::optional_integer<Int>(std::string_view) const;
MSB_INSTANTIATE(std::uint8_t)
MSB_INSTANTIATE(std::uint16_t)
MSB_INSTANTIATE(std::uint32_t)
MSB_INSTANTIATE(std::uint64_t)
MSB_INSTANTIATE(std::int32_t)
MSB_INSTANTIATE(std::int64_t)
#undef MSB_INSTANTIATE

std::string dump(const Value& value) {
    return value.dump(-1, ' ', false, Value::error_handler_t::replace);
}
std::string dump_pretty(const Value& value) {
    return value.dump(2, ' ', false, Value::error_handler_t::replace);
}

}  // namespace msb::json
