#include "contract/metrics_slot.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "base/time.h"

namespace msb::contract {
namespace {

static_assert(std::endian::native == std::endian::little, "the registry is little-endian");

// Offsets of section 3.
namespace header {
constexpr std::size_t kMagic = 0x00, kVersion = 0x08, kHeaderBytes = 0x0c, kSlotBytes = 0x10,
                      kCapacity = 0x14, kState = 0x18, kGeneration = 0x28;
}
namespace slot {
constexpr std::size_t kState = 0x000, kGeneration = 0x008, kSequence = 0x010, kRunId = 0x01c,
                      kPid = 0x020, kStarted = 0x028, kSampled = 0x030, kFlags = 0x038,
                      kVcpuNs = 0x048, kCpuPercent = 0x050, kMemoryUsed = 0x058,
                      kMemoryAvailable = 0x060, kMemoryResident = 0x068, kDiskRead = 0x070,
                      kDiskWritten = 0x078, kNetReceived = 0x080, kNetSent = 0x088,
                      kUpperUsed = 0x090, kUpperFree = 0x098, kUpperAllocated = 0x0a0;
}

constexpr std::uint32_t kHeaderReady = 2;
constexpr auto kOpenLimit = std::chrono::seconds(5);
constexpr auto kOpenPoll = std::chrono::milliseconds(5);
constexpr auto kReleaseLimit = std::chrono::milliseconds(100);

[[noreturn]] void fail(const std::string& text) {
    throw Error(ErrorCode::kCustom, text);
}
[[noreturn]] void fail_os(int error) {
    fail("io error: " + os_error_text(error));
}

// Polls until `done` says so; false when the limit has passed.
template <class Done>
bool poll_until(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + kOpenLimit;
    while (!done()) {
        if (std::chrono::steady_clock::now() >= deadline) return false;
        std::this_thread::sleep_for(kOpenPoll);
    }
    return true;
}

std::string hex_number(std::uint64_t value) {
    char text[20];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

}  // namespace

// The whole object. Another process may truncate it under us; that is as far as trust in the user's own processes goes.
struct MetricsSlotWriter::Mapping {
    Mapping(int fd, std::size_t length) : size(length) {
        base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED) fail_os(errno);
    }
    ~Mapping() { ::munmap(base, size); }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    template <class T>
    std::atomic_ref<T> at(std::size_t offset) const {
        return std::atomic_ref<T>(*reinterpret_cast<T*>(static_cast<std::byte*>(base) + offset));
    }
    template <class T>
    std::atomic_ref<T> in_slot(std::uint32_t index, std::size_t offset) const {
        return at<T>(kMetricsHeaderBytes + std::size_t{index} * kMetricsSlotBytes + offset);
    }
    std::uint64_t next_generation() const {
        return at<std::uint64_t>(header::kGeneration).fetch_add(1, std::memory_order_acq_rel) + 1;
    }

    void* base = MAP_FAILED;
    std::size_t size;
};

namespace {

std::size_t wait_for_size(int fd, std::size_t needed) {
    struct stat info{};
    const bool large = poll_until([&] {
        if (::fstat(fd, &info) != 0) fail_os(errno);
        return static_cast<std::size_t>(info.st_size) >= needed;
    });
    if (!large)
        fail("metrics registry size stayed below " + std::to_string(needed) +
             " bytes (size=" + std::to_string(info.st_size) + ")");
    return static_cast<std::size_t>(info.st_size);
}

template <class Mapping>
std::uint32_t check_header(const Mapping& mapping) {
    std::uint32_t state = 0;
    const bool settled = poll_until([&] {
        state = mapping.template at<std::uint32_t>(header::kState).load(std::memory_order_acquire);
        return state > 1;
    });
    if (!settled) fail("metrics registry is still initializing");
    if (state != kHeaderReady) fail("invalid registry header state: " + std::to_string(state));
    const auto u32 = [&](std::size_t offset) {
        return mapping.template at<std::uint32_t>(offset).load(std::memory_order_relaxed);
    };
    const std::uint64_t magic =
        mapping.template at<std::uint64_t>(header::kMagic).load(std::memory_order_relaxed);
    if (magic != kMetricsMagic) fail("invalid registry magic: " + hex_number(magic));
    if (u32(header::kVersion) != kMetricsVersion)
        fail("incompatible registry version: " + std::to_string(u32(header::kVersion)));
    if (u32(header::kHeaderBytes) != kMetricsHeaderBytes)
        fail("unexpected header length: " + std::to_string(u32(header::kHeaderBytes)));
    if (u32(header::kSlotBytes) != kMetricsSlotBytes)
        fail("unexpected slot length: " + std::to_string(u32(header::kSlotBytes)));
    return u32(header::kCapacity);
}

}  // namespace

MetricsSlotWriter MetricsSlotWriter::open(const MetricsSlot& wanted) {
    if (wanted.shm_name.find('\0') != std::string::npos) fail("registry name contains NUL byte");
    const UniqueFd fd(::shm_open(wanted.shm_name.c_str(), O_RDWR | O_CLOEXEC, 0));
    if (!fd && errno == ENOENT) fail("metrics registry does not exist");
    if (!fd) fail_os(errno);
    wait_for_size(fd.get(), kMetricsHeaderBytes);
    std::uint32_t capacity = 0;
    {
        const Mapping only_header(fd.get(), kMetricsHeaderBytes);
        capacity = check_header(only_header);
    }
    if (wanted.slot >= capacity)
        fail("slot index " + std::to_string(wanted.slot) +
             " out of range (capacity=" + std::to_string(capacity) + ")");
    const std::size_t size = kMetricsHeaderBytes + std::size_t{capacity} * kMetricsSlotBytes;
    wait_for_size(fd.get(), size);
    return MetricsSlotWriter(std::make_unique<Mapping>(fd.get(), size), wanted);
}

MetricsSlotWriter::MetricsSlotWriter(std::unique_ptr<Mapping> mapping, const MetricsSlot& wanted)
    : mapping_(std::move(mapping)), index_(wanted.slot), generation_(wanted.generation) {}
MetricsSlotWriter::MetricsSlotWriter(MetricsSlotWriter&&) noexcept = default;
MetricsSlotWriter& MetricsSlotWriter::operator=(MetricsSlotWriter&&) noexcept = default;
MetricsSlotWriter::~MetricsSlotWriter() = default;

bool MetricsSlotWriter::ours() const {
    return mapping_->in_slot<std::uint64_t>(index_, slot::kGeneration)
               .load(std::memory_order_acquire) == generation_;
}

// Opens the seqlock's write section if the slot is ours, also after we have it: a release may have come in between.
// A writer that died inside leaves the number odd for ever: then nothing is written.
bool MetricsSlotWriter::begin_write() {
    auto sequence = mapping_->in_slot<std::uint64_t>(index_, slot::kSequence);
    const auto deadline = std::chrono::steady_clock::now() + kReleaseLimit;
    for (;;) {
        if (!ours()) return false;
        std::uint64_t value = sequence.load(std::memory_order_acquire);
        if ((value & 1) == 0 &&
            sequence.compare_exchange_weak(value, value + 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire))
            break;
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::yield();
    }
    if (ours()) return true;
    end_write();
    return false;
}

void MetricsSlotWriter::end_write() {
    mapping_->in_slot<std::uint64_t>(index_, slot::kSequence)
        .fetch_add(1, std::memory_order_acq_rel);
}

void MetricsSlotWriter::activate(std::int32_t run_id, pid_t pid, std::int64_t started_ms) {
    if (!begin_write()) {
        const auto observed = mapping_->in_slot<std::uint64_t>(index_, slot::kGeneration)
                                  .load(std::memory_order_acquire);
        if (observed == generation_) fail("metrics slot writer still in progress");
        fail("generation mismatch: expected " + std::to_string(generation_) + ", observed " +
             std::to_string(observed));
    }
    mapping_->in_slot<std::int32_t>(index_, slot::kRunId).store(run_id, std::memory_order_relaxed);
    mapping_->in_slot<std::int32_t>(index_, slot::kPid).store(pid, std::memory_order_relaxed);
    mapping_->in_slot<std::int64_t>(index_, slot::kStarted)
        .store(started_ms, std::memory_order_relaxed);
    end_write();
    auto state = static_cast<std::uint32_t>(MetricsSlotState::kReserved);
    if (!mapping_->in_slot<std::uint32_t>(index_, slot::kState)
             .compare_exchange_strong(state, static_cast<std::uint32_t>(MetricsSlotState::kActive),
                                      std::memory_order_acq_rel, std::memory_order_acquire))
        fail("cannot activate slot " + std::to_string(index_) + ": state moved out of Reserved (" +
             std::to_string(state) + ")");
}

bool MetricsSlotWriter::write(const MetricsSample& sample) {
    if (!begin_write()) return false;
    std::uint32_t flags = 0;
    const auto u64 = [&](std::size_t offset, std::uint64_t value) {
        mapping_->in_slot<std::uint64_t>(index_, offset).store(value, std::memory_order_relaxed);
    };
    const auto flagged = [&](std::size_t offset, const std::optional<std::uint64_t>& value,
                             std::uint32_t flag) {
        u64(offset, value.value_or(0));
        if (value) flags |= flag;
    };
    const bool cpu = sample.vcpu_ns && sample.cpu_percent;
    if (cpu) flags |= 1;
    u64(slot::kVcpuNs, cpu ? *sample.vcpu_ns : 0);
    mapping_->in_slot<std::uint32_t>(index_, slot::kCpuPercent)
        .store(std::bit_cast<std::uint32_t>(cpu ? *sample.cpu_percent : 0.0f),
               std::memory_order_relaxed);
    flagged(slot::kMemoryUsed, sample.memory_used, 2);
    flagged(slot::kMemoryAvailable, sample.memory_available, 4);
    flagged(slot::kMemoryResident, sample.memory_resident, 8);
    u64(slot::kDiskRead, sample.disk_read);
    u64(slot::kDiskWritten, sample.disk_written);
    u64(slot::kNetReceived, sample.net_received);
    u64(slot::kNetSent, sample.net_sent);
    flagged(slot::kUpperUsed, sample.upper_used, 16);
    flagged(slot::kUpperFree, sample.upper_free, 32);
    flagged(slot::kUpperAllocated, sample.upper_allocated, 64);
    mapping_->in_slot<std::int64_t>(index_, slot::kSampled)
        .store(sample.sampled_ms, std::memory_order_relaxed);
    mapping_->in_slot<std::uint32_t>(index_, slot::kFlags).store(flags, std::memory_order_relaxed);
    end_write();
    return true;
}

bool MetricsSlotWriter::release_reservation() {
    if (!ours()) return false;
    auto state = static_cast<std::uint32_t>(MetricsSlotState::kReserved);
    if (!mapping_->in_slot<std::uint32_t>(index_, slot::kState)
             .compare_exchange_strong(state, static_cast<std::uint32_t>(MetricsSlotState::kFree),
                                      std::memory_order_acq_rel, std::memory_order_acquire))
        return false;
    std::uint64_t expected = generation_;
    (void)mapping_->in_slot<std::uint64_t>(index_, slot::kGeneration)
        .compare_exchange_strong(expected, mapping_->next_generation(), std::memory_order_acq_rel);
    return true;
}

bool MetricsSlotWriter::release(MetricsSlotState to) {
    std::uint64_t expected = generation_;
    // The new generation comes first: it fences off every holder of the old one.
    if (!mapping_->in_slot<std::uint64_t>(index_, slot::kGeneration)
             .compare_exchange_strong(expected, mapping_->next_generation(),
                                      std::memory_order_acq_rel))
        return false;
    auto sequence = mapping_->in_slot<std::uint64_t>(index_, slot::kSequence);
    const auto deadline = std::chrono::steady_clock::now() + kReleaseLimit;
    while ((sequence.load(std::memory_order_acquire) & 1) != 0) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::yield();
    }
    mapping_->in_slot<std::uint32_t>(index_, slot::kState)
        .store(static_cast<std::uint32_t>(to), std::memory_order_release);
    return true;
}

}  // namespace msb::contract
