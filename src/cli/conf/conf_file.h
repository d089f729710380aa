// Sandbox configuration files: `--conf` and the scoped `--*-conf` (spec/state.md section 12, spec/cli.md section 4.4).
//
// A file sets some things and leaves the rest alone; files apply in the order of the command line and flags after them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <microsandbox/builder.h>

#include "cli/values.h"
#include "cli/values_mount.h"

namespace msb::cli {

enum class ConfScope : std::uint8_t {
    kRoot,
    kNetwork,
    kResources,
    kRuntime,
    kFiles,
    kSecrets,
    kScripts
};
// Of a flag's name without dashes, "conf" or "net-conf"; nullopt for other flags.
std::optional<ConfScope> conf_scope(std::string_view flag);

struct ConfImage {
    enum class Kind : std::uint8_t { kText, kOci, kDisk, kBind, kSnapshot };  // kText: by its form
    Kind kind = Kind::kText;
    std::string text;
    std::optional<std::uint32_t> upper_size_mib;  // kOci
    std::optional<std::string> fstype;            // kDisk
};

struct ConfRegistry {
    std::string username, password;
};

struct ConfInit {
    std::optional<std::string> cmd;
    std::optional<std::vector<std::string>> args;
    std::optional<std::map<std::string, std::string>> env;
};

struct SandboxConf {
    std::optional<ConfImage> image;
    std::optional<microsandbox::PullPolicy> pull_policy;
    std::optional<ConfRegistry> registry;

    std::optional<std::uint8_t> cpus;
    std::optional<std::uint32_t> memory_mib;
    std::optional<std::uint64_t> max_duration_secs, idle_timeout_secs;
    std::optional<std::vector<RlimitValue>> rlimits;

    std::optional<std::string> workdir, shell, user, hostname, security;
    std::optional<std::vector<std::string>> entrypoint, cmd;
    std::map<std::string, std::string> env, labels;
    std::optional<ConfInit> init;

    std::optional<std::vector<MountValue>> mounts;
    std::optional<std::vector<microsandbox::Patch>> patches;

    std::map<std::string, std::string> scripts;  // bodies without shebang

    std::optional<bool> network_off;  // preset `none`
    // The first thing asked for that this build has no feature for: "network.ports", "secrets".
    std::optional<std::string> later;
};

// Throws Error{kCustom} with the texts of spec/state.md section 12.
SandboxConf read_conf(ConfScope scope, const std::filesystem::path& path);
// The same of a text; `path` is what messages name and relative paths start from.
SandboxConf parse_conf(ConfScope scope, std::string_view text, const std::filesystem::path& path);

// `over` comes later on the command line: scalars and lists replace, env, labels and scripts merge per key, init per
// field.
void merge_conf(SandboxConf& base, SandboxConf over);

// Checks that need all files: init has a command, the shell is usable.
void check_conf(const SandboxConf& conf);

}  // namespace msb::cli
