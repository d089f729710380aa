#include "agentd/cpus.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

constexpr unsigned kMaxCpus = 4096;

struct CpuRange {
    unsigned first;
    unsigned last;
};

std::optional<CpuRange> parse_range(std::string_view text) {
    std::size_t dash = text.find('-');
    auto first = parse_integer<std::uint16_t>(text.substr(0, dash));
    auto last = dash == std::string_view::npos
                    ? first
                    : parse_integer<std::uint16_t>(text.substr(dash + 1));
    if (!first || !last || *last < *first || *last >= kMaxCpus) return std::nullopt;
    return CpuRange{*first, *last};
}

}  // namespace

unsigned count_cpus(std::string_view cpu_list) {
    unsigned count = 0;
    for (std::string_view part : split(trim(cpu_list), ',')) {
        auto range = parse_range(part);
        if (!range) return 0;
        count += range->last - range->first + 1;
    }
    return count;
}

unsigned Cpus::online() const {
    return std::max(1u, count_cpus(read_kernel_file(directory_ + "/online")));
}

bool Cpus::switch_cpu(unsigned cpu, bool on) const {
    std::string path = directory_ + "/cpu" + std::to_string(cpu) + "/online";
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    int err = fd ? write_all(fd.get(), on ? "1" : "0") : errno;
    // The boot CPU has no such file and is always on.
    if (err != 0 && !(err == ENOENT && cpu == 0))
        log_line("switching cpu" + std::to_string(cpu) + (on ? " on" : " off") +
                 " failed: " + os_error_text(err));
    return err == 0;
}

unsigned Cpus::set_online(unsigned target) const {
    unsigned present = count_cpus(read_kernel_file(directory_ + "/present"));
    target = std::clamp(target, 1u, std::max(1u, present));
    for (unsigned cpu = 1; cpu < present; ++cpu) {
        std::string state = read_kernel_file(directory_ + "/cpu" + std::to_string(cpu) + "/online");
        bool is_on = trim(state) == "1";
        if (is_on != (cpu < target)) switch_cpu(cpu, cpu < target);
    }
    return online();
}

}  // namespace msb::agentd
