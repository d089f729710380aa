// Waiting on descriptors with a deadline and a std::stop_token.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>

#include "base/fd.h"

namespace msb::sdk {

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;  // nullopt: no limit

inline Deadline deadline_in(std::chrono::nanoseconds limit) {
    return Clock::now() + limit;
}

// A stop_token one can poll(2) on. Costs nothing when the token can never be triggered.
class Cancel {
  public:
    Cancel() = default;
    explicit Cancel(std::stop_token token);
    Cancel(const Cancel&) = delete;
    Cancel& operator=(const Cancel&) = delete;

    int fd() const noexcept { return event_.get(); }  // readable once triggered; -1: never
    bool requested() const noexcept { return token_.stop_requested(); }
    // Throws Error{kCancelled} "operation cancelled".
    void throw_if_requested() const;
    const std::stop_token& token() const noexcept { return token_; }

  private:
    std::stop_token token_;
    UniqueFd event_;
    std::optional<std::stop_callback<std::function<void()>>> callback_;
};

enum class Ready { kReady, kTimeout };

// Waits until `fd` has one of `events` (or an error or hang-up). Throws Error{kCancelled} when cancelled first. `fd` may
// be -1: then only the deadline and the cancellation count.
Ready wait_for(int fd, short events, const Deadline& deadline, const Cancel& cancel);

// Sleeps that long; throws Error{kCancelled} when cancelled.
inline void sleep_for(std::chrono::nanoseconds time, const Cancel& cancel) {
    wait_for(-1, 0, deadline_in(time), cancel);
}

}  // namespace msb::sdk
