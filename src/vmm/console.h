// The guest console on its way to kernel.log: bounded, and watched for the kernel's last words.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace msb::vmm {

// Recognises lines of the guest kernel that end a machine. A guest program with root can write the
// same text to its console; it then only ends, or mislabels the end of, its own machine.
class ConsoleWatcher {
  public:
    void feed(std::string_view bytes);
    // "Kernel panic - not syncing: ..." as the kernel said it; empty: no panic.
    const std::string& panic_line() const noexcept { return panic_line_; }
    // The guest halted: without ACPI that is all a guest can do to power off.
    bool halted() const noexcept { return halted_; }

  private:
    void end_of_line();

    std::string line_;
    std::string panic_line_;
    bool halted_ = false;
};

// Writes up to `limit` bytes to a file truncated at the start, then one line saying that the rest
// was dropped. A file that cannot be written (disk full) loses bytes, never the machine.
class ConsoleLog {
  public:
    ConsoleLog() = default;  // discards
    // Throws Error{kIo} with the path when the file cannot be opened.
    ConsoleLog(const std::filesystem::path& path, std::uint64_t limit);
    void write(std::string_view bytes) noexcept;
    std::uint64_t dropped() const noexcept { return dropped_; }

  private:
    UniqueFd file_;
    std::uint64_t remaining_ = 0;
    std::uint64_t dropped_ = 0;
};

}  // namespace msb::vmm
