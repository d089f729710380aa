// load and save (spec/cli.md section 8).
#include <microsandbox/image.h>
#include <unistd.h>

#include "cli/commands/commands.h"
#include "cli/interrupts.h"
#include "cli/pull_display.h"
#include "cli/spinner.h"
#include "cli/style.h"
#include "cli/values.h"

namespace msb::cli {

using namespace microsandbox;

int load_command(const Matches& matches) {
    const bool quiet = matches.has("quiet");
    const auto input = matches.value("input");
    if (!input && ::isatty(STDIN_FILENO) == 1)
        fail_value("standard input is a terminal; name the archive with --input, or pipe it in");

    std::vector<ImageInfo> images;
    {
        PullDisplay display("Loading", input.value_or("standard input"), quiet);
        const auto tags = matches.values("tag");
        images = input ? Image::load(*input, tags, display.sink())
                       : Image::load_from(STDIN_FILENO, tags, display.sink());
    }
    if (quiet) return 0;
    for (const ImageInfo& image : images)
        print_done("Loaded", image.reference, "");
    return 0;
}

int save_command(const Matches& matches) {
    const auto references = matches.values("REFERENCES");
    const auto format =
        matches.value("format") == "oci" ? ArchiveFormat::kOci : ArchiveFormat::kDocker;
    const auto output = matches.value("output");
    if (!output) {
        if (::isatty(STDOUT_FILENO) == 1)
            fail_value(
                "standard output is a terminal; name a file with --output, or pipe the archive on");
        Image::save_to(STDOUT_FILENO, references, format);
        return 0;
    }
    Interrupts interrupts;
    try {
        Spinner spinner("Saving", *output, matches.has("quiet"));
        Image::save(references, *output, format, interrupts.token());
        spinner.finish("Saved");
    } catch (...) {
        interrupts.raise_if_any();
        throw;
    }
    return 0;
}

}  // namespace msb::cli
