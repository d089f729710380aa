// The words of `msb sandbox`'s command line, read one flag at a time; used only inside src/contract.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "contract/process_args.h"

namespace msb::contract {

// Splits "--flag=value", and hands out values. The words must outlive the reader.
class WordReader {
  public:
    explicit WordReader(const std::vector<std::string>& words) : words_(words) {}

    // Moves to the next flag; false at the end.
    bool next() {
        if (inline_value_ && !value_taken_)
            throw UsageError("error: unexpected value '" + *inline_value_ + "' for '" + flag_ +
                                 "' found; no more were expected",
                             2);
        if (position_ == words_.size()) return false;
        const std::string& word = words_[position_++];
        const std::size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
        flag_ = word.substr(0, equals);
        inline_value_.reset();
        value_taken_ = false;
        if (equals != std::string::npos) inline_value_ = word.substr(equals + 1);
        return true;
    }

    const std::string& flag() const noexcept { return flag_; }

    std::string value() {
        value_taken_ = true;
        if (inline_value_) return *inline_value_;
        if (position_ == words_.size())
            throw UsageError(
                "error: a value is required for '" + flag_ + " <VALUE>' but none was supplied", 2);
        return words_[position_++];
    }

    template <class Int>
    Int integer() {
        const std::string text = value();
        if (auto parsed = parse_integer<Int>(text)) return *parsed;
        throw UsageError("error: invalid value '" + text + "' for '" + flag_ +
                             " <VALUE>': " + std::string(parse_integer_error<Int>(text)),
                         2);
    }

    std::vector<std::string> rest() {
        std::vector<std::string> out(words_.begin() + static_cast<std::ptrdiff_t>(position_),
                                     words_.end());
        position_ = words_.size();
        return out;
    }

    bool seen_subcommand() const noexcept { return seen_subcommand_; }
    void set_seen_subcommand() noexcept { seen_subcommand_ = true; }

  private:
    const std::vector<std::string>& words_;
    std::size_t position_ = 0;
    std::string flag_;
    std::optional<std::string> inline_value_;
    bool value_taken_ = false;
    bool seen_subcommand_ = false;
};

// The flags of the argv form of 0.4.3 to 0.5.9, collected until the end of the command line
// (spec/sandbox-process.md section 19).
class LegacyArgs {
  public:
    // False when the flag is none of the form's.
    bool read(WordReader& words);
    // nullopt for a modern command line (no --db-path). Throws UsageError when a required flag is missing.
    std::optional<LaunchConfig> finish();

  private:
    LaunchConfig build();
    std::string required(const std::string& flag) const;
    std::optional<std::string> optional(const std::string& flag) const;

    std::map<std::string, std::string> values_;  // flags with one value
    std::map<std::string, std::vector<std::string>> lists_;
    bool rootfs_readonly_ = false;
    bool metrics_disabled_ = false;
    std::vector<std::string> exec_args_;
};

}  // namespace msb::contract
