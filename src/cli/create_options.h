// The flags of `run` and `create` as values: every grammar checked, nothing looked up in the database.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/conf/conf_file.h"
#include "cli/parse.h"
#include "cli/values.h"
#include "cli/values_mount.h"

namespace msb::cli {

struct CreateOptions {
    SandboxConf
        conf;  // all configuration files together; what follows are flags, which go before it
    std::optional<std::string> image;
    std::optional<std::string> name;  // unset: generate one
    bool replace = false;
    std::optional<std::chrono::milliseconds> replace_grace;

    std::optional<std::uint8_t> cpus;
    std::optional<std::uint8_t> max_cpus;
    std::optional<std::uint32_t> memory_mib;
    std::optional<std::uint32_t> max_memory_mib;
    std::optional<std::string> cpu_placement;  // inherit, auto, spread, compact
    std::optional<std::string> placement_profile;
    std::optional<std::string> thp;  // always, madvise, never

    std::vector<MountValue> mounts;
    std::optional<RootDiskValue> root_disk;
    std::vector<CopyValue> copies;
    std::vector<std::string> mkdirs;
    std::vector<std::string> removals;

    std::optional<std::string> workdir;
    std::optional<std::string> shell;
    std::optional<std::string> user;
    std::optional<std::string> hostname;
    std::optional<std::string> entrypoint;
    std::optional<std::string> init;
    std::vector<std::string> init_args;
    std::vector<KeyValue> init_env;
    std::vector<KeyValue> env;
    std::vector<KeyValue> labels;
    std::map<std::string, std::string> scripts;

    std::optional<std::string> deployment_profile;  // single-tenant, multi-tenant
    std::optional<std::string> security;            // default, restricted
    std::optional<std::size_t> pull;                // index in always, if-missing, never
    std::optional<std::size_t> log_level;           // index in error, warn, info, debug, trace
    std::optional<std::uint64_t> max_duration_secs;
    std::optional<std::uint64_t> idle_timeout_secs;
    bool no_net = false;
};

// Throws msb::Error with the texts of spec/cli.md section 11; in particular kCustom "`--port` is not supported by this
// build yet" for a flag whose value is fine but whose feature this build lacks.
CreateOptions parse_create_options(const Matches& matches);

// "creation flags", "--from-snapshot", "--from-snapshot and creation flags" or "": what `run` on an existing name
// ignores and warns about (section 4.1; image, --label, --deployment-profile and the address pools do not count).
std::string ignored_creation_flags(const Matches& matches);

// Options of one command, for run and exec.
struct CommandOptions {
    std::optional<std::uint64_t> timeout_secs;
    std::vector<RlimitValue> rlimits;
};
CommandOptions parse_command_options(const Matches& matches);

}  // namespace msb::cli
