// "   ⠋ Starting     box" while something takes time (spec/cli.md section 1.6).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "cli/live_region.h"

namespace msb::cli {

// The glyph of frame `number`.
std::string_view spinner_glyph(std::size_t number);
inline constexpr std::chrono::milliseconds kSpinnerFrame{80};

// Draws only when standard error is a terminal and `quiet` is false. The line is erased at the end. Completion lines
// are printed on any kind of standard error unless quiet.
class Spinner {
  public:
    Spinner(std::string_view label, std::string_view target, bool quiet);

    void erase();
    // Erases and prints "   ✓ Started      box", with " (1.2s)" when it took 500 ms or more.
    void finish(std::string_view label);
    // The same with a text of the caller in the brackets.
    void finish(std::string_view label, std::string_view remark);
    // Erases and prints "   ✗ Starting     box".
    void fail();

  private:
    std::string label_;
    std::string target_;
    bool quiet_;
    std::chrono::steady_clock::time_point started_;
    std::unique_ptr<LiveRegion> region_;
};

// The brackets of a completion line: "1.2s" from 500 ms on, else "".
std::string elapsed_remark(std::chrono::steady_clock::time_point started);
// "   ✓ Started      box (1.2s)", without brackets when the remark is empty.
void print_done(std::string_view label, std::string_view target, std::string_view remark);
// "   ✗ Starting     box"
void print_failed(std::string_view label, std::string_view target);

}  // namespace msb::cli
