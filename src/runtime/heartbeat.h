// heartbeat.json and the idle rule (spec/protocol.md section 16, spec/sandbox-process.md section 8).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "protocol/messages.h"

namespace msb::runtime {

// Compact JSON with the keys of section 16.
std::string heartbeat_json(const protocol::RuntimeHeartbeat& beat);

// Publishes <runtime_dir>/heartbeat.json through heartbeat.tmp; errors are ignored (the next one comes in a second).
void write_heartbeat(const std::filesystem::path& runtime_dir,
                     const protocol::RuntimeHeartbeat& beat) noexcept;
// Leftovers of an earlier run.
void remove_heartbeat(const std::filesystem::path& runtime_dir) noexcept;

// Decides when a sandbox has been idle long enough. Times are host-monotonic; the guest's clock is not consulted.
class IdleTracker {
  public:
    using Clock = std::chrono::steady_clock;

    explicit IdleTracker(std::optional<std::chrono::seconds> timeout) : timeout_(timeout) {}

    void observe(std::uint64_t activity_seq, std::uint32_t active_exec_sessions,
                 Clock::time_point now);
    bool idle(Clock::time_point now) const;
    // When idle() can become true if nothing more is observed; nullopt: not before the next observation.
    std::optional<Clock::time_point> deadline() const;

  private:
    std::optional<std::chrono::seconds> timeout_;
    std::optional<std::uint64_t> activity_seq_;  // unset: no heartbeat yet
    std::uint32_t active_execs_ = 0;
    Clock::time_point changed_{};
};

}  // namespace msb::runtime
