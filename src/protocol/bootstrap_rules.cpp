#include "protocol/bootstrap_rules.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace msb::protocol {

namespace {

using Broken = std::optional<std::string>;  // the text of a broken rule

constexpr std::uint8_t kMaxIpv4Prefix = 32;
constexpr std::uint8_t kMaxIpv6Prefix = 128;
constexpr std::uint32_t kMaxFileMode = 07777;

// spec/guest-agent.md section 4.
constexpr std::array<std::string_view, 16> kRlimitNames = {
    "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
    "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};

bool has_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

std::string ascii_lower(std::string_view text) {
    std::string lower(text);
    for (char& c : lower)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

// As Rust's {:?} prints the strings that occur here. Text is UTF-8: bytes above ASCII stay.
std::string debug_quoted(std::string_view text) {
    static constexpr std::string_view kHex = "0123456789abcdef";
    std::string out = "\"";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\')
            (out += '\\') += c;
        else if (c == '\0')
            out += "\\0";
        else if (c == '\t')
            out += "\\t";
        else if (c == '\r')
            out += "\\r";
        else if (c == '\n')
            out += "\\n";
        else if (byte < 0x10)
            ((out += "\\u{") += kHex[byte]) += '}';
        else if (byte < 0x20 || byte == 0x7f)
            (((out += "\\u{") += kHex[byte >> 4]) += kHex[byte & 15]) += '}';
        else
            out += c;
    }
    return out += '"';
}

Broken check_text(std::string_view label, std::string_view value) {
    if (!value.empty() && !has_nul(value)) return {};
    return "bootstrap " + std::string(label) + " must be non-empty and must not contain NUL";
}

Broken check_optional_text(std::string_view label, const std::optional<std::string>& value) {
    return value ? check_text(label, *value) : Broken{};
}

Broken check_path(std::string_view label, std::string_view value) {
    if (Broken broken = check_text(label, value)) return broken;
    if (value.starts_with('/')) return {};
    return "bootstrap " + std::string(label) +
           " must be an absolute Linux path: " + std::string(value);
}

// The first broken one of some rules, evaluated in order.
template <class... Rules>
Broken first_of(Rules... rules) {
    Broken broken;
    static_cast<void>(((broken = rules()) || ...));
    return broken;
}

template <class T, class Rule>
Broken for_each(const std::vector<T>& list, Rule rule) {
    for (const T& item : list)
        if (Broken broken = rule(item)) return broken;
    return {};
}

Broken check_root(const DiskImageRoot& root) {
    return first_of([&] { return check_path("block-root device", root.device); },
                    [&] { return check_optional_text("block-root fstype", root.fstype); });
}

Broken check_upper(const DeviceUpper& upper) {
    return first_of([&] { return check_path("upper device", upper.device); },
                    [&] { return check_text("upper fstype", upper.fstype); });
}

Broken check_upper(const TmpfsUpper&) {
    return {};
}

Broken check_root(const OciErofsRoot& root) {
    return first_of([&] { return check_path("EROFS lower device", root.lower); },
                    [&] {
                        return std::visit([](const auto& upper) { return check_upper(upper); },
                                          root.upper);
                    });
}

Broken check_mounts(const Bootstrap& bootstrap) {
    const auto directory = [](const DirMount& mount) {
        return first_of([&] { return check_text("directory mount tag", mount.tag); },
                        [&] { return check_path("directory mount path", mount.guest_path); });
    };
    const auto file = [](const FileMount& mount) {
        return first_of([&] { return check_text("file mount tag", mount.tag); },
                        [&] { return check_text("file mount filename", mount.filename); },
                        [&] { return check_path("file mount path", mount.guest_path); });
    };
    const auto disk = [](const DiskMount& mount) {
        return first_of([&] { return check_text("disk mount id", mount.id); },
                        [&] { return check_path("disk mount path", mount.guest_path); },
                        [&] { return check_optional_text("disk mount fstype", mount.fstype); });
    };
    const auto tmpfs = [](const TmpfsMount& mount) { return check_path("tmpfs path", mount.path); };
    return first_of([&] { return for_each(bootstrap.dir_mounts, directory); },
                    [&] { return for_each(bootstrap.file_mounts, file); },
                    [&] { return for_each(bootstrap.disk_mounts, disk); },
                    [&] { return for_each(bootstrap.tmpfs_mounts, tmpfs); });
}

Broken check_prefix(std::string_view family, std::uint8_t length, std::uint8_t max) {
    if (length <= max) return {};
    return "bootstrap " + std::string(family) +
           " prefix length out of range: " + std::to_string(length);
}

Broken check_network(const GuestNetwork& network) {
    return first_of([&] { return check_text("network interface", network.interface); },
                    [&] {
                        return network.ipv4
                                   ? check_prefix("IPv4", network.ipv4->prefix_len, kMaxIpv4Prefix)
                                   : Broken{};
                    },
                    [&] {
                        return network.ipv6
                                   ? check_prefix("IPv6", network.ipv6->prefix_len, kMaxIpv6Prefix)
                                   : Broken{};
                    });
}

Broken check_rlimits(const std::vector<Rlimit>& rlimits) {
    std::array<bool, kRlimitNames.size()> seen{};
    for (const Rlimit& limit : rlimits) {
        const auto name = std::ranges::find(kRlimitNames, ascii_lower(limit.resource));
        if (name == kRlimitNames.end())
            return "bootstrap rlimits contains unknown resource: " + limit.resource;
        if (std::exchange(seen[static_cast<std::size_t>(name - kRlimitNames.begin())], true))
            return "bootstrap rlimits contains duplicate resource: " + limit.resource;
        if (limit.soft > limit.hard)
            return "bootstrap rlimit " + limit.resource + " has soft limit above hard limit";
    }
    return {};
}

Broken check_env(std::string_view label, const std::vector<EnvVar>& env) {
    return for_each(env, [&](const EnvVar& variable) -> Broken {
        const std::string subject = "bootstrap " + std::string(label);
        if (variable.key.empty()) return subject + " contains an empty key";
        if (has_nul(variable.key) || variable.key.find('=') != std::string::npos)
            return subject + " key " + debug_quoted(variable.key) + " must not contain '=' or NUL";
        if (has_nul(variable.value))
            return subject + " value for " + debug_quoted(variable.key) + " must not contain NUL";
        return {};
    });
}

Broken check_handoff(const HandoffInit& handoff) {
    if (handoff.cmd != "auto" && !handoff.cmd.starts_with('/'))
        return "bootstrap handoff command must be absolute or `auto`: " + handoff.cmd;
    if (has_nul(handoff.cmd)) return "bootstrap handoff command must not contain NUL";
    for (std::size_t i = 0; i < handoff.args.size(); ++i)
        if (has_nul(handoff.args[i]))
            return "bootstrap handoff argument #" + std::to_string(i) + " must not contain NUL";
    if (handoff.cwd)
        if (Broken broken = check_path("handoff cwd", *handoff.cwd)) return broken;
    return check_env("handoff env", handoff.env);
}

// Our extension: a file below /.msb, where the guest joins the path to a directory.
Broken check_runtime_file(const RuntimeFile& file) {
    if (Broken broken = check_text("runtime file path", file.path)) return broken;
    std::string_view rest = file.path;
    for (bool more = true; more;) {
        const std::size_t slash = rest.find('/');
        const std::string_view component = rest.substr(0, slash);
        if (component.empty() || component == "." || component == "..")
            return "bootstrap runtime file path must be relative, without empty, `.` or `..` "
                   "components: " +
                   file.path;
        more = slash != std::string_view::npos;
        if (more) rest.remove_prefix(slash + 1);
    }
    if (file.mode > kMaxFileMode)
        return "bootstrap runtime file mode out of range: " + std::to_string(file.mode);
    return {};
}

}  // namespace

std::optional<std::string> validate_bootstrap(const Bootstrap& b) {
    return first_of(
        [&] {
            return b.block_root ? std::visit([](const auto& root) { return check_root(root); },
                                             *b.block_root)
                                : Broken{};
        },
        [&] { return check_mounts(b); },
        [&] { return check_optional_text("hostname", b.hostname); },
        [&] { return check_optional_text("host alias", b.host_alias); },
        [&] { return b.network ? check_network(*b.network) : Broken{}; },
        [&] { return check_rlimits(b.rlimits); },
        [&] { return check_optional_text("user", b.user); },
        [&] { return check_optional_text("default cwd", b.default_cwd); },
        [&] { return check_env("default env", b.default_env); },
        [&] { return b.handoff_init ? check_handoff(*b.handoff_init) : Broken{}; },
        [&] { return for_each(b.runtime_files, check_runtime_file); });
}

}  // namespace msb::protocol
