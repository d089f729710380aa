#include "vmm/console.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace msb::vmm {
namespace {

constexpr std::size_t kMaxLine = 512;  // longer lines are watched up to here
constexpr std::string_view kPanic = "Kernel panic - not syncing";
constexpr std::string_view kDropped =
    "\n[the rest of the console was dropped: log limit reached]\n";

// Printable ASCII: the line goes into errors people read on a terminal.
std::string printable(std::string_view text) {
    std::string clean(text);
    std::ranges::replace_if(clean, [](char c) { return c < ' ' || c > '~'; }, '?');
    return clean;
}

}  // namespace

void ConsoleWatcher::feed(std::string_view bytes) {
    while (!bytes.empty()) {
        const std::size_t newline = bytes.find('\n');
        const std::string_view part = bytes.substr(0, newline);
        line_.append(part.substr(0, kMaxLine - std::min(kMaxLine, line_.size())));
        if (newline == std::string_view::npos) return;
        end_of_line();
        bytes.remove_prefix(newline + 1);
    }
}

void ConsoleWatcher::end_of_line() {
    while (!line_.empty() && line_.back() == '\r')
        line_.pop_back();
    if (panic_line_.empty()) {
        if (const std::size_t at = line_.find(kPanic); at != std::string::npos)
            panic_line_ = printable(std::string_view(line_).substr(at));
    }
    if (line_.ends_with("reboot: System halted") ||
        line_.ends_with("reboot: Power off not available: System halted instead"))
        halted_ = true;
    line_.clear();
}

ConsoleLog::ConsoleLog(const std::filesystem::path& path, std::uint64_t limit)
    : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)),
      remaining_(limit) {
    if (!file_) throw_os_error(errno, path.string());
}

void ConsoleLog::write(std::string_view bytes) noexcept {
    if (!file_) return;
    const std::size_t kept =
        static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), remaining_));
    if (kept > 0) (void)write_all(file_.get(), bytes.substr(0, kept));
    remaining_ -= kept;
    if (kept == bytes.size()) return;
    if (dropped_ == 0) (void)write_all(file_.get(), kDropped);
    dropped_ += bytes.size() - kept;
}

}  // namespace msb::vmm
