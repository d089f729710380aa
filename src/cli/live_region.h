// Lines at the bottom of a terminal that are drawn over and over while something takes time, and erased at the end.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace msb::cli {

struct TerminalSize {
    std::size_t columns = 80;
    std::size_t rows = 24;
};

// Turns ECHO off on a terminal standard input while it lives, so that typing does not garble the lines; afterwards what
// was typed is thrown away and ECHO is as before. Also when a signal ends the process: a handler restores ECHO and
// erases the region, then the signal takes its normal effect. One at a time per process.
class EchoGuard {
  public:
    EchoGuard();
    ~EchoGuard();
    EchoGuard(const EchoGuard&) = delete;
    EchoGuard& operator=(const EchoGuard&) = delete;

  private:
    bool active_ = false;
};

// Whether standard error can be drawn on: a terminal, and not TERM=dumb.
bool can_draw();

class LiveRegion {
  public:
    // The lines of one frame, top first, at least one; they may be coloured. What is wider than the terminal is cut.
    // Called from the drawing thread only.
    using Frame = std::function<std::vector<std::string>(std::size_t number, TerminalSize size)>;

    // Draws at once and then every `interval`, until destroyed. For can_draw() only, and one at a time per process.
    LiveRegion(std::chrono::milliseconds interval, Frame frame);
    ~LiveRegion();  // erases
    LiveRegion(const LiveRegion&) = delete;
    LiveRegion& operator=(const LiveRegion&) = delete;

  private:
    void run(const std::stop_token& stop);

    std::chrono::milliseconds interval_;
    Frame frame_;
    EchoGuard echo_;
    std::jthread thread_;  // last: it uses the others
};

// The text up to `columns` visible code points; SGR sequences take no room and are all kept.
std::string cut_visible(std::string_view text, std::size_t columns);
std::size_t visible_width(std::string_view text);

// What a frame writes: back to the first line of the one before, whose lines were `previous` code points wide, then the
// lines with the rest of each row cleared, then everything below cleared. A terminal made narrower since has wrapped the
// old lines into more rows. Wrapping is off meanwhile: a terminal may be narrower already than it has told (tmux tells
// later), and a line must not become two.
std::string redraw_sequence(const std::vector<std::size_t>& previous,
                            const std::vector<std::string>& lines, std::size_t columns);

}  // namespace msb::cli
