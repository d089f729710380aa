// The texts made from the command table: usage lines and help pages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/model.h"

namespace msb::cli {

// "msb run [OPTIONS] [IMAGE] [-- <COMMAND>...]"
std::string help_usage(const std::vector<const Command*>& path);

// The usage line of an error: the options in `used` in that order, then every positional ("<X>" when used or required).
std::string smart_usage(const std::vector<const Command*>& path,
                        const std::vector<const Arg*>& used);

// A whole help page, ending in a newline. The root's page is grouped in sections.
std::string help_page(const std::vector<const Command*>& path);

// "-q, --quiet", "    --format <FORMAT>" without the leading blanks.
std::string flag_label(const Arg& arg);

// `msb --tree` and `msb WORDS --tree` (spec/cli.md section 1.3): everything but the final newline is in the text.
std::string command_tree(const Command& root, const std::vector<std::string>& words);

}  // namespace msb::cli
