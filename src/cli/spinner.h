// "   ⠋ Starting     box" while something takes time (spec/cli.md section 1.6).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace msb::cli {

// Turns ECHO off on a terminal standard input while it lives, so that typing does not garble the line; afterwards what
// was typed is thrown away and ECHO is as before. Also when a signal ends the process: restored by the handler, then
// the signal takes its normal effect. One at a time per process.
class EchoGuard {
  public:
    EchoGuard();
    ~EchoGuard();
    EchoGuard(const EchoGuard&) = delete;
    EchoGuard& operator=(const EchoGuard&) = delete;

  private:
    bool active_ = false;
};

// Draws only when standard error is a terminal and `quiet` is false. The line is erased at the end. Completion lines
// are printed on any kind of standard error unless quiet.
class Spinner {
  public:
    Spinner(std::string_view label, std::string_view target, bool quiet);
    ~Spinner();  // erases
    Spinner(const Spinner&) = delete;
    Spinner& operator=(const Spinner&) = delete;

    void erase();
    // Erases and prints "   ✓ Started      box", with " (1.2s)" when it took 500 ms or more.
    void finish(std::string_view label);
    // The same with a text of the caller in the brackets.
    void finish(std::string_view label, std::string_view remark);
    // Erases and prints "   ✗ Starting     box".
    void fail();

  private:
    void draw(std::stop_token stop);

    std::string label_;
    std::string target_;
    bool quiet_;
    std::chrono::steady_clock::time_point started_;
    std::unique_ptr<EchoGuard> echo_;
    std::jthread thread_;
};

}  // namespace msb::cli
