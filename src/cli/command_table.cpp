// Every command of this build but the flags of `run` and `create` (command_table_create.cpp) and the commands about images
// (command_table_image.cpp). The order is the one --tree shows.
#include "cli/command_table.h"

namespace msb::cli {

namespace {

constexpr Arg kLog[] = {
    {.name = "error", .help = "Diagnostics: errors", .conflicts = "warn info debug trace"},
    {.name = "warn", .help = "Diagnostics: warnings too", .conflicts = "info debug trace"},
    {.name = "info", .help = "Diagnostics: what happens, too", .conflicts = "debug trace"},
    {.name = "debug", .help = "Diagnostics: details too", .conflicts = "trace"},
    {.name = "trace", .help = "Diagnostics: everything"},
};

constexpr std::string_view kJsonOnly[] = {"json"};
constexpr std::string_view kShells[] = {"bash", "elvish", "fish", "powershell", "zsh"};
constexpr std::string_view kLogSources[] = {"stdout", "stderr", "output", "system", "all"};
constexpr std::string_view kColorModes[] = {"auto", "always", "never"};

constexpr Arg kQuiet[] = {{.name = "quiet", .letter = 'q', .help = "No progress display"}};
constexpr Arg kNamesOnly[] = {{.name = "quiet", .letter = 'q', .help = "Only names"}};
constexpr Arg kFormat[] = {{.kind = ArgKind::kOption,
                            .name = "format",
                            .value_name = "FORMAT",
                            .help = "Output format (json)",
                            .type = ValueType::kChoice,
                            .choices = kJsonOnly}};
constexpr Arg kTargets[] = {
    {.kind = ArgKind::kPositional,
     .name = "NAMES",
     .value_name = "NAMES",
     .help = "Sandboxes; optional with --label",
     .required_unless = "label",
     .repeatable = true},
    {.kind = ArgKind::kOption,
     .name = "label",
     .value_name = "LABEL",
     .help = "Every sandbox with this label too (KEY=VALUE); several must all match",
     .repeatable = true},
};
constexpr Arg kLabelFilter[] = {
    {.kind = ArgKind::kOption,
     .name = "label",
     .value_name = "LABEL",
     .help = "Only sandboxes with this label (KEY=VALUE); several must all match",
     .repeatable = true},
};
constexpr Arg kOneName[] = {
    {.kind = ArgKind::kPositional,
     .name = "NAME",
     .value_name = "NAME",
     .help = "Sandbox",
     .required_unless = "-"},
};
constexpr Arg kStopHow[] = {
    {.name = "force",
     .letter = 'f',
     .help = "Kill at once: what the guest has not written to disk is lost"},
    {.kind = ArgKind::kOption,
     .name = "timeout",
     .letter = 't',
     .value_name = "TIMEOUT",
     .help = "Seconds to wait before killing (default: 10)",
     .type = ValueType::kU64},
};
constexpr Arg kPing[] = {{.name = "touch", .help = "Also start the idle time anew"}};
constexpr Arg kRemove[] = {{.name = "force", .letter = 'f', .help = "Kill it first when it runs"}};
constexpr Arg kListStates[] = {
    {.name = "running", .help = "Only running sandboxes"},
    {.name = "stopped", .help = "Only stopped sandboxes"},
};
constexpr Arg kStatus[] = {
    {.kind = ArgKind::kPositional,
     .name = "NAME",
     .value_name = "NAME",
     .help = "Sandbox; without it every running one",
     .conflicts = "all label"},
    {.name = "all", .letter = 'a', .help = "Also sandboxes that do not run"},
};
constexpr Arg kExec[] = {
    {.kind = ArgKind::kPositional,
     .name = "NAME",
     .value_name = "NAME",
     .help = "Sandbox",
     .required_unless = "-"},
    {.kind = ArgKind::kTrailing,
     .name = "COMMAND",
     .value_name = "COMMAND",
     .help = "Command to run (after --)",
     .repeatable = true},
    {.kind = ArgKind::kOption,
     .name = "env",
     .letter = 'e',
     .value_name = "ENV",
     .help = "Environment variable: KEY=VALUE, or KEY to copy it from here",
     .repeatable = true},
    {.kind = ArgKind::kOption,
     .name = "workdir",
     .letter = 'w',
     .value_name = "WORKDIR",
     .help = "Directory the command starts in"},
    {.kind = ArgKind::kOption,
     .name = "user",
     .letter = 'u',
     .value_name = "USER",
     .help = "User the command runs as"},
    {.name = "tty",
     .letter = 't',
     .help = "Give the command a terminal even when standard input is none",
     .conflicts = "no-tty"},
    {.name = "no-tty", .help = "Never use a terminal"},
    {.kind = ArgKind::kOption,
     .name = "timeout",
     .value_name = "TIMEOUT",
     .help = "End the command after this time (30s, 5m, 1h)"},
    {.kind = ArgKind::kOption,
     .name = "rlimit",
     .value_name = "RLIMIT",
     .help = "Resource limit of the command (nofile=1024, nproc=64:128)",
     .repeatable = true},
    {.name = "quiet", .letter = 'q', .help = "No progress display"},
    {.name = "stream",
     .help = "Pass standard input and output through as they come, byte for byte",
     .conflicts = "tty"},
};
constexpr Arg kCopy[] = {
    {.kind = ArgKind::kPositional,
     .name = "SOURCE",
     .value_name = "SOURCE",
     .help = "Host path, or SANDBOX:/absolute/path",
     .required_unless = "-"},
    {.kind = ArgKind::kPositional,
     .name = "DESTINATION",
     .value_name = "DESTINATION",
     .help = "Host path, or SANDBOX:/absolute/path",
     .required_unless = "-"},
};
constexpr Arg kLogs[] = {
    {.kind = ArgKind::kOption,
     .name = "tail",
     .value_name = "TAIL",
     .help = "Only the last N entries",
     .type = ValueType::kU64},
    {.kind = ArgKind::kOption,
     .name = "since",
     .value_name = "SINCE",
     .help = "Only entries from this time on (RFC 3339, or an age: 30s, 5m, 2h, 1d)"},
    {.kind = ArgKind::kOption,
     .name = "until",
     .value_name = "UNTIL",
     .help = "Only entries before this time"},
    {.name = "follow", .letter = 'f', .help = "Wait for more, until interrupted"},
    {.name = "timestamps", .help = "Put the time before every line"},
    {.kind = ArgKind::kOption,
     .name = "source",
     .value_name = "SOURCE",
     .help = "What to show (default: stdout,stderr,output)",
     .type = ValueType::kChoice,
     .choices = kLogSources,
     .repeatable = true,
     .comma_list = true},
    {.kind = ArgKind::kOption,
     .name = "grep",
     .value_name = "GREP",
     .help = "Only entries this regular expression matches"},
    {.name = "json", .help = "One JSON object a line"},
    {.kind = ArgKind::kOption,
     .name = "color",
     .value_name = "COLOR",
     .help = "Keep escape sequences",
     .type = ValueType::kChoice,
     .choices = kColorModes,
     .conflicts = "no-color"},
    {.name = "no-color", .help = "The same as --color never"},
    {.name = "show-id", .help = "Put the number of the session before every line"},
    {.name = "color-sessions", .help = "One colour per session (implies --show-id)"},
};
constexpr Arg kDoctor[] = {
    {.name = "fix", .help = "Offer to repair what can be repaired"},
    {.name = "yes", .letter = 'y', .help = "Repair without asking"},
};
constexpr Arg kShell[] = {
    {.kind = ArgKind::kPositional,
     .name = "SHELL",
     .value_name = "SHELL",
     .help = "Shell the script is for",
     .type = ValueType::kChoice,
     .choices = kShells,
     .required_unless = "-"},
};
constexpr Arg kBaseline[] = {{.name = "json", .help = "JSON on standard output"}};
constexpr Arg kSandbox[] = {
    {.kind = ArgKind::kOption,
     .name = "name",
     .value_name = "SANDBOX_NAME",
     .help = "Name of the sandbox",
     .required_unless = "-"},
    {.kind = ArgKind::kOption,
     .name = "sandbox-id",
     .value_name = "SANDBOX_ID",
     .help = "Its row",
     .type = ValueType::kI32,
     .required_unless = "-"},
    {.kind = ArgKind::kOption,
     .name = "log-level",
     .value_name = "LOG_LEVEL",
     .help = "What is logged"},
    {.kind = ArgKind::kOption,
     .name = "parent-watch-fd",
     .value_name = "PARENT_WATCH_FD",
     .help = "Ends with the parent",
     .type = ValueType::kI32},
    {.kind = ArgKind::kOption,
     .name = "startup-fd",
     .value_name = "STARTUP_FD",
     .help = "Takes the startup JSON",
     .type = ValueType::kI32},
    {.kind = ArgKind::kOption,
     .name = "lifecycle-lock-fd",
     .value_name = "LIFECYCLE_LOCK_FD",
     .help = "Holds the lifecycle lock",
     .type = ValueType::kI32},
    {.kind = ArgKind::kOption,
     .name = "vcpus",
     .value_name = "VCPUS",
     .help = "Virtual CPUs",
     .type = ValueType::kU8},
    {.kind = ArgKind::kOption,
     .name = "memory-mib",
     .value_name = "MEMORY_MIB",
     .help = "Memory",
     .type = ValueType::kU32},
    {.kind = ArgKind::kOption,
     .name = "max-vcpus",
     .value_name = "MAX_VCPUS",
     .help = "Most virtual CPUs",
     .type = ValueType::kU8},
    {.kind = ArgKind::kOption,
     .name = "max-memory-mib",
     .value_name = "MAX_MEMORY_MIB",
     .help = "Most memory",
     .type = ValueType::kU32},
    {.kind = ArgKind::kOption,
     .name = "config-fd",
     .value_name = "CONFIG_FD",
     .help = "Carries the launch JSON",
     .type = ValueType::kI32},
    {.kind = ArgKind::kOption,
     .name = "config-file",
     .value_name = "CONFIG_FILE",
     .help = "The launch JSON",
     .type = ValueType::kPath},
    {.name = "forward", .help = "Also log to standard error"},
};

constexpr std::span<const Arg> kBulkArgs[] = {kTargets, kQuiet};
constexpr std::span<const Arg> kStopArgs[] = {kTargets, kStopHow, kQuiet};
constexpr std::span<const Arg> kPingArgs[] = {kTargets, kPing, kQuiet};
constexpr std::span<const Arg> kRemoveArgs[] = {kTargets, kRemove, kQuiet};
constexpr std::span<const Arg> kListArgs[] = {kListStates, kLabelFilter, kFormat, kNamesOnly};
constexpr std::span<const Arg> kStatusArgs[] = {kStatus, kLabelFilter, kFormat, kNamesOnly};
constexpr std::span<const Arg> kExecArgs[] = {kExec};
constexpr std::span<const Arg> kCopyArgs[] = {kCopy, kQuiet};
constexpr std::span<const Arg> kLogsArgs[] = {kOneName, kLogs};
constexpr std::span<const Arg> kInspectArgs[] = {kOneName, kFormat};
constexpr std::span<const Arg> kDoctorArgs[] = {kDoctor};
constexpr std::span<const Arg> kCompletionArgs[] = {kShell};
constexpr std::span<const Arg> kContextArgs[] = {kFormat};
constexpr std::span<const Arg> kBaselineArgs[] = {kBaseline};
constexpr std::span<const Arg> kSandboxArgs[] = {kSandbox};

constexpr std::string_view kDoctorAbout = "Check what sandboxes need on this host";
constexpr Command kSelfCommands[] = {
    {.id = CommandId::kDoctor,
     .name = "doctor",
     .about = kDoctorAbout,
     .args = kDoctorArgs,
     .alias = "check"},
};

// What upstream has and this build does not: its commands, their aliases and its hidden spellings.
struct LaterCommand {
    std::string_view typed;
    std::string_view shown;
};
constexpr LaterCommand kLater[] = {
    {"modify", "modify"},           {"mod", "modify"},
    {"metrics", "metrics"},         {"ssh", "ssh"},
    {"volume", "volume"},           {"vol", "volume"},
    {"volumes", "volume list"},     {"vols", "volume list"},
    {"snapshot", "snapshot"},       {"snap", "snapshot"},
    {"snapshots", "snapshot list"}, {"snaps", "snapshot list"},
    {"install", "install"},         {"uninstall", "uninstall"},
    {"update", "update"},           {"upgrade", "update"},
    {"downgrade", "downgrade"},
};

}  // namespace

const std::span<const Arg> kLogFlags = kLog;

const Command& root_command() {
    static const Command commands[] = {
        {.id = CommandId::kSandbox,
         .name = "sandbox",
         .about = "Run one sandbox (started by the SDK)",
         .args = kSandboxArgs,
         .hidden = true},
        {.id = CommandId::kSchemaBaseline,
         .name = "__schema-baseline",
         .about = "Show the database migrations of this build",
         .args = kBaselineArgs,
         .hidden = true},
        kImagesCommand,
        kRmiCommand,
        kRegistriesCommand,
        {.id = CommandId::kContext,
         .name = "context",
         .about = "Show which backend is used and why",
         .args = kContextArgs,
         .alias = "ctx",
         .section = Section::kOther},
        {.id = CommandId::kRun,
         .name = "run",
         .about = "Boot a sandbox and run a command in it",
         .args = kRunArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kCreate,
         .name = "create",
         .about = "Boot a sandbox in the background",
         .args = kCreateArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kStart,
         .name = "start",
         .about = "Boot stopped sandboxes again",
         .args = kBulkArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kStop,
         .name = "stop",
         .about = "Stop sandboxes",
         .args = kStopArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kRestart,
         .name = "restart",
         .about = "Stop sandboxes and boot them again",
         .args = kStopArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kPing,
         .name = "ping",
         .about = "Measure how fast the guest agents answer",
         .args = kPingArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kTouch,
         .name = "touch",
         .about = "Start the idle time of sandboxes anew",
         .args = kBulkArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kList,
         .name = "list",
         .about = "List sandboxes",
         .args = kListArgs,
         .alias = "ls",
         .section = Section::kSandboxes},
        {.id = CommandId::kStatus,
         .name = "status",
         .about = "Show what runs, with its resources",
         .args = kStatusArgs,
         .alias = "ps",
         .section = Section::kSandboxes},
        {.id = CommandId::kRemove,
         .name = "remove",
         .about = "Delete sandboxes",
         .args = kRemoveArgs,
         .alias = "rm",
         .section = Section::kSandboxes},
        {.id = CommandId::kExec,
         .name = "exec",
         .about = "Run a command in a sandbox",
         .args = kExecArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kCopy,
         .name = "copy",
         .about = "Copy files into, out of and between sandboxes",
         .args = kCopyArgs,
         .alias = "cp",
         .section = Section::kSandboxes},
        {.id = CommandId::kLogs,
         .name = "logs",
         .about = "Show what the commands of a sandbox wrote",
         .args = kLogsArgs,
         .section = Section::kSandboxes},
        kImageCommand,
        kPullCommand,
        kLoadCommand,
        kSaveCommand,
        kRegistryCommand,
        {.id = CommandId::kInspect,
         .name = "inspect",
         .about = "Show the configuration of a sandbox",
         .args = kInspectArgs,
         .section = Section::kSandboxes},
        {.id = CommandId::kDoctor,
         .name = "doctor",
         .about = kDoctorAbout,
         .args = kDoctorArgs,
         .section = Section::kInstallation},
        {.id = CommandId::kSelf,
         .name = "self",
         .about = "Look after this installation",
         .subcommands = kSelfCommands,
         .section = Section::kInstallation},
        {.id = CommandId::kCompletion,
         .name = "completion",
         .about = "Print a completion script for a shell",
         .args = kCompletionArgs,
         .section = Section::kInstallation},
    };
    static const Command root{.id = CommandId::kRoot,
                              .name = "msb",
                              .about = "Run untrusted code in microVMs",
                              .subcommands = commands};
    return root;
}

std::string_view later_command(std::string_view name) {
    for (const auto& later : kLater)
        if (later.typed == name) return later.shown;
    return {};
}

const Command* find_subcommand(const Command& command, std::string_view name) {
    for (const Command& subcommand : command.subcommands)
        if (subcommand.name == name || (!subcommand.alias.empty() && subcommand.alias == name))
            return &subcommand;
    return nullptr;
}

}  // namespace msb::cli
