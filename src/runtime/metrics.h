// Samples what the machine uses into its metrics slot (spec/metrics.md sections 5 and 6). Everything that goes wrong is
// logged and otherwise ignored: metrics never decide about a sandbox.
#pragma once

#include <filesystem>
#include <optional>

#include "contract/metrics_slot.h"
#include "runtime/event_loop.h"
#include "vmm/machine.h"

namespace msb::runtime {

// Percent of one vCPU from two readings (section 6.1).
class CpuMeter {
  public:
    explicit CpuMeter(unsigned max_vcpus)
        : limit_(100.0f * static_cast<float>(max_vcpus > 0 ? max_vcpus : 1)) {}

    // `before_ns` and `after_ns`: clock readings around the reading of the counter. nullopt for the first.
    std::optional<float> update(std::uint64_t vcpu_ns, std::int64_t before_ns,
                                std::int64_t after_ns);

  private:
    struct Reading {
        std::uint64_t vcpu_ns;
        double middle_ns, width_ns;
    };
    float limit_;
    std::optional<Reading> last_;
    float percent_ = 0;
};

class Metrics {
  public:
    // Activates the slot, when there is one and metrics are on. A slot that cannot be activated is given back.
    Metrics(EventLoop& loop, const contract::MetricsConfig& config, std::int64_t run_id,
            unsigned max_vcpus, std::optional<std::filesystem::path> layered_upper);

    // For a failure before there was an object: gives the reservation back, if it is still ours.
    static void give_back(const contract::MetricsConfig& config) noexcept;

    // The guest is ready: samples now and then every interval. `machine` must outlive the object.
    void start(const vmm::Machine& machine);
    // The machine never ran: the slot becomes free.
    void abandon();
    // The machine has ended: the last sample stays readable as stale.
    void retire();

  private:
    void sample();

    std::chrono::milliseconds interval_;
    std::optional<contract::MetricsSlotWriter> slot_;
    const vmm::Machine* machine_ = nullptr;
    CpuMeter meter_;
    std::optional<std::filesystem::path> upper_;
    Timer timer_;
};

}  // namespace msb::runtime
