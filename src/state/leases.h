// Rows of `maintenance_lease`: cooperative leases between processes (spec/state.md sections 2, 4 and 7.2).
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "state/database.h"

namespace msb::state {

inline constexpr std::string_view kInstallLease = "install_exclusive";
inline constexpr std::string_view kMaintenanceLease = "sandbox_lifecycle_maintenance";
inline constexpr std::chrono::minutes kInstallLeaseTime{30};
inline constexpr std::chrono::seconds kMaintenanceLeaseTime{10};
inline constexpr std::chrono::seconds kMaintenanceInterval{
    30};  // no sweep sooner than this after a completed one

// Tries to become the one that sweeps. False: another holds the lease, or a sweep was completed less than 30 s ago.
bool acquire_maintenance_lease(Database& database);
// last_completed_at = now, holder NULL; the expiry stays.
void complete_maintenance_lease(Database& database);

}  // namespace msb::state
