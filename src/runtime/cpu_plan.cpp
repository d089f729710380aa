#include "runtime/cpu_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <ranges>
#include <tuple>

#include "base/hash.h"
#include "base/text.h"

namespace msb::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFingerprintDigits = 16;

// One number in a file of its own; 0 when there is none (sysfs says -1 for "unknown").
int number_in(const fs::path& file) {
    std::ifstream stream(file);
    int value = 0;
    return stream >> value && value > 0 ? value : 0;
}

// "Node 0 MemFree:  123 kB" -> MiB
std::uint64_t meminfo_mib(const fs::path& file, std::string_view name) {
    std::ifstream stream(file);
    std::string line;
    while (std::getline(stream, line)) {
        const auto at = line.find(name);
        if (at == std::string::npos) continue;
        const std::string_view digits = trim(std::string_view(line).substr(at + name.size()));
        return parse_integer<std::uint64_t>(digits.substr(0, digits.find(' '))).value_or(0) / 1024;
    }
    return 0;
}

// The numbers behind "node" (or another prefix) of a directory's entries, ascending.
std::vector<int> numbered_entries(const fs::path& directory, std::string_view prefix) {
    std::vector<int> numbers;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
        const std::string name = entry->path().filename().string();
        if (!name.starts_with(prefix)) continue;
        const auto number = parse_integer<int>(std::string_view(name).substr(prefix.size()));
        if (number && *number >= 0) numbers.push_back(*number);
    }
    std::ranges::sort(numbers);
    return numbers;
}

// Loads while a plan is made: those of others, and what the plan itself has taken.
class Planner {
  public:
    Planner(const HostTopology& topology, const state::HostLoad& load) {
        for (const HostProcessor& processor : topology.processors) {
            const auto place = std::tuple(processor.package, processor.die, processor.core);
            if (cores_.empty() || place != last_place_) cores_.emplace_back();
            last_place_ = place;
            const auto found = load.processors.find(processor.index);
            cores_.back().push_back(
                {processor.index, found == load.processors.end() ? 0 : found->second});
        }
    }

    int pick(contract::CpuPlacement policy) {
        Slot* slot = policy == contract::CpuPlacement::kSpread    ? spread()
                     : policy == contract::CpuPlacement::kCompact ? compact()
                                                                  : automatic();
        ++slot->load;
        return slot->index;
    }

  private:
    struct Slot {
        int index;
        unsigned load;
    };
    using Core = std::vector<Slot>;

    static unsigned load_of(const Core& core) {
        unsigned sum = 0;
        for (const Slot& slot : core)
            sum += slot.load;
        return sum;
    }
    static Slot* free_slot(Core& core) {
        const auto found = std::ranges::find(core, 0u, &Slot::load);
        return found == core.end() ? nullptr : &*found;
    }

    // The slot with the smallest rank; the order of cores and processors breaks ties. `rank` gives nullopt for slots that
    // do not qualify.
    template <class Rank>
    Slot* least(Rank rank) {
        Slot* best = nullptr;
        decltype(rank(cores_.front(), cores_.front().front())) best_rank;
        for (Core& core : cores_) {
            for (Slot& slot : core) {
                const auto value = rank(core, slot);
                if (value && (!best || *value < *best_rank)) {
                    best = &slot;
                    best_rank = value;
                }
            }
        }
        return best;
    }

    // One processor per untouched core, then free siblings, then the least loaded.
    Slot* automatic() {
        for (Core& core : cores_)
            if (load_of(core) == 0) return &core.front();
        for (Core& core : cores_)
            if (Slot* slot = free_slot(core)) return slot;
        return least([](const Core& core, const Slot& slot) {
            return std::optional(std::pair(slot.load, load_of(core)));
        });
    }

    // The least loaded core that has a free processor, else the least loaded of the least loaded core.
    Slot* spread() {
        Slot* slot = least([](const Core& core, const Slot& candidate) {
            return candidate.load == 0 ? std::optional(load_of(core)) : std::nullopt;
        });
        if (slot) return slot;
        return least([](const Core& core, const Slot& candidate) {
            return std::optional(std::pair(load_of(core), candidate.load));
        });
    }

    // Free processors of the busiest active core, then untouched cores, then the least loaded, on busier cores first.
    Slot* compact() {
        const auto busier = [](const Core& core) { return -static_cast<long>(load_of(core)); };
        Slot* slot = least([&](const Core& core, const Slot& candidate) {
            return candidate.load == 0 ? std::optional(busier(core)) : std::nullopt;
        });
        if (slot) return slot;
        return least([&](const Core& core, const Slot& candidate) {
            return std::optional(std::pair(candidate.load, busier(core)));
        });
    }

    std::vector<Core> cores_;
    std::tuple<int, int, int> last_place_;
};

}  // namespace

std::string HostTopology::fingerprint() const {
    std::string text;
    for (const HostProcessor& p : processors)
        text += fmt::format("{}:{}:{}:{}:{};", p.index, p.package, p.die, p.core, p.node);
    return sha256_hex(text).substr(0, kFingerprintDigits);
}

HostTopology read_topology(const std::vector<int>& allowed, const fs::path& sysfs) {
    const fs::path cpus = sysfs / "devices/system/cpu", nodes = sysfs / "devices/system/node";
    HostTopology topology;
    std::map<int, int> node_of;
    for (const int id : numbered_entries(nodes, "node")) {
        const fs::path directory = nodes / ("node" + std::to_string(id));
        topology.nodes.push_back({id, meminfo_mib(directory / "meminfo", "MemFree:"),
                                  meminfo_mib(directory / "meminfo", "MemTotal:")});
        for (const int cpu : numbered_entries(directory, "cpu"))
            node_of[cpu] = id;
    }
    for (const int index : allowed) {
        const fs::path place = cpus / ("cpu" + std::to_string(index)) / "topology";
        HostProcessor processor{.index = index,
                                .package = number_in(place / "physical_package_id"),
                                .die = number_in(place / "die_id"),
                                .core = index};
        std::error_code missing;
        if (fs::exists(place / "core_id", missing)) processor.core = number_in(place / "core_id");
        if (const auto node = node_of.find(index); node != node_of.end())
            processor.node = node->second;
        topology.processors.push_back(processor);
    }
    std::ranges::sort(topology.processors, {}, [](const HostProcessor& p) {
        return std::tuple(p.package, p.die, p.core, p.index);
    });
    return topology;
}

std::vector<int> plan_processors(const HostTopology& topology, contract::CpuPlacement policy,
                                 unsigned count, const state::HostLoad& load) {
    Planner planner(topology, load);
    std::vector<int> processors;
    processors.reserve(count);
    while (processors.size() < count)
        processors.push_back(planner.pick(policy));
    return processors;
}

std::optional<int> choose_node(const HostTopology& topology, const state::HostLoad& load,
                               unsigned count, std::uint64_t boot_mib, std::uint64_t max_mib) {
    // Most free memory, least reserved, package, id: the smallest wins.
    using Rank = std::tuple<std::int64_t, std::uint64_t, int, int>;
    std::optional<Rank> best;
    for (const HostNode& node : topology.nodes) {
        const auto reservation = load.nodes_mib.find(node.id);
        const std::uint64_t reserved =
            reservation == load.nodes_mib.end() ? 0 : reservation->second;
        const HostTopology local = on_node(topology, node.id);
        const auto unshared = std::ranges::count_if(local.processors, [&](const HostProcessor& p) {
            return !load.processors.contains(p.index);
        });
        if (node.free_mib < boot_mib || node.total_mib < reserved ||
            node.total_mib - reserved < max_mib || unshared < static_cast<std::ptrdiff_t>(count) ||
            local.processors.empty())
            continue;
        const Rank rank{-static_cast<std::int64_t>(node.free_mib), reserved,
                        local.processors.front().package, node.id};
        if (!best || rank < *best) best = rank;
    }
    if (!best) return std::nullopt;
    return std::get<3>(*best);
}

HostTopology on_node(const HostTopology& topology, int node) {
    HostTopology local{.processors = {}, .nodes = topology.nodes};
    std::ranges::copy_if(topology.processors, std::back_inserter(local.processors),
                         [&](const HostProcessor& p) { return p.node == node; });
    return local;
}

}  // namespace msb::runtime
