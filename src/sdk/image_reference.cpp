#include "sdk/image_reference.h"

#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace msb::sdk {

namespace {

constexpr std::size_t kMaxRepository = 255;
constexpr std::size_t kMaxTag = 128;
constexpr std::string_view kDefaultRegistry = "docker.io";

[[noreturn]] void invalid(std::string_view why) {
    throw Error(ErrorCode::kCustom, "invalid image reference: " + std::string(why));
}
[[noreturn]] void bad_format() {
    invalid("invalid reference format");
}

bool is_lower_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
bool is_alnum(char c) {
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}
bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Runs of [a-z0-9] joined by ".", "_", "__" or any number of "-".
bool is_path_component(std::string_view text) {
    if (text.empty() || !is_lower_or_digit(text.front()) || !is_lower_or_digit(text.back()))
        return false;
    for (std::size_t i = 0; i < text.size();) {
        if (is_lower_or_digit(text[i])) {
            ++i;
            continue;
        }
        const char separator = text[i];
        std::size_t length = 0;
        while (i < text.size() && text[i] == separator)
            ++i, ++length;
        if (separator != '.' && separator != '_' && separator != '-') return false;
        if ((separator == '.' && length > 1) || (separator == '_' && length > 2)) return false;
        if (!is_lower_or_digit(text[i]))
            return false;  // text ends alphanumerically, so there is one more
    }
    return true;
}

bool is_domain(std::string_view text) {
    if (std::size_t colon = text.find(':'); colon != std::string_view::npos) {
        std::string_view port = text.substr(colon + 1);
        if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos)
            return false;
        text = text.substr(0, colon);
    }
    for (std::string_view label : split(text, '.')) {
        if (label.empty() || !is_alnum(label.front()) || !is_alnum(label.back())) return false;
        for (char c : label) {
            if (!is_alnum(c) && c != '-') return false;
        }
    }
    return true;
}

bool is_tag(std::string_view text) {
    if (text.empty() || text.size() > kMaxTag || text.front() == '.' || text.front() == '-')
        return false;
    for (char c : text) {
        if (!is_alnum(c) && c != '_' && c != '.' && c != '-') return false;
    }
    return true;
}

void check_digest(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos || colon == 0) bad_format();
    const std::string_view algorithm = text.substr(0, colon);
    const std::string_view digits = text.substr(colon + 1);
    if (digits.size() < 32) bad_format();
    for (char c : digits) {
        if (!is_hex(c)) bad_format();
    }
    constexpr std::array<std::pair<std::string_view, std::size_t>, 3> kKnown{
        {{"sha256", 64}, {"sha384", 96}, {"sha512", 128}}};
    for (const auto& [name, length] : kKnown) {
        if (algorithm != name) continue;
        if (digits.size() != length) invalid("invalid checksum digest length");
        return;
    }
    invalid("unsupported digest algorithm");
}

}  // namespace

std::string normalize_image_reference(std::string_view text) {
    if (text.empty()) invalid("repository name must have at least one component");
    std::string_view name = text;
    std::optional<std::string_view> digest;
    std::optional<std::string_view> tag;
    if (std::size_t at = name.find('@'); at != std::string_view::npos) {
        digest = name.substr(at + 1);
        name = name.substr(0, at);
    }
    // A colon after the last slash starts a tag; before it, it belongs to a port.
    const std::size_t slash = name.rfind('/');
    const std::size_t colon = name.rfind(':');
    if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
        tag = name.substr(colon + 1);
        name = name.substr(0, colon);
        if (!is_tag(*tag)) bad_format();
    }
    std::string registry(kDefaultRegistry);
    std::string_view repository = name;
    if (std::size_t first = name.find('/'); first != std::string_view::npos) {
        std::string_view head = name.substr(0, first);
        if (head.find_first_of(".:") != std::string_view::npos || head == "localhost") {
            if (!is_domain(head)) bad_format();
            registry =
                head == "index.docker.io" ? std::string(kDefaultRegistry) : std::string(head);
            repository = name.substr(first + 1);
        }
    }
    for (std::string_view component : split(repository, '/')) {
        if (!is_path_component(component)) bad_format();
    }
    if (digest) check_digest(*digest);
    std::string full(repository);
    if (registry == kDefaultRegistry && full.find('/') == std::string::npos)
        full = "library/" + full;
    if (full.size() > kMaxRepository)
        invalid("repository name must not be more than 255 characters");
    std::string result = registry + "/" + full;
    if (tag)
        result += ":" + std::string(*tag);
    else if (!digest)
        result += ":latest";
    if (digest) result += "@" + std::string(*digest);
    return result;
}

}  // namespace msb::sdk
