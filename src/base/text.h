// Small string helpers shared by parsers of flags, option lists and files.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb {

std::string_view trim(std::string_view text);  // ASCII white space
std::vector<std::string_view> split(std::string_view text,
                                    char separator);  // "a,,b" -> "a", "", "b"
std::string join(const std::vector<std::string>& parts, std::string_view separator);
bool iequals(std::string_view a, std::string_view b);  // ASCII case-insensitive
// A string in double quotes with C escapes, as Rust's {:?} prints it.
std::string quoted(std::string_view text);

// The whole text as a decimal integer of the type (a leading '+' is accepted, as Rust does).
template <class Int>
std::optional<Int> parse_integer(std::string_view text) {
    if (text.size() > 1 && text.front() == '+') text.remove_prefix(1);
    if (!text.empty() && text.front() == '+') return std::nullopt;
    Int value{};
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}
// Rust's words for why parse_integer failed: "cannot parse integer from empty string", "invalid
// digit found in string", "number too large to fit in target type", "number too small to fit in
// target type".
template <class Int>
std::string_view parse_integer_error(std::string_view text) {
    if (text.empty()) return "cannot parse integer from empty string";
    Int value{};
    std::string_view digits = text;
    if (digits.size() > 1 && digits.front() == '+') digits.remove_prefix(1);
    auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (ec == std::errc::result_out_of_range && end == digits.data() + digits.size())
        return digits.front() == '-' ? "number too small to fit in target type"
                                     : "number too large to fit in target type";
    return "invalid digit found in string";
}

}  // namespace msb
