#include "sdk/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "base/error.h"
#include "base/text.h"

namespace msb::sdk {

namespace {

// Signal handlers can only reach globals. There is one terminal per process and one RawTerminal at a time; everything is
// set up before the handlers are installed and torn down after they are removed.
struct Active {
    int fd = -1;
    int resize_write = -1;
    termios original{};
    termios raw{};
};
Active active;
std::atomic<bool> in_use{false};
UniqueFd resize_read;
UniqueFd resize_write;

constexpr std::array kFatalSignals = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGSEGV,
                                      SIGBUS, SIGFPE, SIGILL,  SIGXCPU, SIGPIPE, SIGALRM};
constexpr std::array kOtherSignals = {SIGWINCH, SIGTSTP, SIGCONT};
std::array<struct sigaction, kFatalSignals.size()> old_fatal;
std::array<struct sigaction, kOtherSignals.size()> old_other;

// What follows are handlers: async-signal-safe calls only (tcsetattr, write, raise, sigaction are).

void on_fatal(int signal) {
    const int saved = errno;
    ::tcsetattr(active.fd, TCSANOW, &active.original);
    // On with what would have happened without us: the program's own handler, or death by this signal.
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
        if (kFatalSignals[i] == signal) ::sigaction(signal, &old_fatal[i], nullptr);
    }
    ::raise(signal);  // delivered when this handler returns
    errno = saved;
}

void notify() {
    const char byte = 'w';
    [[maybe_unused]] ssize_t n =
        ::write(active.resize_write, &byte, 1);  // full: a wake-up is pending anyway
}

void on_other(int signal) {
    const int saved = errno;
    if (signal == SIGTSTP) {
        ::tcsetattr(active.fd, TCSANOW, &active.original);
        ::raise(SIGSTOP);
    } else if (signal == SIGCONT) {
        ::tcsetattr(active.fd, TCSANOW, &active.raw);
        notify();
    } else {
        notify();
    }
    errno = saved;
}

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kTerminal, what + ": " + os_error_text(errno));
}

char control_key(char c) {
    if (c >= 'a' && c <= 'z') return static_cast<char>(c - 'a' + 1);
    if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 1);
    switch (c) {
        case '@':
            return '\0';
        case '[':
            return '\x1b';
        case '\\':
            return '\x1c';
        case ']':
            return '\x1d';
        case '^':
            return '\x1e';
        case '_':
            return '\x1f';
        default:
            return '\x7f';
    }
}

}  // namespace

std::string parse_detach_keys(std::string_view spec) {
    constexpr std::string_view kControl = "ctrl-";
    constexpr char kNoKey = '\x7f';
    std::string keys;
    for (std::string_view raw_part : split(spec, ',')) {
        const std::string_view part = trim(raw_part);
        const bool control =
            part.size() > kControl.size() && iequals(part.substr(0, kControl.size()), kControl);
        if (control && part.size() == kControl.size() + 1 && control_key(part.back()) != kNoKey) {
            keys.push_back(control_key(part.back()));
        } else if (part.size() == 1) {
            keys.push_back(part.front());
        } else {
            throw Error(ErrorCode::kInvalidConfig, "invalid detach key: " + std::string(part));
        }
    }
    return keys;
}

bool DetachMatcher::feed(std::string_view chunk) noexcept {
    if (keys_.empty()) return false;
    for (char c : chunk) {
        // Fall back to the longest shorter match that c still extends.
        while (matched_ > 0 && keys_[matched_] != c) {
            std::size_t shorter = matched_ - 1;
            while (shorter > 0 &&
                   keys_.compare(0, shorter, keys_, matched_ - shorter, shorter) != 0)
                --shorter;
            matched_ = shorter;
        }
        if (keys_[matched_] == c) ++matched_;
        if (matched_ == keys_.size()) return true;
    }
    return false;
}

TerminalSize terminal_size(int fd) noexcept {
    winsize size{};
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return {};
    return {size.ws_row, size.ws_col};
}

void require_terminal(int fd) {
    termios settings{};
    if (::tcgetattr(fd, &settings) != 0) fail("resolve tty path");
}

RawTerminal::RawTerminal(int fd) {
    if (in_use.exchange(true))
        throw Error(ErrorCode::kTerminal, "the terminal is attached already");
    try {
        active.fd = fd;
        if (::tcgetattr(fd, &active.original) != 0) fail("resolve tty path");
        active.raw = active.original;
        ::cfmakeraw(&active.raw);
        PipeFds pipe = make_pipe();
        set_nonblocking(pipe.read.get(), true);
        set_nonblocking(pipe.write.get(), true);
        resize_read = std::move(pipe.read);
        resize_write = std::move(pipe.write);
        active.resize_write = resize_write.get();
    } catch (...) {
        in_use = false;
        throw;
    }
    struct sigaction action{};
    ::sigfillset(&action.sa_mask);
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
        // A signal the program ignores stays ignored: it does not end the process.
        ::sigaction(kFatalSignals[i], nullptr, &old_fatal[i]);
        if (old_fatal[i].sa_handler == SIG_IGN) continue;
        action.sa_handler = on_fatal;
        ::sigaction(kFatalSignals[i], &action, nullptr);
    }
    action.sa_flags = SA_RESTART;
    for (std::size_t i = 0; i < kOtherSignals.size(); ++i) {
        action.sa_handler = on_other;
        ::sigaction(kOtherSignals[i], &action, &old_other[i]);
    }
    if (::tcsetattr(fd, TCSANOW, &active.raw) != 0) {
        const int err = errno;
        restore();
        errno = err;
        fail("set raw mode");
    }
}

RawTerminal::~RawTerminal() {
    restore();
}

void RawTerminal::restore() noexcept {
    // A background process group must not be stopped for putting the terminal back.
    sigset_t ttou, before;
    ::sigemptyset(&ttou);
    ::sigaddset(&ttou, SIGTTOU);
    ::pthread_sigmask(SIG_BLOCK, &ttou, &before);
    ::tcsetattr(active.fd, TCSANOW, &active.original);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
        if (old_fatal[i].sa_handler != SIG_IGN)
            ::sigaction(kFatalSignals[i], &old_fatal[i], nullptr);
    }
    for (std::size_t i = 0; i < kOtherSignals.size(); ++i)
        ::sigaction(kOtherSignals[i], &old_other[i], nullptr);
    resize_read.reset();
    resize_write.reset();
    active = {};
    in_use = false;
}

int RawTerminal::resize_fd() const noexcept {
    return resize_read.get();
}

void RawTerminal::drain() const noexcept {
    std::array<char, 64> bytes;
    while (::read(resize_read.get(), bytes.data(), bytes.size()) > 0) {
    }
}

}  // namespace msb::sdk
