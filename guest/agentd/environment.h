// The environment contract of spec/guest-agent.md section 6.1 and 9.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/messages.h"

namespace msb::agentd {

inline constexpr std::string_view kScriptsDirectory = "/.msb/scripts";
inline constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// An ordered list of variables; a key occurs once.
class Environment {
  public:
    Environment() = default;
    // Takes over a NULL-terminated "K=V" vector; entries without '=' are dropped.
    static Environment from(const char* const* entries);

    // Replaces the value in place, or appends.
    void set(std::string_view key, std::string_view value);
    const std::string* find(std::string_view key) const;
    const std::vector<protocol::EnvVar>& variables() const { return variables_; }

    std::vector<std::string> entries() const;  // "K=V"

  private:
    std::vector<protocol::EnvVar> variables_;
    std::unordered_map<std::string, std::size_t> index_;  // a 4 MiB request can name 10^6 variables
};

// Puts /.msb/scripts first unless a segment already equals it: "" becomes "/.msb/scripts:".
std::string with_scripts_directory(std::string_view path);

// The base of every exec: kernel words, then default_env in order, then PATH.
Environment agent_environment(Environment kernel_words,
                              const std::vector<protocol::EnvVar>& default_env);

struct ExecEnvironment {
    Environment env;
    bool has_home = false;  // the request names HOME itself
};

// `base` overlaid with the entries of an exec request. In pty mode entries with an empty key or a NUL
// are dropped; in pipe mode a NUL fails the spawn, so it is kept here for the caller to find.
ExecEnvironment exec_environment(const Environment& base, const std::vector<std::string>& request,
                                 bool tty);

// Every path execve() is to be tried with, in order: `command` itself when it has a '/', else one per
// PATH segment (an empty segment is the current directory). Empty for an empty command.
std::vector<std::string> executable_candidates(std::string_view command, std::string_view path);

}  // namespace msb::agentd
