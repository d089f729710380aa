#include "runtime/boot_diagnosis.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"

namespace msb::runtime {
namespace {

constexpr off_t kTailBytes = 64 * 1024;
constexpr std::size_t kMaxLine = 512;
constexpr std::string_view kAgentPrefix = "agentd: ";

std::string tail_of(const std::filesystem::path& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!fd || ::fstat(fd.get(), &info) != 0) return {};
    const off_t start = info.st_size > kTailBytes ? info.st_size - kTailBytes : 0;
    std::string tail(static_cast<std::size_t>(info.st_size - start), '\0');
    const ssize_t count = ::pread(fd.get(), tail.data(), tail.size(), start);
    tail.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return tail;
}

// The guest wrote this: only printable ASCII is passed on, and not much of it.
std::string printable(std::string_view line) {
    std::string out;
    for (char c : line.substr(0, kMaxLine))
        out += c >= ' ' && c <= '~' ? c : '?';
    return out;
}

std::string last_agent_line(const std::filesystem::path& kernel_log) {
    const std::string tail = tail_of(kernel_log);
    std::string found;
    for (std::string_view line : split(tail, '\n')) {
        const std::size_t start = line.find(kAgentPrefix);
        if (start != std::string_view::npos) found = printable(trim(line.substr(start)));
    }
    return found;
}

}  // namespace

std::string early_exit_message(const vmm::MachineExit& exit,
                               const std::filesystem::path& kernel_log) {
    const bool guest =
        exit.kind == vmm::ExitKind::kGuestPanic || exit.kind == vmm::ExitKind::kGuestShutdown;
    std::string detail = guest ? last_agent_line(kernel_log) : std::string();
    if (detail.empty()) detail = printable(exit.detail);
    std::string message = "VM enter: ";
    message += guest ? "the guest ended before its agent was ready"
                     : std::string(vmm::to_string(exit.kind));
    if (!detail.empty()) message += ": " + detail;
    return message;
}

}  // namespace msb::runtime
