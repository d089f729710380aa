// The host processors (and the NUMA node) of one sandbox: planned together with the other sandboxes of this home, recorded
// in the database, given back at the end (spec/sandbox-process.md section 14).
//
// An allocation is alive as long as its lease file is locked, so one whose process was killed is recognised by the next
// planner, which deletes its rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "runtime/inputs.h"
#include "state/cpu_allocations.h"
#include "state/database.h"

namespace msb::runtime {

class Placement {
  public:
    Placement() = default;
    Placement(const Placement&) = delete;
    Placement& operator=(const Placement&) = delete;

    // Plans and reserves; nothing at all for `inherit` without a profile. What cannot be planned degrades to `inherit` with a
    // warning, except under numa `strict_single`: throws Error{kCustom} then.
    void plan(const Inputs& inputs, state::Database& database, std::int64_t run_id);

    // Of each vCPU; empty: wherever the host's scheduler likes.
    const std::vector<int>& processors() const noexcept { return allocation_.processors; }
    // Where the machine's memory shall come from, and whether from nowhere else.
    std::optional<int> memory_node() const noexcept { return memory_node_; }
    bool memory_strict() const noexcept { return memory_strict_; }

    // The vCPU threads were bound, or not, one flag each.
    void activate(state::Database& database, const std::vector<bool>& pinned);

    // Deletes the rows and the lease. Throws Error{kDatabase}; idempotent.
    void release(state::Database& database);

  private:
    void reserve(const Inputs& inputs, state::Database& database, std::int64_t run_id);
    void drop_lease() noexcept;

    state::CpuAllocation allocation_;
    UniqueFd lease_;  // locked; empty: nothing is reserved
    std::filesystem::path lease_path_;
    bool shared_ = false;  // some processor has another user
    std::optional<int> memory_node_;
    bool memory_strict_ = false;
};

}  // namespace msb::runtime
