// Why and how a sandbox ends (spec/sandbox-process.md sections 8 and 9): one stored cause, the last writer wins; a drain
// asks the guest and gives it the flush window, everything else ends the machine at once.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "runtime/event_loop.h"
#include "state/run_rows.h"

namespace msb::runtime {

enum class Cause {
    kIdle,
    kMaxDuration,
    kSignal,
    kParentExit,
    kAgentUnresponsive,
    kShutdownRequested,
    kStartupFailed,
};

// What the run row gets. Without a cause the machine's exit code decides: 0 is Completed.
state::TerminationReason termination_reason(std::optional<Cause> cause, int exit_code);

inline constexpr std::chrono::milliseconds kFlushWindow{2000};
// When the guest hands PID 1 to another init, whose power-off alone takes 5 s.
inline constexpr std::chrono::milliseconds kHandoffFlushWindow{8000};
// `override_text` is MSB_SHUTDOWN_FLUSH_TIMEOUT_MS (null when unset); an invalid one is warned about and ignored.
std::chrono::milliseconds flush_window(const char* override_text, bool handoff);

class Lifecycle {
  public:
    struct Actions {
        std::function<void()> ask_guest;    // queue core.shutdown
        std::function<void()> end_machine;  // kill the machine now
    };
    Lifecycle(EventLoop& loop, std::chrono::milliseconds window, Actions actions);

    // Asks the guest to power off; after the window the machine is ended. A second drain only updates the cause.
    void drain(std::optional<Cause> cause);
    // The same when the request is a client's, already on its way.
    void drain_by_client();
    void end_now(std::optional<Cause> cause);

    std::optional<Cause> cause() const noexcept { return cause_; }
    bool draining() const noexcept { return draining_; }

  private:
    void start_window();
    void store(std::optional<Cause> cause) {
        if (cause) cause_ = cause;
    }

    std::chrono::milliseconds window_;
    Actions actions_;
    Timer timer_;
    std::optional<Cause> cause_;
    bool draining_ = false;
};

}  // namespace msb::runtime
