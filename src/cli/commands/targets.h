// Commands on many sandboxes: names in order, then label matches, every one processed (spec/cli.md section 5).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/parse.h"
#include "cli/spinner.h"

namespace msb::cli {

// --label values as (key, value) pairs.
std::vector<std::pair<std::string, std::string>> label_filter(const Matches& matches);

// Names in the order given, then the sandboxes carrying all labels, newest first; no duplicates.
std::vector<std::string> select_targets(const Matches& matches);

struct BulkText {
    std::string_view doing;      // "Starting"
    std::string_view done;       // "Started"; "" = the action finishes the spinner itself
    bool always_report = false;  // errors are shown also with -q
};

// Runs `action` for every target. One error line per failure (hidden by -q unless always_report); returns 1 when any
// failed. Warns, and returns 0, when only labels were given and none matched.
int for_each_target(const Matches& matches, const BulkText& text,
                    const std::function<void(const std::string&, Spinner&)>& action);

}  // namespace msb::cli
