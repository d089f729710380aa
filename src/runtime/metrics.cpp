#include "runtime/metrics.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/time.h"

namespace msb::runtime {
namespace {

constexpr std::string_view kLog = "msb::metrics";
constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr double kMaxSkew = 0.05;  // of the window; above it the previous percentage is repeated
constexpr std::uint64_t kStatBlock = 512;

std::chrono::milliseconds interval_of(const contract::MetricsConfig& config) {
    // Longer than a year is never; the number must fit the timer.
    constexpr std::uint64_t kYearMs = 31'536'000'000;
    return std::chrono::milliseconds(std::min(config.sample_interval_ms, kYearMs));
}

}  // namespace

std::optional<float> CpuMeter::update(std::uint64_t vcpu_ns, std::int64_t before_ns,
                                      std::int64_t after_ns) {
    const Reading now{vcpu_ns, (static_cast<double>(before_ns) + static_cast<double>(after_ns)) / 2,
                      static_cast<double>(after_ns - before_ns)};
    const auto last = std::exchange(last_, now);
    if (!last) return std::nullopt;
    const double window = now.middle_ns - last->middle_ns;
    const double skew = (now.width_ns + last->width_ns) / 2;
    if (window <= 0 || skew > kMaxSkew * window) return percent_;
    const double used = vcpu_ns > last->vcpu_ns ? static_cast<double>(vcpu_ns - last->vcpu_ns) : 0;
    percent_ = std::min(static_cast<float>(used / window * 100), limit_);
    return percent_;
}

Metrics::Metrics(EventLoop& loop, const contract::MetricsConfig& config, std::int64_t run_id,
                 unsigned max_vcpus, std::optional<std::filesystem::path> layered_upper)
    : interval_(interval_of(config)),
      meter_(max_vcpus),
      upper_(std::move(layered_upper)),
      timer_(loop, [this] { sample(); }) {
    if (config.off() || !config.slot) return;
    try {
        slot_ = contract::MetricsSlotWriter::open(*config.slot);
        slot_->activate(static_cast<std::int32_t>(run_id), ::getpid(), wall_clock_ns() / kNsPerMs);
    } catch (const Error& error) {
        log(LogLevel::kWarn, kLog, "metrics are not published: {}", error.detail());
        if (slot_) slot_->release_reservation();
        slot_.reset();
    }
}

void Metrics::give_back(const contract::MetricsConfig& config) noexcept {
    if (config.off() || !config.slot) return;
    try {
        (void)contract::MetricsSlotWriter::open(*config.slot).release_reservation();
    } catch (const std::exception&) {
        // no registry, nothing reserved
    }
}

void Metrics::start(const vmm::Machine& machine) {
    machine_ = &machine;
    if (slot_) sample();
}

void Metrics::sample() {
    contract::MetricsSample sample;
    const std::int64_t before = monotonic_ns();
    const vmm::MachineUsage usage = machine_->usage();
    const std::int64_t after = monotonic_ns();
    if (usage.vcpu_ns) {
        sample.vcpu_ns = usage.vcpu_ns;
        sample.cpu_percent = meter_.update(*usage.vcpu_ns, before, after);
    }
    sample.memory_resident = usage.resident_bytes;
    struct stat info{};
    if (upper_ && ::stat(upper_->c_str(), &info) == 0)
        sample.upper_allocated = static_cast<std::uint64_t>(info.st_blocks) * kStatBlock;
    sample.sampled_ms = wall_clock_ns() / kNsPerMs;
    if (!slot_->write(sample)) {
        log(LogLevel::kInfo, kLog, "the metrics slot has another owner: sampling stops");
        slot_.reset();
        return;
    }
    timer_.start_after(interval_);
}

void Metrics::abandon() {
    timer_.cancel();
    if (slot_) slot_->release(contract::MetricsSlotState::kFree);
    slot_.reset();
}

void Metrics::retire() {
    timer_.cancel();
    if (slot_ && !slot_->release(contract::MetricsSlotState::kStale))
        log(LogLevel::kWarn, kLog, "the metrics slot could not be retired");
    slot_.reset();
}

}  // namespace msb::runtime
