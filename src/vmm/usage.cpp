#include "vmm/usage.h"

#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"

namespace msb::vmm {
namespace {

namespace fs = std::filesystem;

// The engine names its vCPU threads so (command_line.cpp asks for named threads).
constexpr std::string_view kVcpuThread = "CPU ";
constexpr std::size_t kMaxProcFile = 4096;

std::string read_proc(const fs::path& path) {
    try {
        return read_file(path, kMaxProcFile);
    } catch (const Error&) {
        return {};
    }
}

// The first field of schedstat is the time on a processor, in nanoseconds.
std::optional<std::uint64_t> first_number(std::string_view text) {
    return parse_integer<std::uint64_t>(text.substr(0, text.find(' ')));
}

std::optional<std::uint64_t> vcpu_time(const fs::path& process) {
    std::error_code error;
    std::optional<std::uint64_t> sum;
    for (fs::directory_iterator task(process / "task", error), end; !error && task != end;
         task.increment(error)) {
        if (!read_proc(task->path() / "comm").starts_with(kVcpuThread)) continue;
        if (const auto time = first_number(read_proc(task->path() / "schedstat")))
            sum = sum.value_or(0) + *time;
    }
    return sum;
}

}  // namespace

MachineUsage engine_usage(pid_t engine) noexcept {
    MachineUsage usage;
    try {
        const fs::path process = fs::path("/proc") / std::to_string(engine);
        usage.vcpu_ns = vcpu_time(process);
        const std::string statm = read_proc(process / "statm");
        if (const std::size_t space = statm.find(' '); space != std::string::npos) {
            if (const auto pages = first_number(std::string_view(statm).substr(space + 1)))
                usage.resident_bytes = *pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        }
    } catch (const std::exception&) {
        // out of memory: absent
    }
    return usage;
}

}  // namespace msb::vmm
