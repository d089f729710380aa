#include "agentd/environment.h"

#include "base/text.h"

namespace msb::agentd {

Environment Environment::from(const char* const* entries) {
    Environment environment;
    for (; entries != nullptr && *entries != nullptr; ++entries) {
        std::string_view entry(*entries);
        std::size_t equals = entry.find('=');
        if (equals != std::string_view::npos)
            environment.set(entry.substr(0, equals), entry.substr(equals + 1));
    }
    return environment;
}

void Environment::set(std::string_view key, std::string_view value) {
    auto [slot, added] = index_.try_emplace(std::string(key), variables_.size());
    if (added)
        variables_.push_back({std::string(key), std::string(value)});
    else
        variables_[slot->second].value = value;
}

const std::string* Environment::find(std::string_view key) const {
    auto slot = index_.find(std::string(key));
    return slot == index_.end() ? nullptr : &variables_[slot->second].value;
}

std::vector<std::string> Environment::entries() const {
    std::vector<std::string> result;
    result.reserve(variables_.size());
    for (const protocol::EnvVar& variable : variables_)
        result.push_back(variable.key + "=" + variable.value);
    return result;
}

std::string with_scripts_directory(std::string_view path) {
    for (std::string_view segment : split(path, ':')) {
        if (segment == kScriptsDirectory) return std::string(path);
    }
    return std::string(kScriptsDirectory) + ":" + std::string(path);
}

Environment agent_environment(Environment kernel_words,
                              const std::vector<protocol::EnvVar>& default_env) {
    Environment environment = std::move(kernel_words);
    const std::string* path = nullptr;
    for (const protocol::EnvVar& variable : default_env) {
        environment.set(variable.key, variable.value);
        if (variable.key == "PATH") path = &variable.value;
    }
    environment.set("PATH", with_scripts_directory(path != nullptr ? *path : kDefaultPath));
    return environment;
}

ExecEnvironment exec_environment(const Environment& base, const std::vector<std::string>& request,
                                 bool tty) {
    ExecEnvironment result{base, false};
    bool path_seen = false;
    for (const std::string& entry : request) {
        std::size_t equals = entry.find('=');
        if (equals == std::string::npos) continue;
        std::string_view key = std::string_view(entry).substr(0, equals);
        std::string_view value = std::string_view(entry).substr(equals + 1);
        if (tty && (key.empty() || entry.find('\0') != std::string::npos)) continue;
        if (key == "HOME") result.has_home = true;
        if (key == "PATH" && !path_seen) {
            path_seen = true;
            result.env.set(key, with_scripts_directory(value));
        } else {
            result.env.set(key, value);
        }
    }
    if (!path_seen) {
        const std::string* path = base.find("PATH");
        result.env.set("PATH", with_scripts_directory(path != nullptr ? *path : kDefaultPath));
    }
    return result;
}

std::vector<std::string> executable_candidates(std::string_view command, std::string_view path) {
    if (command.empty()) return {};
    if (command.find('/') != std::string_view::npos) return {std::string(command)};
    std::vector<std::string> candidates;
    for (std::string_view segment : split(path, ':')) {
        std::string candidate(segment);
        if (!candidate.empty() && candidate.back() != '/') candidate += '/';
        candidate += command;
        candidates.push_back(std::move(candidate));
    }
    return candidates;
}

}  // namespace msb::agentd
