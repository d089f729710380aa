#include "runtime/lifecycle.h"

#include "base/log.h"
#include "base/text.h"

namespace msb::runtime {

state::TerminationReason termination_reason(std::optional<Cause> cause, int exit_code) {
    using state::TerminationReason;
    if (!cause) return exit_code == 0 ? TerminationReason::kCompleted : TerminationReason::kFailed;
    switch (*cause) {
        case Cause::kIdle:
            return TerminationReason::kIdleTimeout;
        case Cause::kMaxDuration:
            return TerminationReason::kMaxDurationExceeded;
        case Cause::kSignal:
        case Cause::kParentExit:
            return TerminationReason::kSignal;
        case Cause::kAgentUnresponsive:
            return TerminationReason::kAgentUnresponsive;
        case Cause::kShutdownRequested:
            return TerminationReason::kShutdownRequested;
        case Cause::kStartupFailed:
            break;
    }
    return TerminationReason::kFailed;
}

std::chrono::milliseconds flush_window(const char* override_text, bool handoff) {
    const auto fallback = handoff ? kHandoffFlushWindow : kFlushWindow;
    if (!override_text) return fallback;
    const auto value = parse_integer<std::uint64_t>(override_text);
    if (!value) {
        log(LogLevel::kWarn, "msb::lifecycle",
            "ignoring invalid MSB_SHUTDOWN_FLUSH_TIMEOUT_MS override");
        return fallback;
    }
    // Beyond a day the exact number is meaningless, and it must fit the timer.
    constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24);
    return std::chrono::milliseconds(std::min<std::uint64_t>(*value, kLongest.count()));
}

Lifecycle::Lifecycle(EventLoop& loop, std::chrono::milliseconds window, Actions actions)
    : window_(window), actions_(std::move(actions)), timer_(loop, [this] {
          log(LogLevel::kInfo, "msb::lifecycle",
              "the guest did not power off in time: ending the machine");
          actions_.end_machine();
      }) {}

void Lifecycle::drain(std::optional<Cause> cause) {
    store(cause);
    if (draining_) return;
    actions_.ask_guest();
    start_window();
}

void Lifecycle::drain_by_client() {
    store(Cause::kShutdownRequested);
    if (!draining_) start_window();
}

void Lifecycle::start_window() {
    draining_ = true;
    timer_.start_after(window_);
}

void Lifecycle::end_now(std::optional<Cause> cause) {
    store(cause);
    actions_.end_machine();
}

}  // namespace msb::runtime
