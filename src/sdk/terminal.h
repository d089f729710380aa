// This process's terminal for interactive commands.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace msb::sdk {

// "ctrl-p,ctrl-q" -> "\x10\x11". Throws Error{kInvalidConfig} "invalid detach key: <part>".
std::string parse_detach_keys(std::string_view spec);
inline constexpr std::string_view kDefaultDetachKeys = "ctrl-]";

// Finds the detach sequence in typed input, across reads.
class DetachMatcher {
  public:
    explicit DetachMatcher(std::string keys) : keys_(std::move(keys)) {}
    // True: `chunk` completes the sequence (and is not to be forwarded).
    bool feed(std::string_view chunk) noexcept;

  private:
    std::string keys_;
    std::size_t matched_ = 0;
};

struct TerminalSize {
    std::uint16_t rows = 24;
    std::uint16_t cols = 80;
    bool operator==(const TerminalSize&) const = default;
};
// 24x80 when it has none.
TerminalSize terminal_size(int fd) noexcept;

// Raw mode for as long as the object lives. Restored by the destructor and also when a signal ends or stops the process
// (after SIGCONT it is raw again). At most one at a time: the second throws Error{kTerminal}.
class RawTerminal {
  public:
    // Throws Error{kTerminal} "resolve tty path: ..." when `fd` is not a terminal, "set raw mode: ...".
    explicit RawTerminal(int fd);
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;
    ~RawTerminal();

    // Readable after the size changed (or the process was continued); drain() before looking.
    int resize_fd() const noexcept;
    void drain() const noexcept;

  private:
    static void restore() noexcept;
};

// Throws what RawTerminal would for a descriptor that is no terminal.
void require_terminal(int fd);

}  // namespace msb::sdk
