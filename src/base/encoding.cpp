#include "base/encoding.h"

#include <algorithm>
#include <cstdint>

namespace msb {

namespace {

constexpr std::string_view kStandard =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kUrl =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string_view alphabet(Base64 form) {
    return form == Base64::kStandardPadded ? kStandard : kUrl;
}

// The length of the valid UTF-8 sequence at the start of `bytes`; when it is invalid, 0 and in
// `bad` the length of the maximal subpart to replace (Unicode chapter 3, "U+FFFD substitution of
// maximal subparts").
std::size_t utf8_sequence(std::string_view bytes, std::size_t& bad) {
    auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
    unsigned char first = at(0);
    bad = 1;
    if (first < 0x80) return 1;
    std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) return 0;
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    for (std::size_t i = 1; i < length; ++i) {
        if (i >= bytes.size() || at(i) < low || at(i) > high) {
            bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

}  // namespace

std::string base64_encode(std::string_view data, Base64 form) {
    std::string_view digits = alphabet(form);
    std::string out;
    out.reserve((data.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < data.size(); i += 3) {
        std::size_t count = std::min<std::size_t>(3, data.size() - i);
        std::uint32_t group = 0;
        for (std::size_t j = 0; j < 3; ++j)
            group = group << 8 | (j < count ? static_cast<unsigned char>(data[i + j]) : 0U);
        for (std::size_t j = 0; j < 4; ++j) {
            if (j <= count)
                out += digits[group >> (18 - 6 * j) & 63];
            else if (form == Base64::kStandardPadded)
                out += '=';
        }
    }
    return out;
}

std::optional<std::string> base64_decode(std::string_view text, Base64 form) {
    std::string_view digits = alphabet(form);
    if (form == Base64::kStandardPadded) {
        if (text.size() % 4 != 0) return std::nullopt;
        for (int i = 0; i < 2 && text.ends_with('='); ++i)
            text.remove_suffix(1);
    }
    if (text.size() % 4 == 1) return std::nullopt;
    std::string out;
    std::uint32_t bits = 0;
    int count = 0;
    for (char c : text) {
        std::size_t value = digits.find(c);
        if (value == std::string_view::npos) return std::nullopt;
        bits = bits << 6 | static_cast<std::uint32_t>(value);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out += static_cast<char>(bits >> count & 0xff);
        }
    }
    if ((bits & ((1U << count) - 1)) != 0) return std::nullopt;  // not the canonical spelling
    return out;
}

std::string hex(std::string_view data) {
    static constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    out.reserve(data.size() * 2);
    for (char c : data) {
        out += kDigits[static_cast<unsigned char>(c) >> 4];
        out += kDigits[static_cast<unsigned char>(c) & 15];
    }
    return out;
}

std::string utf8_lossy(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size());
    while (!bytes.empty()) {
        std::size_t bad = 0;
        std::size_t length = utf8_sequence(bytes, bad);
        if (length > 0) {
            out += bytes.substr(0, length);
            bytes.remove_prefix(length);
        } else {
            out += "\xef\xbf\xbd";
            bytes.remove_prefix(bad);
        }
    }
    return out;
}

bool is_utf8(std::string_view bytes) {
    while (!bytes.empty()) {
        std::size_t bad = 0;
        std::size_t length = utf8_sequence(bytes, bad);
        if (length == 0) return false;
        bytes.remove_prefix(length);
    }
    return true;
}

}  // namespace msb
