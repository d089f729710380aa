#include "cli/live_region.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <stop_token>

#include "cli/style.h"

namespace msb::cli {

namespace {

constexpr std::array<int, 9> kFatalSignals = {SIGINT,  SIGTERM, SIGHUP, SIGQUIT, SIGABRT,
                                              SIGSEGV, SIGBUS,  SIGFPE, SIGILL};
constexpr std::string_view kClearBelow = "\x1b[J";
constexpr std::string_view kClearRight = "\x1b[K";
constexpr std::string_view kNoWrap = "\x1b[?7l";
constexpr std::string_view kWrap = "\x1b[?7h";

// What the handler needs. `active` is set last and says that the rest is valid.
struct SavedTerminal {
    std::atomic<bool> active{false};
    bool echo = false;  // `settings` must be put back
    termios settings{};
    std::array<struct sigaction, kFatalSignals.size()> actions{};
    std::atomic<int> rows_above{0};  // of the cursor, within the region
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

// Only what a signal handler may do: no allocation, no printf.
void erase_region() {
    std::array<char, 256> text{};
    std::size_t length = 0;
    const auto add = [&](std::string_view part) {
        for (char c : part)
            if (length < text.size()) text[length++] = c;
    };
    add("\r");
    constexpr int kMostRows = 80;  // what fits into the buffer; taller regions leave their top
    for (int row = std::min(g_saved.rows_above.load(), kMostRows); row > 0; --row)
        add("\x1b[A");
    add(kClearBelow);
    (void)!::write(STDERR_FILENO, text.data(), length);
}

extern "C" void restore_and_die(int number) {
    if (g_saved.active.exchange(false)) {
        if (g_saved.echo) set_terminal(g_saved.settings);
        erase_region();
    }
    ::signal(number, SIG_DFL);
    ::raise(number);
}

TerminalSize terminal_size() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) return {};
    return {size.ws_col ? size.ws_col : TerminalSize{}.columns,
            size.ws_row ? size.ws_row : TerminalSize{}.rows};
}

// Of the cursor, which stands behind the last of these lines.
std::size_t rows_above_cursor(const std::vector<std::size_t>& widths, std::size_t columns) {
    std::size_t rows = 0;
    for (std::size_t width : widths)
        rows += std::max<std::size_t>(1, (width + columns - 1) / columns);
    return rows == 0 ? 0 : rows - 1;
}

// Calls visit(part, visible) for every code point (visible) and every SGR sequence (not visible).
template <class Visit>
void for_each_part(std::string_view text, Visit&& visit) {
    for (std::size_t i = 0; i < text.size();) {
        std::size_t end = i + 1;
        const bool escape = text[i] == '\x1b';
        if (escape) {
            while (end < text.size() && text[end - 1] != 'm')
                ++end;
        } else {
            while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80)
                ++end;
        }
        visit(text.substr(i, end - i), !escape);
        i = end;
    }
}

}  // namespace

EchoGuard::EchoGuard() {
    if (g_saved.active) return;
    g_saved.rows_above = 0;
    g_saved.echo = ::isatty(STDIN_FILENO) == 1 && ::tcgetpgrp(STDIN_FILENO) == ::getpgrp() &&
                   ::tcgetattr(STDIN_FILENO, &g_saved.settings) == 0;
    g_saved.active = true;
    struct sigaction action{};
    action.sa_handler = restore_and_die;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
        ::sigaction(kFatalSignals[i], nullptr, &g_saved.actions[i]);
        if (g_saved.actions[i].sa_handler != SIG_IGN)
            ::sigaction(kFatalSignals[i], &action, nullptr);
    }
    if (g_saved.echo) {
        termios silent = g_saved.settings;
        silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        set_terminal(silent);
    }
    active_ = true;
}

EchoGuard::~EchoGuard() {
    if (!active_) return;
    if (g_saved.active.exchange(false) && g_saved.echo) {
        ::tcflush(STDIN_FILENO, TCIFLUSH);
        set_terminal(g_saved.settings);
    }
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i)
        ::sigaction(kFatalSignals[i], &g_saved.actions[i], nullptr);
}

bool can_draw() {
    const char* term = std::getenv("TERM");
    return ::isatty(STDERR_FILENO) == 1 && (!term || std::string_view(term) != "dumb");
}

LiveRegion::LiveRegion(std::chrono::milliseconds interval, Frame frame)
    : interval_(interval),
      frame_(std::move(frame)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

LiveRegion::~LiveRegion() {
    thread_.request_stop();
    thread_.join();
}

void LiveRegion::run(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    std::vector<std::size_t> widths;
    for (std::size_t number = 0; !stop.stop_requested(); ++number) {
        const auto size = terminal_size();
        auto lines = frame_(number, size);
        // A terminal that is full to its last column may or may not have gone to the next row.
        for (auto& line : lines)
            line = cut_visible(line, size.columns - 1);
        write_err(redraw_sequence(widths, lines, size.columns));
        widths.clear();
        for (const auto& line : lines)
            widths.push_back(visible_width(line));
        g_saved.rows_above = static_cast<int>(rows_above_cursor(widths, size.columns));
        wake.wait_for(lock, stop, interval_, [] { return false; });
    }
    write_err(redraw_sequence(widths, {}, terminal_size().columns));
}

std::size_t visible_width(std::string_view text) {
    std::size_t width = 0;
    for_each_part(text, [&](std::string_view, bool visible) { width += visible ? 1 : 0; });
    return width;
}

std::string cut_visible(std::string_view text, std::size_t columns) {
    std::string kept;
    std::size_t width = 0;
    for_each_part(text, [&](std::string_view part, bool visible) {
        if (visible && ++width > columns) return;
        kept += part;
    });
    return kept;
}

std::string redraw_sequence(const std::vector<std::size_t>& previous,
                            const std::vector<std::string>& lines, std::size_t columns) {
    std::string text = "\r";
    if (const auto up = rows_above_cursor(previous, std::max<std::size_t>(1, columns)); up > 0)
        text += "\x1b[" + std::to_string(up) + "A";
    if (!lines.empty()) text += kNoWrap;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (i != 0) text += "\r\n";
        text += lines[i];
        text += kClearRight;
    }
    text += kClearBelow;
    if (!lines.empty()) text += kWrap;
    return text;
}

}  // namespace msb::cli
