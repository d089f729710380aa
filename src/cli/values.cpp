#include "cli/values.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/time.h"

namespace msb::cli {

namespace {

constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();
constexpr std::size_t kMaxSandboxName = 128;     // bytes, spec/state.md section 8
constexpr std::size_t kMaxScript = 16 << 20;     // bytes of one --script-path file
constexpr std::int64_t kSecond = 1'000'000'000;  // ns

std::uint64_t saturating_multiply(std::uint64_t a, std::uint64_t b) {
    std::uint64_t product = 0;
    return __builtin_mul_overflow(a, b, &product) ? kMax64 : product;
}

template <class Int>
Int integer_or_fail(std::string_view text, const std::string& before = {}) {
    if (const auto value = parse_integer<Int>(text)) return *value;
    fail_value(before + std::string(parse_integer_error<Int>(text)));
}

// A float as Rust reads it: no hexadecimal, no white space, "inf" and "nan" in any case.
double parse_float(std::string_view text) {
    if (text.empty()) fail_value("invalid size: cannot parse float from empty string");
    std::string_view digits = text;
    if (digits.size() > 1 && digits.front() == '+' && digits[1] != '-' && digits[1] != '+')
        digits.remove_prefix(1);
    double value = 0;
    const auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole =
        end == digits.data() + digits.size() && digits.find('(') == std::string_view::npos;
    if (!whole || status == std::errc::invalid_argument)
        fail_value("invalid size: invalid float literal");
    if (status == std::errc::result_out_of_range) {
        // Either too big for a double or too close to zero; the exponent's sign tells.
        const auto exponent = digits.find_first_of("eE");
        const bool tiny =
            exponent != std::string_view::npos && digits.substr(exponent + 1).starts_with('-');
        return tiny ? 0.0 : std::numeric_limits<double>::infinity();
    }
    return value;
}

// The trailing letter's factor, removed from the text; 1 without one.
std::uint64_t take_unit(std::string_view& text,
                        std::initializer_list<std::pair<char, std::uint64_t>> units) {
    for (const auto& [letter, factor] : units) {
        if (text.empty() || text.back() != letter) continue;
        text.remove_suffix(1);
        return factor;
    }
    return 1;
}

std::string decode_escapes(std::string_view text) {
    std::string decoded;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            decoded += text[i];
            continue;
        }
        const char next = text[++i];
        switch (next) {
            case 'n':
                decoded += '\n';
                break;
            case 't':
                decoded += '\t';
                break;
            case 'r':
                decoded += '\r';
                break;
            case '\\':
                decoded += '\\';
                break;
            case '"':
                decoded += '"';
                break;
            case '\'':
                decoded += '\'';
                break;
            default:
                decoded += '\\';
                decoded += next;
        }
    }
    return decoded;
}

bool has_time_zone(std::string_view text) {
    if (text.ends_with('Z') || text.ends_with('z')) return true;
    const auto time = text.find_first_of("Tt ");
    return time != std::string_view::npos &&
           text.find_first_of("+-", time) != std::string_view::npos;
}

}  // namespace

void fail_value(const std::string& text) {
    throw Error(ErrorCode::kCustom, text);
}

std::uint32_t parse_size_mib(std::string_view text) {
    text = trim(text);
    if (text.ends_with('G') || text.ends_with('g')) {
        text.remove_suffix(1);
        const double mib = parse_float(trim(text)) * 1024.0;
        if (!std::isfinite(mib) || mib < 0) fail_value("size must be a finite positive number");
        if (mib > std::numeric_limits<std::uint32_t>::max()) fail_value("size too large");
        return static_cast<std::uint32_t>(mib);
    }
    if (text.ends_with('M') || text.ends_with('m')) {
        text.remove_suffix(1);
        return integer_or_fail<std::uint32_t>(trim(text), "invalid size: ");
    }
    return integer_or_fail<std::uint32_t>(text, "invalid size (expected e.g. 512M, 1G): ");
}

std::uint64_t parse_bytes(std::string_view text) {
    std::string_view digits = text;
    const std::uint64_t factor = take_unit(digits, {{'K', 1024},
                                                    {'k', 1024},
                                                    {'M', 1024 * 1024},
                                                    {'m', 1024 * 1024},
                                                    {'G', 1024 * 1024 * 1024},
                                                    {'g', 1024 * 1024 * 1024}});
    const auto value = integer_or_fail<std::uint64_t>(
        digits, "invalid size `" + std::string(text) + "` (expected raw bytes or K/M/G suffix): ");
    std::uint64_t bytes = 0;
    if (__builtin_mul_overflow(value, factor, &bytes))
        fail_value("size `" + std::string(text) + "` overflows u64 bytes");
    return bytes;
}

std::uint64_t parse_seconds(std::string_view text) {
    const std::uint64_t factor = take_unit(text, {{'s', 1}, {'m', 60}, {'h', 3600}});
    return saturating_multiply(integer_or_fail<std::uint64_t>(text), factor);
}

std::chrono::milliseconds parse_milliseconds(std::string_view text, std::string_view flag) {
    std::uint64_t value = 0;
    try {
        if (text.ends_with("ms")) {
            value = integer_or_fail<std::uint64_t>(text.substr(0, text.size() - 2));
        } else {
            value = saturating_multiply(parse_seconds(text), 1000);
        }
    } catch (const Error& error) {
        fail_value(std::string(flag) + ": " + error.what());
    }
    constexpr std::uint64_t kLongest =
        std::numeric_limits<std::int64_t>::max() / 1'000'000;  // fits nanoseconds too
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::min(value, kLongest)));
}

std::int64_t parse_log_time(std::string_view text, std::int64_t now_ns) {
    if (has_time_zone(text))
        if (const auto absolute = parse_timestamp(text)) return *absolute;
    std::string_view digits = text;
    const std::uint64_t unit = take_unit(digits, {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}});
    const auto value = parse_integer<std::uint64_t>(digits);
    if (digits.size() == text.size() || !value)
        fail_value("could not parse time " + quoted(text) + " (expected RFC 3339 or `5m` etc.)");
    const auto seconds =
        std::min(saturating_multiply(*value, unit), static_cast<std::uint64_t>(now_ns / kSecond));
    return now_ns - static_cast<std::int64_t>(seconds) * kSecond;
}

KeyValue parse_env(std::string_view text) {
    if (const auto equals = text.find('='); equals != std::string_view::npos)
        return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
    const std::string key(text);
    const char* value = key.empty() ? nullptr : std::getenv(key.c_str());
    if (!value) fail_value("environment variable '" + key + "' not set");
    return {key, value};
}

KeyValue parse_label(std::string_view text) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) return {std::string(text), ""};
    return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

std::string rlimit_resource(std::string_view text) {
    static constexpr std::string_view kResources[] = {
        "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
        "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
    std::string resource;
    for (char c : text)
        resource += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (std::find(std::begin(kResources), std::end(kResources), resource) == std::end(kResources))
        fail_value("unknown rlimit resource: " + std::string(text));
    return resource;
}

RlimitValue parse_rlimit(std::string_view text) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos) fail_value("rlimit must be in format RESOURCE=LIMIT");
    RlimitValue limit;
    limit.resource = rlimit_resource(text.substr(0, equals));
    const auto parts = split(text.substr(equals + 1), ':');
    if (parts.size() > 2) fail_value("too many ':' separators");
    limit.soft = integer_or_fail<std::uint64_t>(parts[0], "invalid soft limit: ");
    limit.hard = parts.size() == 2
                     ? integer_or_fail<std::uint64_t>(parts[1], "invalid hard limit: ")
                     : limit.soft;
    if (limit.soft > limit.hard) fail_value("soft limit cannot exceed hard limit");
    return limit;
}

void check_shell(std::string_view shell) {
    if (shell.empty()) fail_value("--shell must not be empty");
    constexpr std::string_view kForbidden(" \t\n\v\f\r\0", 7);
    if (shell.find_first_of(kForbidden) != std::string_view::npos)
        fail_value("--shell must not contain whitespace or NUL (got " + quoted(shell) +
                   "); use --script-raw or --script-path if you need a custom shebang");
    if (shell == "/") fail_value("--shell \"/\" is not a valid interpreter");
}

std::string script_with_shebang(std::string_view body, std::string_view shell) {
    const bool path = shell.find('/') != std::string_view::npos;
    std::string script = (path ? "#!" : "#!/usr/bin/env ") + std::string(shell) + "\n";
    script += body;
    if (!script.ends_with('\n')) script += '\n';
    return script;
}

std::map<std::string, std::string> collect_scripts(const std::vector<std::string>& snippets,
                                                   const std::vector<std::string>& raw,
                                                   const std::vector<std::string>& paths,
                                                   std::string_view shell) {
    std::map<std::string, std::string> scripts;
    const auto add = [&](std::string_view entry, std::string_view flag, char separator,
                         std::string_view form, const auto& body_of) {
        const auto at = entry.find(separator);
        if (at == std::string_view::npos)
            fail_value(std::string(flag) + " must be in format " + std::string(form));
        if (at == 0) fail_value("script name must not be empty (" + std::string(form) + ")");
        const std::string name(entry.substr(0, at));
        if (scripts.contains(name))
            fail_value("script name '" + name + "' specified more than once");
        scripts.emplace(name, body_of(entry.substr(at + 1)));
    };
    for (const auto& entry : snippets)
        add(entry, "script", '=', "NAME=BODY", [&](std::string_view body) {
            return script_with_shebang(decode_escapes(body), shell);
        });
    for (const auto& entry : raw)
        add(entry, "script-raw", '=', "NAME=BODY",
            [](std::string_view body) { return std::string(body); });
    for (const auto& entry : paths) {
        add(entry, "script-path", ':', "NAME:PATH", [](std::string_view path) {
            try {
                return read_file(std::string(path), kMaxScript);
            } catch (const Error& error) {
                fail_value("failed to read script file '" + std::string(path) +
                           "': " + error.detail());
            }
        });
    }
    return scripts;
}

bool is_path(std::string_view text) {
    return text == "." || text == ".." || text.starts_with("/") || text.starts_with("./") ||
           text.starts_with("../");
}

std::size_t parse_named(std::string_view text, std::string_view what,
                        const std::vector<std::string_view>& names) {
    std::string expected;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == text) return i;
        expected += (i ? ", " : "") + std::string(names[i]);
    }
    fail_value("invalid " + std::string(what) + ": " + std::string(text) +
               " (expected: " + expected + ")");
}

void check_sandbox_name(std::string_view name) {
    const auto alphanumeric = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    };
    if (name.empty()) throw Error(ErrorCode::kInvalidConfig, "sandbox name must not be empty");
    if (name.size() > kMaxSandboxName)
        throw Error(ErrorCode::kInvalidConfig, "sandbox name must be at most 128 characters: got " +
                                                   std::to_string(name.size()));
    const bool fine =
        alphanumeric(name.front()) && std::all_of(name.begin(), name.end(), [&](char c) {
            return alphanumeric(c) || c == '.' || c == '-' || c == '_';
        });
    if (!fine)
        throw Error(ErrorCode::kInvalidConfig,
                    "sandbox name must start with an alphanumeric and contain only alphanumeric, "
                    "dots, hyphens, and "
                    "underscores: " +
                        std::string(name));
}

std::string generate_name() {
    std::array<unsigned char, 4> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        throw_os_error(errno, "getrandom");
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string name = "msb-";
    for (unsigned char byte : random) {
        name += kDigits[byte >> 4];
        name += kDigits[byte & 15];
    }
    return name;
}

}  // namespace msb::cli
