// image list, inspect, remove, prune (spec/cli.md section 8).
#include <microsandbox/image.h>
#include <unistd.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands/commands.h"
#include "cli/commands/image_view.h"
#include "cli/report.h"
#include "cli/spinner.h"
#include "cli/style.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

using namespace microsandbox;

void print_json(const nlohmann::json& value) {
    write_out(json_text(value));
}

// "y" or "yes" on the terminal; anything else, and the end of input, is no.
bool confirmed(std::string_view question) {
    write_err(question);
    std::string answer;
    if (!std::getline(std::cin, answer)) write_err("\n");
    return answer == "y" || answer == "Y" || answer == "yes" || answer == "Yes" || answer == "YES";
}

}  // namespace

int image_list_command(const Matches& matches) {
    const auto images = Image::list();
    if (matches.has("format")) {
        nlohmann::json list = nlohmann::json::array();
        for (const ImageInfo& image : images)
            list.push_back(image_json(image));
        print_json(list);
        return 0;
    }
    if (matches.has("quiet")) {
        std::string text;
        for (const ImageInfo& image : images)
            text += image.reference + "\n";
        write_out(text);
        return 0;
    }
    if (images.empty()) {
        print_notice("No images found.");
        return 0;
    }
    write_out(image_table(images));
    return 0;
}

int image_inspect_command(const Matches& matches) {
    const ImageDetail image = Image::inspect(matches.value("REFERENCE").value());
    if (matches.has("format")) {
        print_json(image_json(image));
    } else {
        write_out(image_text(image));
    }
    return 0;
}

int image_remove_command(const Matches& matches) {
    const bool quiet = matches.has("quiet");
    const bool force = matches.has("force");
    bool failed = false;
    for (const auto& reference : matches.values("REFERENCES")) {
        Spinner spinner("Removing", reference, quiet);
        try {
            Image::remove(reference, force);
            spinner.finish("Removed");
        } catch (...) {
            spinner.erase();
            failed = true;
            if (!quiet) print_error(current_exception_text());
        }
    }
    if (failed) fail_value("some images failed to remove");
    return 0;
}

int image_prune_command(const Matches& matches) {
    const bool quiet = matches.has("quiet");
    if (!matches.has("yes")) {
        if (::isatty(STDIN_FILENO) != 1)
            fail_value("non-interactive terminal; use --yes to prune cached images");
        if (!confirmed("Remove all cached images not used by sandboxes? [y/N] ")) {
            print_notice("Aborted.");
            return 0;
        }
    }
    const ImagePruneReport report = Image::prune();
    if (matches.has("format")) {
        print_json(prune_json(report));
        return 0;
    }
    if (quiet) return 0;
    if (is_empty(report)) {
        print_notice("Nothing to prune.");
        return 0;
    }
    print_done("Pruned", "image cache", "");
    write_out(prune_text(report));
    return 0;
}

}  // namespace msb::cli
