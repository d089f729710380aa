#include "runtime/placement.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>

#include "base/encoding.h"
#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "runtime/cpu_plan.h"
#include "state/locks.h"

namespace msb::runtime {
namespace {

namespace fs = std::filesystem;
using contract::CpuPlacement;
using contract::MemoryPlacement;
using contract::NumaMode;

constexpr std::string_view kLog = "msb::placement";
// spec/sandbox-process.md section 14
constexpr std::chrono::milliseconds kPlannerWait{250};
constexpr std::chrono::milliseconds kPlannerPoll{2};
constexpr std::size_t kIdBytes = 16;
constexpr std::string_view kLeaseSuffix = ".lock";

std::string new_id() {
    std::array<char, kIdBytes> bytes{};
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        throw_os_error(errno, "getrandom");
    return hex({bytes.data(), bytes.size()});
}

bool is_lease_name(std::string_view name) {
    if (name.size() != 2 * kIdBytes + kLeaseSuffix.size() || !name.ends_with(kLeaseSuffix))
        return false;
    return std::ranges::all_of(name.substr(0, 2 * kIdBytes), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    });
}

UniqueFd open_locked(const fs::path& path, int flags) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600));
    if (fd && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) fd.reset();
    return fd;
}

// The lease files of dead owners, locked by us until their rows are gone.
class StaleLeases {
  public:
    explicit StaleLeases(fs::path directory) : directory_(std::move(directory)) {}

    // A missing file or a name that is none of ours says nothing: such a row stays charged.
    bool take(std::string_view name) {
        if (!is_lease_name(name)) return false;
        if (taken_.contains(name)) return true;  // the transaction is being repeated
        UniqueFd fd = open_locked(directory_ / name, 0);
        if (!fd) return false;
        taken_.emplace(name, std::move(fd));
        return true;
    }

    void unlink() noexcept {
        for (const auto& [name, fd] : taken_) {
            std::error_code ignored;
            fs::remove(directory_ / name, ignored);
        }
    }

  private:
    fs::path directory_;
    std::map<std::string, UniqueFd, std::less<>> taken_;
};

// What a profile asks of a policy that places nothing. Empty: nothing.
std::string refusal(const contract::LaunchConfig& config) {
    constexpr std::string_view kNeeds = " requires auto, spread, or compact CPU placement";
    const auto& profile = config.placement_profile;
    if (!profile || config.cpu_placement != CpuPlacement::kInherit) return {};
    if (profile->numa != NumaMode::kInherit) return "managed NUMA placement" + std::string(kNeeds);
    if (profile->memory == MemoryPlacement::kFollowCpu)
        return "follow_cpu memory" + std::string(kNeeds);
    return {};
}

}  // namespace

void Placement::plan(const Inputs& inputs, state::Database& database, std::int64_t run_id) {
    const contract::LaunchConfig& config = inputs.config;
    const bool strict =
        config.placement_profile && config.placement_profile->numa == NumaMode::kStrictSingle;
    try {
        if (const std::string why = refusal(config); !why.empty())
            throw Error(ErrorCode::kCustom, why);
        if (config.cpu_placement == CpuPlacement::kInherit) return;
        reserve(inputs, database, run_id);
    } catch (const std::exception& error) {
        drop_lease();
        memory_node_.reset();
        if (strict) throw;
        log(LogLevel::kWarn, kLog, "CPU placement degrades to inherit: {}", error.what());
    }
}

void Placement::reserve(const Inputs& inputs, state::Database& database, std::int64_t run_id) {
    const contract::LaunchConfig& config = inputs.config;
    const unsigned vcpus = inputs.args.effective_max_vcpus();
    const std::uint64_t max_mib = inputs.args.effective_max_memory_mib();
    HostTopology topology = read_topology(allowed_processors());
    if (topology.processors.empty()) throw Error(ErrorCode::kCustom, "no host processor is known");

    fs::create_directories(config.cpu_lease_dir);
    if (::chmod(config.cpu_lease_dir.c_str(), 0700) != 0) throw_os_error(errno, "CPU leases");
    const auto planner =
        FileLock::acquire_within(config.cpu_lease_dir / "allocator.lock", kPlannerWait,
                                 kPlannerPoll, LockMode::kExclusive, 0600);
    if (!planner) throw Error(ErrorCode::kCustom, "CPU placement planner remained busy for 250 ms");

    StaleLeases stale(config.cpu_lease_dir);
    std::vector<std::string> gone;
    const state::HostLoad load = state::read_host_load(
        database, [&](std::string_view name) { return stale.take(name); }, gone);

    state::CpuAllocation allocation{
        .id = new_id(),
        .run_id = run_id,
        .policy = std::string(contract::to_string(config.cpu_placement)),
        .topology_fingerprint = topology.fingerprint()};
    const auto& profile = config.placement_profile;
    if (profile && profile->numa != NumaMode::kInherit) {
        const auto node = choose_node(topology, load, vcpus, inputs.args.memory_mib, max_mib);
        if (node) {
            topology = on_node(topology, *node);
            allocation.memory = {*node, inputs.args.memory_mib, max_mib};
            memory_strict_ = profile->numa == NumaMode::kStrictSingle;
            if (profile->memory == MemoryPlacement::kFollowCpu) memory_node_ = node;
        } else if (profile->numa == NumaMode::kStrictSingle) {
            throw Error(
                ErrorCode::kCustom,
                "NUMA placement strict_single cannot fit max_cpus=" + std::to_string(vcpus) +
                    " and max_memory_mib=" + std::to_string(max_mib) + " on one allowed host node");
        }
    }
    allocation.processors = plan_processors(topology, config.cpu_placement, vcpus, load);
    const std::set<int> distinct(allocation.processors.begin(), allocation.processors.end());
    shared_ = distinct.size() < allocation.processors.size() ||
              std::ranges::any_of(distinct, [&](int p) { return load.processors.contains(p); });

    allocation.lease_name = allocation.id + std::string(kLeaseSuffix);
    lease_path_ = config.cpu_lease_dir / allocation.lease_name;
    lease_ = open_locked(lease_path_, O_CREAT | O_EXCL);
    if (!lease_) throw_os_error(errno, "CPU lease");
    state::insert_cpu_allocation(database, allocation, gone);
    stale.unlink();
    allocation_ = std::move(allocation);
}

void Placement::activate(state::Database& database, const std::vector<bool>& pinned) {
    if (!lease_) return;
    const auto count = static_cast<std::size_t>(std::ranges::count(pinned, true));
    std::string enforcement = "inherited";
    if (count == allocation_.processors.size())
        enforcement = shared_ ? "thread-affinity-shared" : "thread-affinity-exclusive";
    else if (count > 0)
        enforcement = shared_ ? "thread-affinity-partial-shared" : "thread-affinity-partial";
    state::activate_cpu_allocation(database, allocation_.id, pinned, enforcement,
                                   memory_node_.has_value());
    log(LogLevel::kInfo, kLog, "CPU placement {}: {}", allocation_.policy, enforcement);
}

void Placement::release(state::Database& database) {
    if (!lease_) return;
    state::delete_cpu_allocation(database, allocation_.id);
    drop_lease();
}

void Placement::drop_lease() noexcept {
    if (!lease_) return;
    std::error_code ignored;
    fs::remove(lease_path_, ignored);
    lease_.reset();
}

}  // namespace msb::runtime
