#include "agentd/users.h"

#include <algorithm>
#include <cstdint>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

// More groups than a process can be a member of (NGROUPS_MAX).
constexpr std::size_t kMaxGroups = 65536;

// Calls `visit` with each line of `text` until it returns true.
template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
    while (!text.empty()) {
        std::size_t end = text.find('\n');
        if (visit(text.substr(0, end))) return;
        if (end == std::string_view::npos) return;
        text.remove_prefix(end + 1);
    }
}

std::optional<PasswdEntry> parse_passwd_line(std::string_view line) {
    if (line.empty() || line.front() == '#') return std::nullopt;
    std::vector<std::string_view> fields = split(line, ':');
    if (fields.size() < 7) return std::nullopt;
    auto uid = parse_integer<std::uint32_t>(fields[2]);
    auto gid = parse_integer<std::uint32_t>(fields[3]);
    if (!uid || !gid) return std::nullopt;
    return PasswdEntry{std::string(fields[0]), *uid, *gid, std::string(fields[5])};
}

template <class Matches>
std::optional<PasswdEntry> find_passwd(std::string_view passwd, Matches matches) {
    std::optional<PasswdEntry> found;
    for_each_line(passwd, [&](std::string_view line) {
        auto entry = parse_passwd_line(line);
        if (!entry || !matches(*entry)) return false;
        found = std::move(entry);
        return true;
    });
    return found;
}

struct GroupLine {
    std::string_view name;
    gid_t gid;
    std::string_view members;
};

std::optional<GroupLine> parse_group_line(std::string_view line) {
    if (line.empty() || line.front() == '#') return std::nullopt;
    std::vector<std::string_view> fields = split(line, ':');
    if (fields.size() < 4) return std::nullopt;
    auto gid = parse_integer<std::uint32_t>(fields[2]);
    if (!gid) return std::nullopt;
    return GroupLine{fields[0], *gid, fields[3]};
}

struct UserSpec {
    std::string_view user;
    std::optional<std::string_view> group;
};

UserSpec parse_spec(std::string_view spec) {
    UserSpec parsed{spec, std::nullopt};
    if (std::size_t colon = spec.find(':'); colon != std::string_view::npos) {
        parsed.user = trim(spec.substr(0, colon));
        parsed.group = trim(spec.substr(colon + 1));
        if (parsed.group->empty()) throw session_error("user spec has empty group");
    }
    if (parsed.user.empty()) throw session_error("user spec has empty user");
    return parsed;
}

gid_t resolve_group(std::string_view group, const UserFiles& files) {
    if (auto number = parse_integer<std::uint32_t>(group)) return *number;
    if (auto gid = group_by_name(read_regular(files.group).value_or(std::string()), group))
        return *gid;
    throw session_error("guest group not found: " + std::string(group));
}

std::optional<std::string> home_of(const std::optional<PasswdEntry>& entry) {
    if (!entry || entry->home.empty()) return std::nullopt;
    return entry->home;
}

Identity switched_identity(std::string_view spec_text, const UserFiles& files) {
    UserSpec spec = parse_spec(spec_text);
    std::string passwd = read_regular(files.passwd).value_or(std::string());
    auto number = parse_integer<std::uint32_t>(spec.user);
    auto entry = number ? passwd_by_uid(passwd, *number) : passwd_by_name(passwd, spec.user);
    if (!number && !entry) throw session_error("guest user not found: " + std::string(spec.user));

    Identity identity;
    identity.switch_user = true;
    identity.uid = entry ? entry->uid : *number;
    identity.gid = spec.group ? resolve_group(*spec.group, files) : entry ? entry->gid : 0;
    if (entry)
        identity.groups = supplementary_groups(read_regular(files.group).value_or(std::string()),
                                               entry->name, identity.gid);
    identity.home = home_of(entry);
    return identity;
}

}  // namespace

std::optional<PasswdEntry> passwd_by_name(std::string_view passwd, std::string_view name) {
    return find_passwd(passwd, [&](const PasswdEntry& entry) { return entry.name == name; });
}

std::optional<PasswdEntry> passwd_by_uid(std::string_view passwd, uid_t uid) {
    return find_passwd(passwd, [&](const PasswdEntry& entry) { return entry.uid == uid; });
}

std::optional<gid_t> group_by_name(std::string_view group, std::string_view name) {
    std::optional<gid_t> found;
    for_each_line(group, [&](std::string_view line) {
        auto entry = parse_group_line(line);
        if (entry && entry->name == name) found = entry->gid;
        return found.has_value();
    });
    return found;
}

std::vector<gid_t> supplementary_groups(std::string_view group, std::string_view name,
                                        gid_t primary) {
    std::vector<gid_t> groups{primary};
    for_each_line(group, [&](std::string_view line) {
        auto entry = parse_group_line(line);
        if (entry && std::ranges::find(groups, entry->gid) == groups.end()) {
            std::vector<std::string_view> members = split(entry->members, ',');
            if (std::ranges::find(members, name) != members.end()) groups.push_back(entry->gid);
        }
        return groups.size() >= kMaxGroups;
    });
    return groups;
}

Identity resolve_identity(const std::optional<std::string>& requested,
                          const std::optional<std::string>& fallback, const UserFiles& files) {
    for (const auto* spec : {&requested, &fallback}) {
        if (!spec->has_value()) continue;
        std::string_view text = trim(**spec);
        if (!text.empty()) return switched_identity(text, files);
    }
    Identity identity;
    identity.home = home_of(passwd_by_uid(read_regular(files.passwd).value_or(std::string()), 0));
    return identity;
}

}  // namespace msb::agentd
