// The shape of the command line: what parse, help, --tree and shell completion are all driven from.
//
// Everything here is a literal type, so the whole command table is read-only data: starting `msb` constructs nothing
// for the commands that were not asked for.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace msb::cli {

enum class ArgKind : std::uint8_t {
    kSwitch,      // --quiet
    kOption,      // --name NAME
    kPositional,  // NAME, or NAMES... when repeatable
    kTrailing,    // everything after "--"
};

// What the parser itself checks about a value. Grammars with texts of their own (sizes, mounts, ...) are checked by the
// command (values.h), because their errors exit 1 and ours exit 2 (spec/cli.md section 11).
enum class ValueType : std::uint8_t {
    kText,
    kPath,    // text that may not be empty
    kChoice,  // one of Arg::choices
    kU8,
    kU16,
    kU32,
    kI32,
    kU64,
    kCpuPlacement,
};

struct Arg {
    ArgKind kind = ArgKind::kSwitch;
    std::string_view
        name;  // long name without "--"; of positionals the id, which is also their value name
    char letter = 0;              // short name
    std::string_view value_name;  // "CPUS"; positionals: as shown, e.g. "IMAGE"
    std::string_view help;        // one line, no full stop
    ValueType type = ValueType::kText;
    std::span<const std::string_view> choices = {};
    std::string_view alias = {};          // hidden second long name
    std::string_view conflicts = {};      // names separated by blanks; either side may declare it
    std::string_view requires_args = {};  // names that must be given when this one is
    std::string_view required_unless =
        {};  // positionals: required when none of these is given; "-" = always
    bool repeatable = false;
    bool hidden = false;
    // Its grammar is checked, but what it asks for is not in this build: the command refuses it by name, and help,
    // --tree and completion do not offer it.
    bool later = false;
    bool hyphen_values = false;  // the value may start with "-"
    bool comma_list = false;     // a value is split at commas
};

// Sections of `msb --help`.
enum class Section : std::uint8_t { kSandboxes, kImages, kStorage, kInstallation, kOther };

enum class CommandId : std::uint8_t {
    kRoot,
    kRun,
    kCreate,
    kStart,
    kStop,
    kRestart,
    kPing,
    kTouch,
    kList,
    kStatus,
    kRemove,
    kExec,
    kCopy,
    kLogs,
    kInspect,
    kPull,
    kLoad,
    kSave,
    kImage,
    kImageList,
    kImageInspect,
    kImageRemove,
    kImagePrune,
    kRegistry,
    kRegistryLogin,
    kRegistryLogout,
    kRegistryList,
    kSelf,
    kDoctor,
    kCompletion,
    kContext,
    kHelp,
    kSandbox,
    kSchemaBaseline,
};

struct Command {
    CommandId id = CommandId::kRoot;
    std::string_view name;
    std::string_view about;  // one line
    // The arguments are the concatenation of these lists, so run and create share theirs.
    std::span<const std::span<const Arg>> args = {};
    std::span<const Command> subcommands = {};
    std::string_view alias = {};  // visible
    Section section = Section::kOther;
    bool hidden = false;
};

inline bool is_flag(const Arg& arg) {
    return arg.kind == ArgKind::kSwitch || arg.kind == ArgKind::kOption;
}
inline bool is_listed(const Arg& arg) {
    return !arg.hidden && !arg.later;
}

// Calls visit(arg) for every argument in declaration order.
template <class Visit>
void for_each_arg(const Command& command, Visit&& visit) {
    for (auto list : command.args)
        for (const Arg& arg : list)
            visit(arg);
}

// Log flags: allowed before and after every subcommand, at most one (spec/cli.md section 1.1).
extern const std::span<const Arg> kLogFlags;

// The commands this build has.
const Command& root_command();

// A command of upstream that this build does not have yet: nullptr when `name` is none of them.
std::string_view later_command(std::string_view name);

const Command* find_subcommand(const Command& command, std::string_view name);

}  // namespace msb::cli
