#include "image/reference.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

namespace msb::image {

namespace {

constexpr std::size_t kMaxRepository = 255;
constexpr std::size_t kMaxTag = 128;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}
bool is_alpha(char c) {
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}
bool is_alnum(char c) {
    return is_alpha(c) || is_digit(c);
}
bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

[[noreturn]] void invalid(const char* why) {
    throw Error(ErrorCode::kCustom, std::string("invalid image reference: ") + why);
}
[[noreturn]] void bad_format() {
    invalid("invalid reference format");
}

// label *("." label) [":" digits]
bool is_domain(std::string_view text) {
    std::size_t colon = text.find(':');
    if (colon != std::string_view::npos) {
        std::string_view port = text.substr(colon + 1);
        if (port.empty() || !std::ranges::all_of(port, is_digit)) return false;
        text = text.substr(0, colon);
    }
    return std::ranges::all_of(split(text, '.'), [](std::string_view label) {
        return !label.empty() && is_alnum(label.front()) && is_alnum(label.back()) &&
               std::ranges::all_of(label, [](char c) { return is_alnum(c) || c == '-'; });
    });
}

// Lowercase words joined by ".", "_", "__" or any number of "-".
bool is_path_component(std::string_view text) {
    std::size_t at = 0;
    auto word = [&] {
        std::size_t start = at;
        while (at < text.size() && (is_lower(text[at]) || is_digit(text[at])))
            ++at;
        return at > start;
    };
    if (!word()) return false;
    while (at < text.size()) {
        std::size_t start = at;
        while (at < text.size() && text[at] == text[start])
            ++at;
        std::size_t length = at - start;
        bool separator = text[start] == '-' || (text[start] == '.' && length == 1) ||
                         (text[start] == '_' && length <= 2);
        if (!separator || !word()) return false;
    }
    return true;
}

bool is_tag(std::string_view tag) {
    auto word = [](char c) {
        return is_alnum(c) || c == '_' || (static_cast<unsigned char>(c) & 0x80) != 0;
    };
    return !tag.empty() && tag.size() <= kMaxTag && word(tag.front()) &&
           std::ranges::all_of(tag, [&](char c) { return word(c) || c == '.' || c == '-'; });
}

void check_reference_digest(std::string_view digest) {
    std::size_t colon = digest.find(':');
    if (colon == std::string_view::npos) bad_format();
    std::string_view algorithm = digest.substr(0, colon);
    std::string_view encoded = digest.substr(colon + 1);
    bool starts_part = true;  // of the algorithm, after each of -_+.
    for (char c : algorithm) {
        if (starts_part ? !is_alpha(c) : !(is_alnum(c) || std::string_view("-_+.").contains(c)))
            bad_format();
        starts_part = std::string_view("-_+.").contains(c);
    }
    if (starts_part || encoded.size() < 32 || !std::ranges::all_of(encoded, is_hex)) bad_format();
    static constexpr std::array<std::pair<std::string_view, std::size_t>, 3> kLengths{
        {{"sha256", 64}, {"sha384", 96}, {"sha512", 128}}};
    for (const auto& [name, length] : kLengths) {
        if (algorithm != name) continue;
        if (encoded.size() != length) invalid("invalid checksum digest length");
        return;
    }
    invalid("unsupported digest algorithm");
}

bool is_registry(std::string_view first) {
    return first.find_first_of(".:") != std::string_view::npos || first == "localhost";
}

}  // namespace

Reference parse_reference(std::string_view text) {
    if (text.empty()) invalid("repository name must have at least one component");
    Reference reference;
    std::string_view name = text;
    if (std::size_t at = name.find('@'); at != std::string_view::npos) {
        reference.digest = name.substr(at + 1);
        name = name.substr(0, at);
    }
    // A colon after the last slash starts the tag; one before it belongs to the registry's port.
    std::size_t slash = name.rfind('/');
    std::size_t colon = name.find(':', slash == std::string_view::npos ? 0 : slash);
    if (colon != std::string_view::npos) {
        reference.tag = name.substr(colon + 1);
        name = name.substr(0, colon);
        if (!is_tag(*reference.tag)) bad_format();
    }
    std::size_t first_slash = name.find('/');
    std::string_view first = name.substr(0, first_slash);
    if (first_slash != std::string_view::npos && is_registry(first)) {
        if (!is_domain(first)) bad_format();
        reference.registry = first;
        reference.repository = name.substr(first_slash + 1);
    } else {
        reference.registry = "docker.io";
        reference.repository = name;
    }
    if (!std::ranges::all_of(split(reference.repository, '/'), is_path_component)) bad_format();
    if (reference.digest) check_reference_digest(*reference.digest);
    if (reference.registry == "index.docker.io") reference.registry = "docker.io";
    if (reference.registry == "docker.io" && reference.repository.find('/') == std::string::npos)
        reference.repository = "library/" + reference.repository;
    if (reference.repository.size() > kMaxRepository)
        invalid("repository name must not be more than 255 characters");
    if (!reference.tag && !reference.digest) reference.tag = "latest";
    return reference;
}

std::string Reference::canonical() const {
    std::string text = registry + "/" + repository;
    if (tag) text += ":" + *tag;
    if (digest) text += "@" + *digest;
    return text;
}

std::string Reference::api_host() const {
    return registry == "docker.io" ? "index.docker.io" : registry;
}
std::string Reference::cache_key() const {
    return sha256_hex(canonical());
}

void check_digest(std::string_view digest) {
    auto fail = [](const char* what, std::string_view value) {
        throw Error(ErrorCode::kCustom, std::string("manifest parse error: invalid digest") + what +
                                            std::string(value));
    };
    std::size_t colon = digest.find(':');
    if (colon == std::string_view::npos) fail(" (missing ':'): ", digest);
    std::string_view algorithm = digest.substr(0, colon);
    std::string_view encoded = digest.substr(colon + 1);
    if (algorithm.empty() || encoded.empty()) fail(" (empty component): ", digest);
    bool separator = true;
    for (char c : algorithm) {
        bool now_separator = std::string_view("+._-").contains(c);
        if ((!now_separator && !is_lower(c) && !is_digit(c)) || (separator && now_separator))
            fail(" algorithm: ", algorithm);
        separator = now_separator;
    }
    if (separator) fail(" algorithm: ", algorithm);
    bool valid = std::ranges::all_of(
        encoded, [](char c) { return is_alnum(c) || c == '=' || c == '_' || c == '-'; });
    if (!valid || encoded.size() > 256) fail(" encoded value: ", encoded.substr(0, 256));
}

std::string digest_file_name(std::string_view digest) {
    std::string name;
    for (char c : digest)
        name += is_alnum(c) || std::string_view("+.=_-").contains(c) ? c : '_';
    return name;
}

bool is_sha256(std::string_view digest) {
    return digest.size() == 71 && digest.starts_with("sha256:") &&
           std::ranges::all_of(digest.substr(7),
                               [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

}  // namespace msb::image
