#include "cli/pull_display.h"

#include "cli/spinner.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

constexpr std::chrono::milliseconds kRefresh{100};

}  // namespace

PullDisplay::PullDisplay(std::string_view verb, std::string_view target, bool quiet)
    : view_(verb, target) {
    if (quiet || !can_draw()) return;
    region_ = std::make_unique<LiveRegion>(kRefresh, [this](std::size_t number, TerminalSize size) {
        const std::lock_guard lock(mutex_);
        return view_.lines(spinner_glyph(number), size.columns, size.rows, colors_enabled());
    });
}

PullDisplay::~PullDisplay() {
    erase();
}

microsandbox::PullProgress PullDisplay::sink() {
    return [this](const microsandbox::PullEvent& event) { apply(event); };
}

void PullDisplay::apply(const microsandbox::PullEvent& event) {
    began_ = true;
    const std::lock_guard lock(mutex_);
    view_.apply(event);
}

void PullDisplay::erase() {
    region_.reset();
}

}  // namespace msb::cli
