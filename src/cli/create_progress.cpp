#include "cli/create_progress.h"

#include "cli/spinner.h"
#include "cli/style.h"

namespace msb::cli {

CreateProgress::CreateProgress(std::string_view label, std::string_view sandbox,
                               std::string_view image, bool quiet)
    : view_("Pulling", image) {
    if (quiet || !can_draw()) return;
    region_ = std::make_unique<LiveRegion>(
        kSpinnerFrame, [this, label = std::string(label), sandbox = std::string(sandbox)](
                           std::size_t number, TerminalSize size) {
            const auto glyph = spinner_glyph(number);
            const std::lock_guard lock(mutex_);
            if (pulling_) return view_.lines(glyph, size.columns, size.rows, colors_enabled());
            return std::vector{action_line(glyph, Tone::kLabel, label, sandbox)};
        });
}

microsandbox::PullProgress CreateProgress::sink() {
    return [this](const microsandbox::PullEvent& event) {
        const std::lock_guard lock(mutex_);
        view_.apply(event);
        pulling_ = event.kind != microsandbox::PullEvent::Kind::kComplete;
    };
}

}  // namespace msb::cli
