// The runtime's half of the metrics registry: one slot of a POSIX shared memory object that other processes read while
// it is written (spec/metrics.md sections 3 to 5).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "contract/launch_config.h"

namespace msb::contract {

// Layout constants of version 3.
inline constexpr std::uint64_t kMetricsMagic = 0x313054454d42534d;  // "MSBMET01"
inline constexpr std::uint32_t kMetricsVersion = 3;
inline constexpr std::uint32_t kMetricsHeaderBytes = 256;
inline constexpr std::uint32_t kMetricsSlotBytes = 512;

enum class MetricsSlotState : std::uint32_t { kFree = 0, kReserved = 1, kActive = 2, kStale = 3 };

struct MetricsSample {
    std::int64_t sampled_ms = 0;  // Unix
    // Processor time since the machine started and, from the second sample on, percent (100 = one vCPU busy).
    std::optional<std::uint64_t> vcpu_ns;
    std::optional<float> cpu_percent;
    std::optional<std::uint64_t> memory_used, memory_available;  // bytes, guest view
    std::optional<std::uint64_t> memory_resident;                // bytes, host view
    std::uint64_t disk_read = 0, disk_written = 0;               // cumulative bytes; 0 = unknown
    std::uint64_t net_received = 0, net_sent = 0;                // of the guest
    std::optional<std::uint64_t> upper_used, upper_free, upper_allocated;
};

// Owns the mapping. Not thread-safe within one process; safe against other processes.
class MetricsSlotWriter {
  public:
    // Waits up to 5 s for an object that is still being made. Throws Error{kCustom} with the texts of section 4.3.
    static MetricsSlotWriter open(const MetricsSlot& slot);
    MetricsSlotWriter(MetricsSlotWriter&&) noexcept;
    MetricsSlotWriter& operator=(MetricsSlotWriter&&) noexcept;
    ~MetricsSlotWriter();

    // RESERVED -> ACTIVE. Throws Error{kCustom} "generation mismatch: expected E, observed A" or "cannot activate slot I:
    // state moved out of Reserved (N)".
    void activate(std::int32_t run_id, pid_t pid, std::int64_t started_ms);
    // False: the slot has another owner now; there is nothing more to write.
    bool write(const MetricsSample& sample);
    // RESERVED -> FREE; false when it is no longer ours or no longer reserved.
    bool release_reservation();
    // ACTIVE -> `to` (kFree when the machine never ran, kStale at its end) with a new generation. False when it is no
    // longer ours, or a writer was stuck for 100 ms.
    bool release(MetricsSlotState to);

  private:
    struct Mapping;
    MetricsSlotWriter(std::unique_ptr<Mapping> mapping, const MetricsSlot& slot);
    bool ours() const;
    bool begin_write();
    void end_write();

    std::unique_ptr<Mapping> mapping_;
    std::uint32_t index_;
    std::uint64_t generation_;
};

}  // namespace msb::contract
