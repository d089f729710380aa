// pull (spec/cli.md section 8).
#include <microsandbox/image.h>

#include "cli/commands/commands.h"
#include "cli/pull_display.h"
#include "cli/spinner.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using namespace microsandbox;

ImagePullOptions pull_options(const Matches& matches) {
    ImagePullOptions options;
    options.force = matches.has("force");
    if (const auto text = matches.value("materialize"))
        options.target = *text == "flat"  ? PullTarget::kFlat
                         : *text == "all" ? PullTarget::kAll
                                          : PullTarget::kLayered;
    options.registry.insecure = matches.has("insecure");
    if (const auto path = matches.value("ca-certs"))
        options.registry.ca_cert_files.emplace_back(*path);
    return options;
}

// What the user could have known beforehand is told by the error line alone.
bool failed_while_pulling(const PullDisplay& display, const Error& error) {
    return display.began() && error.code() != ErrorCode::kInvalidConfig;
}

}  // namespace

int pull_command(const Matches& matches) {
    const std::string reference = matches.value("REFERENCE").value();
    const bool quiet = matches.has("quiet");
    auto options = pull_options(matches);
    const auto started = std::chrono::steady_clock::now();
    PullDisplay display("Pulling", reference, quiet);
    options.progress = display.sink();
    try {
        const PulledImage image = Image::pull(reference, options);
        display.erase();
        if (!quiet)
            print_done("Pulled", reference,
                       image.cached ? "already cached" : elapsed_remark(started));
    } catch (const Error& error) {
        display.erase();
        if (!quiet && failed_while_pulling(display, error)) print_failed("Pulling", reference);
        throw;
    }
    return 0;
}

}  // namespace msb::cli
