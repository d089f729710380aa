// One pass over argv, level by level (root, group, command), then the checks that need the whole command line.
//
// clap's order matters because the first error is the one shown: values are checked where they stand, repetition where
// it happens, conflicts before missing arguments at the end.
#include "cli/parse.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/text.h"
#include "cli/suggest.h"
#include "cli/usage.h"

namespace msb::cli {

namespace {

constexpr std::string_view kCpuPlacements[] = {"inherit", "auto", "spread", "compact"};

bool has_word(std::string_view list, std::string_view word) {
    for (auto part : split(list, ' '))
        if (part == word) return true;
    return false;
}

bool conflict(const Arg& a, const Arg& b) {
    return &a != &b && (has_word(a.conflicts, b.name) || has_word(b.conflicts, a.name));
}

template <class Signed>
std::optional<std::string> check_ranged(std::string_view value, std::int64_t low,
                                        std::int64_t high) {
    const auto parsed = parse_integer<Signed>(value);
    if (!parsed) return std::string(parse_integer_error<Signed>(value));
    if (*parsed >= low && *parsed <= high) return std::nullopt;
    return std::to_string(*parsed) + " is not in " + std::to_string(low) +
           "..=" + std::to_string(high);
}

// nullopt when the value is fine, else the reason after "for '--x <X>': ".
std::optional<std::string> check_number(ValueType type, std::string_view value) {
    using Limits32 = std::numeric_limits<std::uint32_t>;
    switch (type) {
        case ValueType::kU8:
            return check_ranged<std::int64_t>(value, 0, std::numeric_limits<std::uint8_t>::max());
        case ValueType::kU16:
            return check_ranged<std::int64_t>(value, 0, std::numeric_limits<std::uint16_t>::max());
        case ValueType::kU32:
            return check_ranged<std::int64_t>(value, 0, Limits32::max());
        case ValueType::kI32:
            return check_ranged<std::int64_t>(value, std::numeric_limits<std::int32_t>::min(),
                                              std::numeric_limits<std::int32_t>::max());
        case ValueType::kU64:
            if (!parse_integer<std::uint64_t>(value))
                return std::string(parse_integer_error<std::uint64_t>(value));
            return std::nullopt;
        default:
            return std::nullopt;
    }
}

std::string possible_values(const Arg& arg) {
    if (arg.choices.empty()) return {};
    std::string text = "  [possible values: ";
    for (std::size_t i = 0; i < arg.choices.size(); ++i) {
        if (i != 0) text += ", ";
        text += arg.choices[i];
    }
    return text + "]\n";
}

std::string first_character(std::string_view text) {
    std::size_t length = 1;
    while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80)
        ++length;
    return std::string(text.substr(0, length));
}

}  // namespace

std::string display_name(const Arg& arg) {
    const std::string value = std::string("<") + std::string(arg.value_name) + ">";
    switch (arg.kind) {
        case ArgKind::kSwitch:
            return "--" + std::string(arg.name);
        case ArgKind::kOption:
            return "--" + std::string(arg.name) + " " + value;
        case ArgKind::kPositional:
            if (arg.required_unless.empty())
                return "[" + std::string(arg.value_name) + "]" + (arg.repeatable ? "..." : "");
            return value + (arg.repeatable ? "..." : "");
        case ArgKind::kTrailing:
            return value + "...";
    }
    return value;
}

bool Matches::has(std::string_view name) const {
    return std::any_of(occurrences_.begin(), occurrences_.end(),
                       [&](const auto& o) { return o.arg->name == name; });
}

std::optional<std::string> Matches::value(std::string_view name) const {
    std::optional<std::string> found;
    for (const auto& occurrence : occurrences_)
        if (occurrence.arg->name == name && !occurrence.values.empty())
            found = occurrence.values.back();
    return found;
}

std::vector<std::string> Matches::values(std::string_view name) const {
    std::vector<std::string> all;
    for (const auto& occurrence : occurrences_)
        if (occurrence.arg->name == name)
            all.insert(all.end(), occurrence.values.begin(), occurrence.values.end());
    return all;
}

std::optional<std::uint64_t> Matches::number(std::string_view name) const {
    const auto text = value(name);
    return text ? parse_integer<std::uint64_t>(*text) : std::nullopt;
}

std::optional<std::int64_t> Matches::signed_number(std::string_view name) const {
    const auto text = value(name);
    return text ? parse_integer<std::int64_t>(*text) : std::nullopt;
}

class Parser {
  public:
    Parser(const Command& root, const std::vector<std::string>& args) : root_(root), args_(args) {}
    Invocation run();

  private:
    using Kind = Invocation::Kind;

    const Command& command() const { return *invocation_.path.back(); }
    bool done() const { return finished_; }
    void finish(Kind kind, int code = 0) {
        invocation_.kind = kind;
        invocation_.exit_code = code;
        finished_ = true;
    }

    void next();
    void take_long(std::string_view arg);
    void take_letters(std::string_view letters);
    void take_word(const std::string& word);
    void take_help_words();
    void enter(const Command& subcommand);
    const Arg* find_long(std::string_view name) const;
    const Arg* find_letter(char letter) const;
    const Arg* current_positional() const;

    void start(const Arg& arg);
    void add_value(const Arg& arg, std::string_view value);
    bool check_value(const Arg& arg, std::string_view value);
    void begin_option(const Arg& arg);
    void resolve_pending();

    void check_log_flags();
    void check_conflicts();
    void check_required();
    void check_subcommand();

    void fail(const std::string& text, const std::vector<std::string>& tips,
              const std::string& usage, std::string_view below = {});
    void missing_value(const Arg& arg);
    void unknown_argument(const std::string& shown, const std::optional<std::string>& similar,
                          bool flag_like);
    void unknown_command(const std::string& word);
    std::string plain_usage() const { return help_usage(invocation_.path); }
    std::vector<const Arg*> used() const;

    const Command& root_;
    const std::vector<std::string>& args_;
    std::size_t at_ = 0;
    bool finished_ = false;
    bool trailing_ = false;
    const Arg* pending_ = nullptr;  // an option whose value is the next word
    // The newest value is checked when the next known argument or the end comes, as clap does: an
    // unknown argument right after a bad value is the error shown.
    std::vector<std::pair<const Arg*, std::string>> unchecked_;
    std::vector<std::vector<const Arg*>> log_flags_;  // per level
    Invocation invocation_;
};

Invocation parse_command_line(const Command& root, const std::vector<std::string>& args) {
    return Parser(root, args).run();
}

Invocation Parser::run() {
    invocation_.path.push_back(&root_);
    if (std::find(args_.begin(), args_.end(), "--tree") != args_.end()) {
        for (const auto& arg : args_)
            if (!arg.empty() && arg.front() != '-') invocation_.tree_words.push_back(arg);
        finish(Kind::kTree);
        return std::move(invocation_);
    }
    if (args_.empty()) {
        finish(Kind::kHelp);
        return std::move(invocation_);
    }
    log_flags_.emplace_back();
    while (!done() && at_ < args_.size())
        next();
    if (!done()) resolve_pending();
    if (!done()) check_log_flags();
    if (!done()) check_subcommand();
    if (!done()) check_conflicts();
    if (!done()) check_required();
    return std::move(invocation_);
}

void Parser::next() {
    const std::string& arg = args_[at_++];
    if (trailing_) return take_word(arg);
    if (pending_ && pending_->hyphen_values) {
        const Arg& option = *std::exchange(pending_, nullptr);
        return add_value(option, arg);
    }
    if (arg == "--") {
        resolve_pending();
        trailing_ = true;
        invocation_.matches.trailing_seen_ = true;
        return;
    }
    if (arg.size() > 2 && arg.starts_with("--")) return take_long(std::string_view(arg).substr(2));
    if (arg.size() > 1 && arg.front() == '-') return take_letters(std::string_view(arg).substr(1));
    if (pending_) {
        const Arg& option = *std::exchange(pending_, nullptr);
        return add_value(option, arg);
    }
    take_word(arg);
}

const Arg* Parser::find_long(std::string_view name) const {
    for (const Arg& flag : kLogFlags)
        if (flag.name == name) return &flag;
    const Arg* found = nullptr;
    for_each_arg(command(), [&](const Arg& arg) {
        const bool flag = arg.kind == ArgKind::kSwitch || arg.kind == ArgKind::kOption;
        if (flag && (arg.name == name || (!arg.alias.empty() && arg.alias == name))) found = &arg;
    });
    return found;
}

const Arg* Parser::find_letter(char letter) const {
    const Arg* found = nullptr;
    for_each_arg(command(), [&](const Arg& arg) {
        if (arg.letter == letter && letter != 0) found = &arg;
    });
    return found;
}

void Parser::take_long(std::string_view text) {
    const auto equals = text.find('=');
    const auto name = text.substr(0, equals);
    if (name == "help") {
        resolve_pending();
        if (!done()) finish(Kind::kHelp);
        return;
    }
    if (name == "version" && command().id == CommandId::kRoot) {
        resolve_pending();
        if (!done()) finish(Kind::kVersion);
        return;
    }
    const Arg* arg = find_long(name);
    if (!arg) {
        std::vector<std::string_view> known{"help", "tree"};
        for (const Arg& flag : kLogFlags)
            known.push_back(flag.name);
        for_each_arg(command(), [&](const Arg& a) {
            if (a.kind == ArgKind::kSwitch || a.kind == ArgKind::kOption) known.push_back(a.name);
        });
        const auto similar = similar_words(name, known);
        std::optional<std::string> tip;
        if (!similar.empty()) tip = similar.back();
        return unknown_argument("--" + std::string(name), tip, true);
    }
    resolve_pending();
    if (done()) return;
    if (arg->kind == ArgKind::kSwitch) {
        if (equals == std::string_view::npos) return start(*arg);
        return fail("unexpected value '" + std::string(text.substr(equals + 1)) + "' for '--" +
                        std::string(arg->name) + "' found; no more were expected",
                    {}, smart_usage(invocation_.path, {arg}));
    }
    if (equals == std::string_view::npos) return begin_option(*arg);
    add_value(*arg, text.substr(equals + 1));
}

void Parser::take_letters(std::string_view letters) {
    while (!letters.empty() && !done()) {
        if (letters.front() == 'h') {
            resolve_pending();
            if (!done()) finish(Kind::kHelp);
            return;
        }
        if (letters.front() == 'V' && command().id == CommandId::kRoot) {
            resolve_pending();
            if (!done()) finish(Kind::kVersion);
            return;
        }
        const Arg* arg = find_letter(letters.front());
        if (!arg) return unknown_argument("-" + first_character(letters), std::nullopt, true);
        resolve_pending();
        if (done()) return;
        letters.remove_prefix(1);
        if (arg->kind == ArgKind::kSwitch) {
            start(*arg);
            continue;
        }
        if (letters.empty()) return begin_option(*arg);
        if (letters.front() == '=') letters.remove_prefix(1);
        return add_value(*arg, letters);
    }
}

const Arg* Parser::current_positional() const {
    const Arg* found = nullptr;
    for_each_arg(command(), [&](const Arg& arg) {
        if (found || arg.kind != ArgKind::kPositional) return;
        if (arg.repeatable || !invocation_.matches.has(arg.name)) found = &arg;
    });
    return found;
}

void Parser::take_word(const std::string& word) {
    if (trailing_) {
        const Arg* rest = nullptr;
        for_each_arg(command(), [&](const Arg& arg) {
            if (arg.kind == ArgKind::kTrailing) rest = &arg;
        });
        if (rest) return add_value(*rest, word);
    }
    if (!trailing_ && !command().subcommands.empty()) {
        if (word == "help") return take_help_words();
        if (const Command* subcommand = find_subcommand(command(), word)) return enter(*subcommand);
        return unknown_command(word);
    }
    if (const Arg* positional = current_positional()) return add_value(*positional, word);
    if (trailing_ && find_subcommand(command(), word)) {
        return fail("unexpected argument '" + word + "' found",
                    {"subcommand '" + word + "' exists; to use it, remove the '--' before it"},
                    plain_usage());
    }
    unknown_argument(word, std::nullopt, false);
}

void Parser::take_help_words() {
    while (at_ < args_.size()) {
        const std::string& word = args_[at_++];
        if (word == "help" && invocation_.path.size() == 1) break;
        const Command* subcommand = find_subcommand(command(), word);
        if (!subcommand) return unknown_command(word);
        invocation_.path.push_back(subcommand);
    }
    finish(Kind::kHelp);
}

void Parser::enter(const Command& subcommand) {
    // What the levels above may carry is only the log flags, checked per level.
    check_conflicts();
    if (done()) return;
    invocation_.path.push_back(&subcommand);
    invocation_.matches = {};
    log_flags_.emplace_back();
    // A bare group shows its help, as an error.
    if (at_ == args_.size() && !subcommand.subcommands.empty()) {
        invocation_.to_stderr = true;
        finish(Kind::kHelp, 2);
    }
}

void Parser::start(const Arg& arg) {
    const bool seen = invocation_.matches.has(arg.name);
    if (seen && !arg.repeatable) {
        return fail("the argument '" + display_name(arg) + "' cannot be used multiple times", {},
                    plain_usage());
    }
    invocation_.matches.occurrences_.push_back({&arg, {}});
    for (const Arg& flag : kLogFlags)
        if (&flag == &arg) log_flags_.back().push_back(&arg);
}

void Parser::begin_option(const Arg& arg) {
    pending_ = &arg;
}

void Parser::resolve_pending() {
    if (done()) return;
    for (const auto& [arg, value] : std::exchange(unchecked_, {}))
        if (!check_value(*arg, value)) return;
    if (pending_) missing_value(*std::exchange(pending_, nullptr));
}

void Parser::add_value(const Arg& arg, std::string_view value) {
    resolve_pending();
    if (done()) return;
    // The words of one positional are one occurrence; every option is one of its own.
    const bool words = arg.kind == ArgKind::kPositional || arg.kind == ArgKind::kTrailing;
    auto& occurrences = invocation_.matches.occurrences_;
    std::size_t index = occurrences.size();
    for (std::size_t i = 0; words && i < occurrences.size(); ++i)
        if (occurrences[i].arg == &arg) index = i;
    if (index == occurrences.size()) {
        start(arg);
        if (done()) return;
    }
    auto& occurrence = occurrences[index];
    const auto parts = arg.comma_list ? split(value, ',') : std::vector<std::string_view>{value};
    for (auto part : parts) {
        unchecked_.emplace_back(&arg, part);
        occurrence.values.emplace_back(part);
    }
}

bool Parser::check_value(const Arg& arg, std::string_view value) {
    const std::string shown = display_name(arg);
    const std::string invalid = "invalid value '" + std::string(value) + "' for '" + shown + "'";
    if (arg.type == ValueType::kPath || arg.type == ValueType::kChoice) {
        if (value.empty()) {
            missing_value(arg);
            return false;
        }
    }
    if (arg.type == ValueType::kChoice) {
        if (std::find(arg.choices.begin(), arg.choices.end(), value) != arg.choices.end())
            return true;
        const auto similar = similar_words(value, {arg.choices.begin(), arg.choices.end()});
        std::vector<std::string> tips;
        if (!similar.empty())
            tips.push_back("a similar value exists: '" + std::string(similar.back()) + "'");
        fail(invalid, tips, {}, possible_values(arg));
        return false;
    }
    if (arg.type == ValueType::kCpuPlacement) {
        if (std::find(std::begin(kCpuPlacements), std::end(kCpuPlacements), value) !=
            std::end(kCpuPlacements))
            return true;
        fail(invalid + ": unknown CPU placement: " + std::string(value) +
                 " (expected: inherit, auto, spread, compact)",
             {}, {});
        return false;
    }
    if (const auto reason = check_number(arg.type, value)) {
        fail(invalid + ": " + *reason, {}, {});
        return false;
    }
    return true;
}

std::vector<const Arg*> Parser::used() const {
    std::vector<const Arg*> list;
    for (const auto& occurrence : invocation_.matches.occurrences()) {
        if (std::find(list.begin(), list.end(), occurrence.arg) == list.end())
            list.push_back(occurrence.arg);
    }
    return list;
}

void Parser::check_log_flags() {
    // The deepest one counts; conflicts are found per level by check_conflicts().
    for (const auto& level : log_flags_)
        if (!level.empty()) invocation_.log_flag = level.back()->name;
}

void Parser::check_subcommand() {
    if (command().subcommands.empty()) return;
    std::string path;
    for (const Command* step : invocation_.path)
        path += (path.empty() ? "" : " ") + std::string(step->name);
    std::string names;
    for (const Command& subcommand : command().subcommands) {
        names += std::string(subcommand.name) + ", ";
        if (!subcommand.alias.empty()) names += std::string(subcommand.alias) + ", ";
    }
    check_conflicts();
    if (done()) return;
    fail("'" + path + "' requires a subcommand but one was not provided", {}, plain_usage(),
         "  [subcommands: " + names + "help]\n");
}

void Parser::check_conflicts() {
    const auto present = used();
    for (const Arg* arg : present) {
        std::vector<const Arg*> against;
        for (const Arg* other : present)
            if (conflict(*arg, *other)) against.push_back(other);
        if (against.empty()) continue;
        std::string text = "the argument '" + display_name(*arg) + "' cannot be used with";
        if (against.size() == 1) {
            text += " '" + display_name(*against.front()) + "'";
        } else {
            text += ":";
            for (const Arg* other : against)
                text += "\n  " + display_name(*other);
        }
        std::vector<const Arg*> rest;
        for (const Arg* other : present)
            if (std::find(against.begin(), against.end(), other) == against.end())
                rest.push_back(other);
        return fail(text, {}, smart_usage(invocation_.path, rest));
    }
}

void Parser::check_required() {
    std::vector<const Arg*> options;
    std::vector<const Arg*> words;
    const auto missing = [&](const Arg& arg) {
        for (auto dependent : used())
            if (has_word(dependent->requires_args, arg.name)) return true;
        if (arg.required_unless.empty()) return false;
        for (auto name : split(arg.required_unless, ' '))
            if (invocation_.matches.has(name)) return false;
        return true;
    };
    for_each_arg(command(), [&](const Arg& arg) {
        if (invocation_.matches.has(arg.name) || !missing(arg)) return;
        (arg.kind == ArgKind::kPositional ? words : options).push_back(&arg);
    });
    if (options.empty() && words.empty()) return;
    std::string text = "the following required arguments were not provided:";
    auto shown = options;
    shown.insert(shown.end(), words.begin(), words.end());
    for (const Arg* arg : shown)
        text += "\n  " + display_name(*arg);
    auto listed = shown;
    for (const Arg* arg : used())
        listed.push_back(arg);
    // Declaration order reads best in the usage line.
    std::vector<const Arg*> ordered;
    for_each_arg(command(), [&](const Arg& arg) {
        if (std::find(listed.begin(), listed.end(), &arg) != listed.end()) ordered.push_back(&arg);
    });
    fail(text, {}, smart_usage(invocation_.path, ordered));
}

void Parser::fail(const std::string& text, const std::vector<std::string>& tips,
                  const std::string& usage, std::string_view below) {
    std::string& error = invocation_.error;
    error = "error: " + text + "\n" + std::string(below) + "\n";
    for (const auto& tip : tips)
        error += "  tip: " + tip + "\n";
    if (!tips.empty()) error += "\n";
    if (!usage.empty()) error += "Usage: " + usage + "\n\n";
    error += "For more information, try '--help'.\n";
    finish(Kind::kError, 2);
}

void Parser::missing_value(const Arg& arg) {
    fail("a value is required for '" + display_name(arg) + "' but none was supplied", {}, {},
         possible_values(arg));
}

void Parser::unknown_argument(const std::string& shown, const std::optional<std::string>& similar,
                              bool flag_like) {
    std::vector<std::string> tips;
    std::vector<const Arg*> usage_args;
    if (similar) {
        tips.push_back("a similar argument exists: '--" + *similar + "'");
        if (const Arg* arg = find_long(*similar)) usage_args.push_back(arg);
    } else if (flag_like && !trailing_) {
        bool has_positionals = false;
        for_each_arg(command(), [&](const Arg& arg) {
            if (arg.kind == ArgKind::kPositional || arg.kind == ArgKind::kTrailing)
                has_positionals = true;
        });
        if (has_positionals)
            tips.push_back("to pass '" + shown + "' as a value, use '-- " + shown + "'");
    }
    fail("unexpected argument '" + shown + "' found", tips,
         usage_args.empty() ? plain_usage() : smart_usage(invocation_.path, usage_args));
}

void Parser::unknown_command(const std::string& word) {
    if (command().id == CommandId::kRoot) {
        if (const auto name = later_command(word); !name.empty()) {
            invocation_.error =
                "error: `msb " + std::string(name) + "` is not supported by this build yet\n";
            return finish(Kind::kError, 1);
        }
    }
    std::vector<std::string_view> names;
    for (const Command& subcommand : command().subcommands) {
        names.push_back(subcommand.name);
        if (!subcommand.alias.empty()) names.push_back(subcommand.alias);
    }
    const auto similar = similar_words(word, names);
    std::vector<std::string> tips;
    if (similar.size() == 1)
        tips.push_back("a similar subcommand exists: '" + std::string(similar.front()) + "'");
    if (similar.size() > 1) {
        std::string tip = "some similar subcommands exist: ";
        for (std::size_t i = 0; i < similar.size(); ++i)
            tip += (i ? ", '" : "'") + std::string(similar[i]) + "'";
        tips.push_back(tip);
    }
    fail("unrecognized subcommand '" + word + "'", tips, plain_usage());
}

}  // namespace msb::cli
