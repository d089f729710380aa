#include "agentd/rlimits.h"

#include <array>
#include <cerrno>
#include <string>

#include "agentd/failure.h"
#include "base/error.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

// The index is the number, the same on x86-64 and aarch64.
constexpr std::array<std::string_view, 16> kNames = {
    "cpu",     "fsize", "data",  "stack",      "core",     "rss",  "nproc",  "nofile",
    "memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};

}  // namespace

std::optional<int> rlimit_number(std::string_view name) {
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        if (iequals(kNames[i], name)) return static_cast<int>(i);
    }
    return std::nullopt;
}

std::vector<ResourceLimit> resource_limits(const std::vector<protocol::Rlimit>& requested) {
    std::vector<ResourceLimit> limits;
    for (const protocol::Rlimit& limit : requested) {
        if (auto number = rlimit_number(limit.resource))
            limits.push_back({*number, {limit.soft, limit.hard}});
    }
    return limits;
}

void apply_sandbox_rlimits(const std::vector<protocol::Rlimit>& limits) {
    for (const protocol::Rlimit& limit : limits) {
        auto number = rlimit_number(limit.resource);
        rlimit value{limit.soft, limit.hard};
        int err = !number                                                             ? EINVAL
                  : ::setrlimit(static_cast<__rlimit_resource>(*number), &value) != 0 ? errno
                                                                                      : 0;
        if (err != 0)
            throw init_error("failed to apply rlimit " + limit.resource + "=" +
                             std::to_string(limit.soft) + ":" + std::to_string(limit.hard) + ": " +
                             os_error_text(err));
    }
}

}  // namespace msb::agentd
