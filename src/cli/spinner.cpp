#include "cli/spinner.h"

#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stop_token>

#include "cli/style.h"

namespace msb::cli {

namespace {

constexpr std::chrono::milliseconds kFrame{80};
constexpr std::chrono::milliseconds kTimed{500};
constexpr std::string_view kErase = "\r\x1b[2K";
constexpr std::array<std::string_view, 10> kFrames = {"⠋", "⠙", "⠹", "⠸", "⠼",
                                                      "⠴", "⠦", "⠧", "⠇", "⠏"};
constexpr std::array<int, 9> kFatalSignals = {SIGINT,  SIGTERM, SIGHUP, SIGQUIT, SIGABRT,
                                              SIGSEGV, SIGBUS,  SIGFPE, SIGILL};

// What the handler needs; written before the handlers are installed.
struct SavedTerminal {
    std::atomic<bool> active{false};
    termios settings{};
    std::array<struct sigaction, kFatalSignals.size()> actions{};
};
SavedTerminal g_saved;

// tcsetattr from a background process group would stop the process with SIGTTOU; restoring must not.
void set_terminal(const termios& settings) {
    sigset_t ttou;
    sigset_t before;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &before);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &settings);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

extern "C" void restore_and_die(int number) {
    if (g_saved.active.exchange(false)) {
        set_terminal(g_saved.settings);
        (void)!::write(STDERR_FILENO, kErase.data(), kErase.size());
    }
    ::signal(number, SIG_DFL);
    ::raise(number);
}

}  // namespace

EchoGuard::EchoGuard() {
    if (::isatty(STDIN_FILENO) != 1 || ::tcgetpgrp(STDIN_FILENO) != ::getpgrp()) return;
    if (g_saved.active || ::tcgetattr(STDIN_FILENO, &g_saved.settings) != 0) return;
    g_saved.active = true;
    struct sigaction action{};
    action.sa_handler = restore_and_die;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
        ::sigaction(kFatalSignals[i], nullptr, &g_saved.actions[i]);
        if (g_saved.actions[i].sa_handler != SIG_IGN)
            ::sigaction(kFatalSignals[i], &action, nullptr);
    }
    termios silent = g_saved.settings;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    set_terminal(silent);
    active_ = true;
}

EchoGuard::~EchoGuard() {
    if (!active_) return;
    if (g_saved.active.exchange(false)) {
        ::tcflush(STDIN_FILENO, TCIFLUSH);
        set_terminal(g_saved.settings);
    }
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i)
        ::sigaction(kFatalSignals[i], &g_saved.actions[i], nullptr);
}

Spinner::Spinner(std::string_view label, std::string_view target, bool quiet)
    : label_(label), target_(target), quiet_(quiet), started_(std::chrono::steady_clock::now()) {
    if (quiet_ || ::isatty(STDERR_FILENO) != 1) return;
    echo_ = std::make_unique<EchoGuard>();
    thread_ = std::jthread([this](std::stop_token stop) { draw(std::move(stop)); });
}

Spinner::~Spinner() {
    erase();
}

void Spinner::draw(std::stop_token stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    for (std::size_t frame = 0; !stop.stop_requested(); ++frame) {
        const auto glyph = kFrames[frame % kFrames.size()];
        write_err(std::string(kErase) + action_line(glyph, Tone::kLabel, label_, target_));
        wake.wait_for(lock, stop, kFrame, [] { return false; });
    }
}

void Spinner::erase() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
    write_err(kErase);
    echo_.reset();
}

void Spinner::finish(std::string_view label) {
    const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - started_);
    finish(label, elapsed >= kTimed ? format_elapsed(elapsed.count()) : "");
}

void Spinner::finish(std::string_view label, std::string_view remark) {
    erase();
    if (quiet_) return;
    std::string line = action_line("✓", Tone::kGood, label, target_);
    if (!remark.empty()) line += " " + paint("(" + std::string(remark) + ")", Tone::kDim);
    write_err(line + "\n");
}

void Spinner::fail() {
    erase();
    if (!quiet_) write_err(action_line("✗", Tone::kBad, label_, target_) + "\n");
}

}  // namespace msb::cli
