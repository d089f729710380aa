// Which host processor each vCPU gets (spec/sandbox-process.md section 14). Pure: the host is described by the caller.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "contract/launch_config.h"
#include "state/cpu_allocations.h"

namespace msb::runtime {

struct HostProcessor {
    int index = 0;  // the kernel's number
    int package = 0, die = 0, core = 0;
    int node = 0;  // NUMA
};

struct HostNode {
    int id = 0;
    std::uint64_t free_mib = 0;
    std::uint64_t total_mib = 0;
};

struct HostTopology {
    std::vector<HostProcessor>
        processors;               // those this process may use; by package, die, core, index
    std::vector<HostNode> nodes;  // by id

    // 16 hex digits that change with the processors and their places.
    std::string fingerprint() const;
};

// From <sysfs>/devices/system/{cpu,node}, for the processors this process may use. What the kernel does not tell counts as
// 0: a host without topology is one core per processor, one without NUMA a single node 0 that nothing is known about.
HostTopology read_topology(const std::vector<int>& allowed,
                           const std::filesystem::path& sysfs = "/sys");

// The processor of each of `count` vCPUs by policy (auto, spread or compact), given what others take.
// `topology.processors` must not be empty.
std::vector<int> plan_processors(const HostTopology& topology, contract::CpuPlacement policy,
                                 unsigned count, const state::HostLoad& load);

// The node on which all of a machine fits without sharing processors, nullopt when there is none.
std::optional<int> choose_node(const HostTopology& topology, const state::HostLoad& load,
                               unsigned count, std::uint64_t boot_mib, std::uint64_t max_mib);

// `topology` without what lies outside the node.
HostTopology on_node(const HostTopology& topology, int node);

}  // namespace msb::runtime
