// Rows of `cpu_allocation`, `cpu_allocation_cpu` and `memory_allocation_node`: which host processors and NUMA nodes the
// sandboxes of this home have planned for (spec/sandbox-process.md section 14, spec/state.md section 5).
//
// Reading the load and inserting a plan made from it belong under `allocator.lock`, which the caller holds.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "state/database.h"

namespace msb::state {

struct MemoryReservation {
    int host_node = 0;
    std::uint64_t boot_mib = 0;
    std::uint64_t max_mib = 0;
};

struct CpuAllocation {
    std::string id;  // 32 lowercase hex digits
    std::int64_t run_id = 0;
    std::string policy;                // auto, spread, compact
    std::string topology_fingerprint;  // 16 hex digits, opaque
    std::string lease_name;            // file in the lease directory
    std::vector<int> processors;       // host processor of each vCPU, by its index
    std::optional<MemoryReservation> memory;
};

// What the live allocations of this home take.
struct HostLoad {
    std::map<int, unsigned> processors;      // rows per host processor
    std::map<int, std::uint64_t> nodes_mib;  // reserved (max) per host NUMA node
};

// `stale(lease_name)` says whether the owner of an allocation is gone; those ids are added to `gone` and not counted.
HostLoad read_host_load(Database& database, const std::function<bool(std::string_view)>& stale,
                        std::vector<std::string>& gone);

// Deletes `gone` and inserts the allocation, enforcement and state `pending`, roles `planned`: one transaction.
void insert_cpu_allocation(Database& database, const CpuAllocation& allocation,
                           const std::vector<std::string>& gone);

// The threads are placed: pinned rows become `assigned`, the others and, unless applied, the memory rows go; state
// `active`.
void activate_cpu_allocation(Database& database, const std::string& id,
                             const std::vector<bool>& pinned, std::string_view enforcement,
                             bool memory_applied);

// With its rows of the other two tables.
void delete_cpu_allocation(Database& database, const std::string& id);

}  // namespace msb::state
