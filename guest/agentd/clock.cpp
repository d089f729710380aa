#include "agentd/clock.h"

#include <time.h>

#include <cerrno>
#include <limits>

#include "agentd/failure.h"
#include "base/error.h"
#include "base/time.h"

namespace msb::agentd {

namespace {

constexpr std::int64_t kTolerance = 100'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

}  // namespace

bool clock_needs_step(std::int64_t now_ns, std::uint64_t target_ns) {
    if (target_ns > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return false;
    auto target = static_cast<std::int64_t>(target_ns);
    std::int64_t difference = target > now_ns ? target - now_ns : now_ns - target;
    return difference > kTolerance;
}

void sync_clock(std::uint64_t target_ns) {
    if (!clock_needs_step(wall_clock_ns(), target_ns)) return;
    auto target = static_cast<std::int64_t>(target_ns);
    timespec value{target / kSecond, target % kSecond};
    if (::clock_settime(CLOCK_REALTIME, &value) != 0)
        log_line("setting the clock failed: " + os_error_text(errno));
}

}  // namespace msb::agentd
