// MSB_* variables of launchers before 0.6 (spec/sandbox-process.md section 19).
#include <map>

#include "base/encoding.h"
#include "base/json.h"
#include "base/text.h"
#include "contract/bootstrap_json.h"

namespace msb::contract {
namespace {

using json::ParseError;
using json::Value;
using namespace protocol;

[[noreturn]] void bad(std::string_view variable, std::string_view why) {
    throw ParseError("invalid " + std::string(variable) + ": " + std::string(why));
}

template <class Int>
Int number(std::string_view variable, std::string_view text) {
    if (auto value = parse_integer<Int>(text)) return *value;
    bad(variable, std::string(parse_integer_error<Int>(text)) + " (" + quoted(text) + ")");
}

// The items of a list separated by ';', blank ones skipped.
std::vector<std::string_view> list_items(std::string_view text) {
    std::vector<std::string_view> items;
    for (std::string_view item : split(text, ';')) {
        if (item = trim(item); !item.empty()) items.push_back(item);
    }
    return items;
}

// "a:b[:opts]" with `fields` leading fields.
std::vector<std::string_view> fields_of(std::string_view variable, std::string_view item,
                                        std::size_t fields) {
    std::vector<std::string_view> out;
    while (out.size() + 1 < fields + 1) {
        const std::size_t colon = item.find(':');
        out.push_back(item.substr(0, colon));
        if (out.back().empty()) bad(variable, "empty field in " + quoted(item));
        if (colon == std::string_view::npos) {
            item = {};
            break;
        }
        item.remove_prefix(colon + 1);
    }
    if (out.size() < fields) bad(variable, "too few fields in " + quoted(item));
    out.push_back(item);  // options, may be empty
    return out;
}

bool apply_flag(std::string_view option, MountFlags& flags) {
    if (option == "ro")
        flags.readonly = true;
    else if (option == "rw")
        flags.readonly = false;
    else if (option == "noexec")
        flags.noexec = true;
    else if (option == "nosuid")
        flags.nosuid = true;
    else if (option == "nodev")
        flags.nodev = true;
    else
        return false;
    return true;
}

// Calls other(key, value) for every option that is not a mount flag.
template <class Other>
MountFlags read_options(std::string_view variable, std::string_view text, Other other) {
    MountFlags flags;
    for (std::string_view option : split(text, ',')) {
        option = trim(option);
        if (option.empty() || apply_flag(option, flags)) continue;
        const std::size_t equals = option.find('=');
        if (equals == std::string_view::npos ||
            !other(option.substr(0, equals), option.substr(equals + 1)))
            bad(variable, "unknown option " + quoted(option));
    }
    return flags;
}

constexpr auto kNoOptions = [](std::string_view, std::string_view) { return false; };

std::map<std::string_view, std::string_view> key_values(std::string_view variable,
                                                        std::string_view text) {
    std::map<std::string_view, std::string_view> out;
    for (std::string_view part : split(text, ',')) {
        const std::size_t equals = part.find('=');
        if (equals == std::string_view::npos)
            bad(variable, "expected key=value, got " + quoted(part));
        out[part.substr(0, equals)] = part.substr(equals + 1);
    }
    return out;
}

std::string required(std::string_view variable,
                     const std::map<std::string_view, std::string_view>& values,
                     std::string_view key) {
    const auto found = values.find(key);
    if (found == values.end() || found->second.empty())
        bad(variable, "missing " + std::string(key));
    return std::string(found->second);
}

std::optional<std::string> optional(const std::map<std::string_view, std::string_view>& values,
                                    std::string_view key) {
    const auto found = values.find(key);
    if (found == values.end() || found->second.empty()) return std::nullopt;
    return std::string(found->second);
}

BlockRoot block_root(std::string_view variable, std::string_view text) {
    if (text.starts_with('/')) {
        const std::size_t comma = text.find(',');
        DiskImageRoot root;
        root.device = text.substr(0, comma);
        if (comma != std::string_view::npos)
            root.fstype = optional(key_values(variable, text.substr(comma + 1)), "fstype");
        return root;
    }
    const auto values = key_values(variable, text);
    const std::string kind = required(variable, values, "kind");
    if (kind == "disk-image")
        return DiskImageRoot{.device = required(variable, values, "device"),
                             .fstype = optional(values, "fstype")};
    if (kind != "oci-erofs") bad(variable, "unknown kind " + msb::quoted(kind));
    OciErofsRoot root{.lower = required(variable, values, "lower")};
    const std::string upper = required(variable, values, "upper");
    if (upper == "tmpfs") {
        TmpfsUpper tmpfs;
        if (auto size = optional(values, "upper_size_mib"))
            tmpfs.size_mib = number<std::uint32_t>(variable, *size);
        root.upper = tmpfs;
    } else {
        root.upper =
            DeviceUpper{.device = upper, .fstype = required(variable, values, "upper_fstype")};
    }
    return root;
}

void dir_mounts(std::string_view variable, std::string_view text, Bootstrap& out) {
    for (std::string_view item : list_items(text)) {
        const auto fields = fields_of(variable, item, 2);
        out.dir_mounts.push_back({.tag = std::string(fields[0]),
                                  .guest_path = std::string(fields[1]),
                                  .flags = read_options(variable, fields[2], kNoOptions)});
    }
}

void file_mounts(std::string_view variable, std::string_view text, Bootstrap& out) {
    for (std::string_view item : list_items(text)) {
        const auto fields = fields_of(variable, item, 3);
        out.file_mounts.push_back({.tag = std::string(fields[0]),
                                   .filename = std::string(fields[1]),
                                   .guest_path = std::string(fields[2]),
                                   .flags = read_options(variable, fields[3], kNoOptions)});
    }
}

void disk_mounts(std::string_view variable, std::string_view text, Bootstrap& out) {
    for (std::string_view item : list_items(text)) {
        const auto fields = fields_of(variable, item, 2);
        DiskMount mount{.id = std::string(fields[0]), .guest_path = std::string(fields[1])};
        mount.flags =
            read_options(variable, fields[2], [&](std::string_view key, std::string_view value) {
                if (key != "fstype") return false;
                mount.fstype = std::string(value);
                return true;
            });
        out.disk_mounts.push_back(std::move(mount));
    }
}

void tmpfs_mounts(std::string_view variable, std::string_view text, Bootstrap& out) {
    for (std::string_view item : list_items(text)) {
        const auto fields = fields_of(variable, item, 1);
        TmpfsMount mount{.path = std::string(fields[0])};
        mount.flags =
            read_options(variable, fields[1], [&](std::string_view key, std::string_view value) {
                if (key == "size") {
                    mount.size_mib = number<std::uint32_t>(variable, value);
                } else if (key == "mode") {
                    std::uint32_t mode = 0;
                    auto [end, error] =
                        std::from_chars(value.data(), value.data() + value.size(), mode, 8);
                    if (error != std::errc{} || end != value.data() + value.size())
                        bad(variable, "invalid octal mode " + quoted(value));
                    mount.mode = mode;
                } else {
                    return false;
                }
                return true;
            });
        out.tmpfs_mounts.push_back(std::move(mount));
    }
}

void rlimits(std::string_view variable, std::string_view text, Bootstrap& out) {
    for (std::string_view item : list_items(text)) {
        const std::size_t equals = item.find('=');
        if (equals == std::string_view::npos)
            bad(variable, "expected resource=soft[:hard], got " + quoted(item));
        const std::string_view values = item.substr(equals + 1);
        const std::size_t colon = values.find(':');
        const auto soft = number<std::uint64_t>(variable, values.substr(0, colon));
        const auto hard = colon == std::string_view::npos
                              ? soft
                              : number<std::uint64_t>(variable, values.substr(colon + 1));
        out.rlimits.push_back(
            {.resource = std::string(item.substr(0, equals)), .soft = soft, .hard = hard});
    }
}

Value encoded_array(std::string_view variable, std::string_view text) {
    const auto decoded = base64_decode(text, Base64::kUrlUnpadded);
    if (!decoded) bad(variable, "not base64url");
    Value value = json::parse(*decoded);
    json::expect_array(value);
    return value;
}

void handoff(const std::map<std::string, std::string>& variables, Bootstrap& out) {
    auto value_of = [&](const std::string& name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end() || trim(found->second).empty()) return std::nullopt;
        return found->second;
    };
    const auto cmd = value_of("MSB_HANDOFF_INIT");
    if (!cmd) return;
    HandoffInit init{.cmd = *cmd, .cwd = value_of("MSB_HANDOFF_INIT_CWD")};
    if (auto args = value_of("MSB_HANDOFF_INIT_ARGS"))
        init.args = json::to_string_list(encoded_array("MSB_HANDOFF_INIT_ARGS", *args));
    if (auto env = value_of("MSB_HANDOFF_INIT_ENV")) {
        for (const Value& pair : encoded_array("MSB_HANDOFF_INIT_ENV", *env)) {
            const auto words = json::to_string_list(pair);
            if (words.size() != 2) bad("MSB_HANDOFF_INIT_ENV", "expected [key, value] pairs");
            init.env.push_back({.key = words[0], .value = words[1]});
        }
    }
    out.handoff_init = std::move(init);
}

void apply(const std::string& name, const std::string& value, Bootstrap& out) {
    if (name == "MSB_BLOCK_ROOT")
        out.block_root = block_root(name, value);
    else if (name == "MSB_DIR_MOUNTS")
        dir_mounts(name, value, out);
    else if (name == "MSB_FILE_MOUNTS")
        file_mounts(name, value, out);
    else if (name == "MSB_DISK_MOUNTS")
        disk_mounts(name, value, out);
    else if (name == "MSB_TMPFS")
        tmpfs_mounts(name, value, out);
    else if (name == "MSB_RLIMITS")
        rlimits(name, value, out);
    else if (name == "MSB_HOSTNAME")
        out.hostname = value;
    else if (name == "MSB_HOST_ALIAS")
        out.host_alias = value;
    else if (name == "MSB_USER")
        out.user = value;
    else if (name == "MSB_SECURITY_PROFILE") {
        if (value != "default" && value != "restricted")
            bad(name, "unknown profile " + msb::quoted(value));
        out.security_profile =
            value == "restricted" ? SecurityProfile::kRestricted : SecurityProfile::kDefault;
    }
}

bool is_known(std::string_view name) {
    static constexpr std::string_view kNames[] = {"MSB_BLOCK_ROOT",
                                                  "MSB_DIR_MOUNTS",
                                                  "MSB_FILE_MOUNTS",
                                                  "MSB_DISK_MOUNTS",
                                                  "MSB_TMPFS",
                                                  "MSB_RLIMITS",
                                                  "MSB_HOSTNAME",
                                                  "MSB_HOST_ALIAS",
                                                  "MSB_USER",
                                                  "MSB_SECURITY_PROFILE",
                                                  "MSB_NET",
                                                  "MSB_NET_IPV4",
                                                  "MSB_NET_IPV6",
                                                  "MSB_HANDOFF_INIT",
                                                  "MSB_HANDOFF_INIT_ARGS",
                                                  "MSB_HANDOFF_INIT_CWD",
                                                  "MSB_HANDOFF_INIT_ENV"};
    for (std::string_view known : kNames)
        if (known == name) return true;
    return false;
}

}  // namespace

Bootstrap bootstrap_from_env(const std::vector<std::string>& env) {
    Bootstrap out;
    std::map<std::string, std::string> variables;
    std::map<std::string, std::size_t> position;  // of a key in default_env
    for (const std::string& entry : env) {
        const std::size_t equals = entry.find('=');
        if (equals == std::string::npos || equals == 0) continue;
        std::string key = entry.substr(0, equals), value = entry.substr(equals + 1);
        if (is_known(key)) {
            variables[key] = std::move(value);
            continue;
        }
        // The last duplicate wins, at the place of the first.
        const auto [place, fresh] = position.try_emplace(key, out.default_env.size());
        if (fresh)
            out.default_env.push_back({.key = std::move(key), .value = std::move(value)});
        else
            out.default_env[place->second].value = std::move(value);
    }
    for (const auto& [name, value] : variables) {
        if (!trim(value).empty()) apply(name, value, out);
    }
    handoff(variables, out);
    return out;
}

}  // namespace msb::contract
