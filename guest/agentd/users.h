// Guest users and groups, read by hand from the image's /etc/passwd and /etc/group: the agent is
// static, so NSS is out of reach, and the files are the guest's, so nothing in them is trusted
// (spec/guest-agent.md section 10).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::agentd {

struct PasswdEntry {
    std::string name;
    uid_t uid = 0;
    gid_t gid = 0;
    std::string home;
};

// Lines that do not have the form of an entry are skipped, as libc skips them.
std::optional<PasswdEntry> passwd_by_name(std::string_view passwd, std::string_view name);
std::optional<PasswdEntry> passwd_by_uid(std::string_view passwd, uid_t uid);
std::optional<gid_t> group_by_name(std::string_view group, std::string_view name);
// `primary` first, then every group that lists `name`, each once (what initgroups(3) sets).
std::vector<gid_t> supplementary_groups(std::string_view group, std::string_view name,
                                        gid_t primary);

struct UserFiles {
    std::string passwd = "/etc/passwd";
    std::string group = "/etc/group";
};

// What a child process becomes.
struct Identity {
    bool switch_user = false;  // false: stay root, no supplementary groups
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups;
    std::optional<std::string> home;  // nullopt: HOME stays as it is
};

// `requested` or, when blank, `fallback`: "USER[:GROUP]", each a decimal number or a name.
// Throws Failure "exec session error: guest user not found: NAME" and its siblings.
Identity resolve_identity(const std::optional<std::string>& requested,
                          const std::optional<std::string>& fallback, const UserFiles& files = {});

}  // namespace msb::agentd
