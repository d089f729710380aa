// What the boot found out and the services need.
#pragma once

#include <sys/resource.h>

#include <optional>
#include <string>

#include "agentd/environment.h"
#include "agentd/users.h"
#include "protocol/messages.h"

namespace msb::agentd {

struct AgentConfig {
    Environment environment;  // base of every exec
    std::optional<std::string> user;
    std::optional<std::string> default_cwd;
    bool restricted = false;
    UserFiles user_files;
    std::optional<rlimit> child_nofile;  // restored in children; nullopt: the agent raised nothing
    // The agent is an ordinary child of another init: a port that reports EOF is tried again.
    bool handed_off = false;
};

}  // namespace msb::agentd
