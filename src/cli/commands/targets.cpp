#include "cli/commands/targets.h"

#include <microsandbox/sandbox.h>

#include <algorithm>

#include "cli/report.h"
#include "cli/style.h"
#include "cli/values.h"

namespace msb::cli {

std::vector<std::pair<std::string, std::string>> label_filter(const Matches& matches) {
    std::vector<std::pair<std::string, std::string>> labels;
    for (const auto& text : matches.values("label")) {
        auto label = parse_label(text);
        labels.emplace_back(std::move(label.key), std::move(label.value));
    }
    return labels;
}

std::vector<std::string> select_targets(const Matches& matches) {
    std::vector<std::string> names;
    const auto add = [&](const std::string& name) {
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    };
    for (const auto& name : matches.values("NAMES"))
        add(name);
    const auto labels = label_filter(matches);
    if (labels.empty()) return names;
    for (const auto& handle : microsandbox::Sandbox::list_all(labels))
        add(handle.name());
    return names;
}

int for_each_target(const Matches& matches, const BulkText& text,
                    const std::function<void(const std::string&, Spinner&)>& action) {
    const bool quiet = matches.has("quiet");
    const auto names = select_targets(matches);
    if (names.empty()) {
        if (!quiet) print_warning("no sandboxes matched the given labels");
        return 0;
    }
    bool failed = false;
    for (const auto& name : names) {
        Spinner spinner(text.doing, name, quiet);
        try {
            action(name, spinner);
            if (text.done.empty()) {
                spinner.erase();
            } else {
                spinner.finish(text.done);
            }
        } catch (...) {
            spinner.erase();
            failed = true;
            if (!quiet || text.always_report) print_error(current_exception_text());
        }
    }
    return failed ? 1 : 0;
}

}  // namespace msb::cli
