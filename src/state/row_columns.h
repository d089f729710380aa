// Private to state: the column lists of sandbox and run rows and how to read them from a statement.
#pragma once

#include "state/run_rows.h"
#include "state/sandbox_rows.h"
#include "state/sql.h"

namespace msb::state {

inline constexpr std::string_view kSandboxColumns =
    "s.id, s.name, s.config, s.status, s.created_at, s.updated_at, s.ephemeral, s.active_config, "
    "s.network_slot";
inline constexpr int kSandboxColumnCount = 9;
// Throws Error{kDatabase} for a status outside the domain or a malformed time.
SandboxRow read_sandbox(SQLite::Statement& statement, int first_column = 0);

inline constexpr std::string_view kRunColumns =
    "r.id, r.sandbox_id, r.pid, r.status, r.exit_code, r.termination_reason, r.started_at, "
    "r.terminated_at";
RunRow read_run(SQLite::Statement& statement, int first_column = 0);

// The statuses a runtime can be behind and reconciling looks at.
inline constexpr std::string_view kReconcilableStatuses = "('Starting', 'Running', 'Draining')";
inline constexpr std::string_view kActiveStatuses = "('Starting', 'Running', 'Draining', 'Paused')";

// Rows in those statuses with their newest Running run, oldest first.
std::vector<ListedSandbox> query_stale_candidates(Database& database);

}  // namespace msb::state
