// What the guest has been doing, for the host's idle detection (spec/guest-agent.md section 13).
// Written by the loop and by fs workers, read by the heartbeat thread: all atomic.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/time.h"
#include "protocol/messages.h"

namespace msb::agentd {

class Activity {
  public:
    // Every call is one step of activity_seq. Returns the new value.
    std::uint64_t count_host_message() {
        ++host_messages;
        return step();
    }
    std::uint64_t count_guest_message() {
        ++guest_messages;
        return step();
    }

    protocol::RuntimeHeartbeat snapshot(std::uint64_t heartbeat_seq) const {
        return {.heartbeat_seq = heartbeat_seq,
                .activity_seq = activity_seq_,
                .timestamp_ns = static_cast<std::uint64_t>(wall_clock_ns()),
                .last_activity_ns = static_cast<std::uint64_t>(last_activity_.load()),
                .active_exec_sessions = exec_sessions,
                .active_fs_streams = fs_streams,
                .active_tcp_streams = tcp_streams,
                .activity_counters = {.host_messages = host_messages,
                                      .guest_messages = guest_messages,
                                      .exec_output_bytes = exec_output_bytes,
                                      .fs_bytes = fs_bytes,
                                      .tcp_bytes = tcp_bytes}};
    }

    std::atomic<std::uint32_t> exec_sessions = 0;
    std::atomic<std::uint32_t> fs_streams = 0;
    std::atomic<std::uint32_t> tcp_streams = 0;
    std::atomic<std::uint64_t> host_messages = 0;
    std::atomic<std::uint64_t> guest_messages = 0;
    std::atomic<std::uint64_t> exec_output_bytes = 0;
    std::atomic<std::uint64_t> fs_bytes = 0;   // both directions
    std::atomic<std::uint64_t> tcp_bytes = 0;  // both directions

  private:
    std::uint64_t step() {
        last_activity_ = wall_clock_ns();
        return ++activity_seq_;
    }

    std::atomic<std::uint64_t> activity_seq_ = 0;
    std::atomic<std::int64_t> last_activity_ = wall_clock_ns();
};

}  // namespace msb::agentd
