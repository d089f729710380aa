// From argv to a checked set of arguments, with clap's rules and texts (spec/cli.md section 1.1 and 11).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/model.h"

namespace msb::cli {

// The arguments of one command, in the order given.
class Matches {
  public:
    bool has(std::string_view name) const;
    std::optional<std::string> value(std::string_view name) const;  // the only one, or the last
    std::vector<std::string> values(std::string_view name) const;
    // The value of an integer the parser has checked.
    std::optional<std::uint64_t> number(std::string_view name) const;
    std::optional<std::int64_t> signed_number(std::string_view name) const;
    // "--" was there, even with nothing after it.
    bool has_trailing() const { return trailing_seen_; }

    struct Occurrence {
        const Arg* arg;
        std::vector<std::string> values;
    };
    const std::vector<Occurrence>& occurrences() const { return occurrences_; }

  private:
    friend class Parser;
    std::vector<Occurrence> occurrences_;
    bool trailing_seen_ = false;
};

// What the command line asks for.
struct Invocation {
    enum class Kind { kRun, kHelp, kVersion, kTree, kError };
    Kind kind = Kind::kRun;
    // From the root down; at least the root itself.
    std::vector<const Command*> path;
    Matches matches;                           // of path.back()
    std::optional<std::string_view> log_flag;  // "error" ... "trace"
    // kError: everything to print, ending in a newline. kHelp, kVersion, kTree: printed by render().
    std::string error;
    int exit_code = 0;
    bool to_stderr = false;  // help of a bare group command
    std::vector<std::string> tree_words;
};

// `args` without argv[0].
Invocation parse_command_line(const Command& root, const std::vector<std::string>& args);

// "--cpus <CPUS>", "--quiet", "[IMAGE]", "<NAMES>...", "-- <COMMAND>...": how messages name an argument.
std::string display_name(const Arg& arg);

}  // namespace msb::cli
