#include "cli/spinner.h"

#include <array>

#include "cli/style.h"

namespace msb::cli {

namespace {

constexpr std::chrono::milliseconds kTimed{500};
constexpr std::array<std::string_view, 10> kFrames = {"⠋", "⠙", "⠹", "⠸", "⠼",
                                                      "⠴", "⠦", "⠧", "⠇", "⠏"};

}  // namespace

std::string_view spinner_glyph(std::size_t number) {
    return kFrames[number % kFrames.size()];
}

Spinner::Spinner(std::string_view label, std::string_view target, bool quiet)
    : label_(label), target_(target), quiet_(quiet), started_(std::chrono::steady_clock::now()) {
    if (quiet_ || !can_draw()) return;
    region_ = std::make_unique<LiveRegion>(
        kSpinnerFrame, [label = label_, target = target_](std::size_t number, TerminalSize) {
            return std::vector{action_line(spinner_glyph(number), Tone::kLabel, label, target)};
        });
}

void Spinner::erase() {
    region_.reset();
}

void Spinner::finish(std::string_view label) {
    finish(label, elapsed_remark(started_));
}

void Spinner::finish(std::string_view label, std::string_view remark) {
    erase();
    if (!quiet_) print_done(label, target_, remark);
}

void Spinner::fail() {
    erase();
    if (!quiet_) print_failed(label_, target_);
}

std::string elapsed_remark(std::chrono::steady_clock::time_point started) {
    const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - started);
    return elapsed >= kTimed ? format_elapsed(elapsed.count()) : "";
}

void print_done(std::string_view label, std::string_view target, std::string_view remark) {
    std::string line = action_line("✓", Tone::kGood, label, printable(target));
    if (!remark.empty()) line += " " + paint("(" + std::string(remark) + ")", Tone::kDim);
    write_err(line + "\n");
}

void print_failed(std::string_view label, std::string_view target) {
    write_err(action_line("✗", Tone::kBad, label, printable(target)) + "\n");
}

}  // namespace msb::cli
