// A row claims what a process did last; processes die without a word. Reconciling compares the claim with the one thing
// that cannot lie, the pid of the newest run, and corrects the row only while holding the name's lifecycle lock: whoever
// holds that lock is the only one who may touch the sandbox's endpoints, and a live runtime never lets go of it.
#include "state/reconcile.h"

#include <filesystem>

#include "base/log.h"
#include "base/process.h"
#include "base/time.h"
#include "state/ipc_paths.h"
#include "state/leases.h"
#include "state/locks.h"
#include "state/removal.h"
#include "state/row_columns.h"
#include "state/validation.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

constexpr unsigned kSweepRows = 250;
constexpr std::int64_t kSweepBudgetNs = 250'000'000;

struct Correction {
    SandboxStatus status;
    std::optional<TerminationReason> run_reason;  // set when there is a run to terminate
};

// The table of section 7.1. nullopt: the row stays.
std::optional<Correction> correction_for(SandboxStatus status,
                                         const std::optional<RunRow>& running_run) {
    const bool reconcilable = status == SandboxStatus::kStarting ||
                              status == SandboxStatus::kRunning ||
                              status == SandboxStatus::kDraining;
    if (!reconcilable) return std::nullopt;
    const bool draining = status == SandboxStatus::kDraining;
    if (!running_run) {
        if (!draining) return std::nullopt;  // still starting
        return Correction{SandboxStatus::kStopped, std::nullopt};
    }
    if (running_run->pid && process_alive(*running_run->pid)) return std::nullopt;
    if (draining) return Correction{SandboxStatus::kStopped, TerminationReason::kShutdownRequested};
    return Correction{SandboxStatus::kCrashed, TerminationReason::kInternalError};
}

void apply(Database& database, std::int64_t sandbox_id, const Correction& correction,
           const std::optional<RunRow>& run) {
    database.write([&](SQLite::Database& connection) {
        const std::string now = sql::now();
        if (run && correction.run_reason) {
            SQLite::Statement update(connection,
                                     "UPDATE run SET status = 'Terminated', "
                                     "termination_reason = ?, terminated_at = ? "
                                     "WHERE id = ? AND status = 'Running'");
            sql::bind_text(update, 1, to_string(*correction.run_reason));
            update.bind(2, now);
            update.bind(3, run->id);
            update.exec();
        }
        SQLite::Statement update(connection,
                                 "UPDATE sandbox SET status = ?, active_config = NULL, "
                                 "network_slot = NULL, updated_at = ? WHERE id = ? AND status IN " +
                                     std::string(kReconcilableStatuses));
        sql::bind_text(update, 1, to_string(correction.status));
        update.bind(2, now);
        update.bind(3, sandbox_id);
        update.exec();
    });
}

// Corrects a row that looked stale. The look was without the lock, so it is taken again under it.
std::optional<SandboxRow> correct(Database& database, const StateRoots& roots,
                                  const SandboxRow& seen) {
    const auto lock = try_lock_lifecycle(roots, seen.name);
    if (!lock) return seen;  // a live owner
    auto row = find_sandbox(database, seen.id);
    if (!row) return std::nullopt;
    const auto run = latest_running_run(database, row->id);
    const auto correction = correction_for(row->status, run);
    if (!correction) return row;
    try {
        remove_endpoints_and_fallback(IpcPaths::of(roots, row->name));
    } catch (const Error&) {
        return row;  // endpoints that cannot be removed keep the row active (spec/protocol.md section 14)
    }
    apply(database, row->id, *correction, run);
    return find_sandbox(database, row->id);
}

// Sockets, directory, row of an ephemeral sandbox. The caller holds its lifecycle lock.
bool clean_up_ephemeral(Database& database, const StateRoots& roots, std::int64_t id) {
    const auto row = find_sandbox(database, id);
    if (!row || !row->ephemeral || !is_terminal(row->status)) return false;
    if (has_live_run(database, id)) return false;
    try {
        remove_endpoints_and_fallback(IpcPaths::of(roots, row->name));
        remove_sandbox_directory(roots, row->name);
    } catch (const Error&) {
        return false;  // the row stays, so that a later sweep finds it
    }
    return delete_ephemeral_sandbox(database, id);
}

std::vector<std::int64_t> ephemeral_leftovers(Database& database) {
    std::vector<std::int64_t> ids;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection,
                                "SELECT id FROM sandbox WHERE ephemeral = 1 AND status IN "
                                "('Stopped', 'Crashed') ORDER BY id LIMIT ?");
        query.bind(1, static_cast<std::int64_t>(kSweepRows));
        ids.clear();
        while (query.executeStep())
            ids.push_back(query.getColumn(0).getInt64());
    });
    return ids;
}

void sweep(Database& database, const StateRoots& roots) {
    const std::int64_t deadline = monotonic_ns() + kSweepBudgetNs;
    unsigned corrected = 0;
    auto candidates = query_stale_candidates(database);
    for (const ListedSandbox& candidate : candidates) {
        if ((corrected > 0 && monotonic_ns() >= deadline) || corrected >= kSweepRows) break;
        if (!correction_for(candidate.row.status, candidate.running_run)) continue;
        correct(database, roots, candidate.row);
        ++corrected;
    }
    // One at least, however slow the host: leftovers must not wait for a sweep without corrections.
    bool cleaned = false;
    for (std::int64_t id : ephemeral_leftovers(database)) {
        if (cleaned && monotonic_ns() >= deadline) break;
        const auto row = find_sandbox(database, id);
        if (!row) continue;
        const auto lock = try_lock_lifecycle(roots, row->name);
        if (lock) cleaned |= clean_up_ephemeral(database, roots, id);
    }
}

}  // namespace

std::optional<SandboxRow> reconcile(Database& database, const StateRoots& roots,
                                    const SandboxRow& row) {
    if (!is_active(row.status)) return row;
    if (!correction_for(row.status, latest_running_run(database, row.id))) return row;
    return correct(database, roots, row);
}

SandboxRow get_reconciled(Database& database, const StateRoots& roots, std::string_view name) {
    if (auto row = find_sandbox(database, name)) {
        if (auto reconciled = reconcile(database, roots, *row)) return std::move(*reconciled);
    }
    throw Error(ErrorCode::kSandboxNotFound, std::string(name));
}

SandboxPage list_sandboxes(Database& database, const StateRoots& roots, const SandboxQuery& query) {
    if (query.limit && (*query.limit < 1 || *query.limit > kMaxPageSize))
        throw Error(ErrorCode::kInvalidConfig,
                    "sandbox list limit must be between 1 and " + std::to_string(kMaxPageSize));
    SandboxQuery one_more = query;  // the row after the page says whether there is a next one
    if (one_more.limit) ++*one_more.limit;
    auto listed = query_sandboxes(database, one_more);

    SandboxPage page;
    if (query.limit && listed.size() > *query.limit) {
        listed.resize(*query.limit);
        page.next_cursor = encode_cursor(listed.back().row.id);
    }
    page.sandboxes.reserve(listed.size());
    for (ListedSandbox& entry : listed) {
        if (!correction_for(entry.row.status, entry.running_run)) {
            page.sandboxes.push_back(std::move(entry.row));
        } else if (auto row = correct(database, roots, entry.row)) {
            page.sandboxes.push_back(std::move(*row));
        }
    }
    return page;
}

void run_maintenance(Database& database, const StateRoots& roots) {
    try {
        if (!acquire_maintenance_lease(database)) return;
        sweep(database, roots);
        complete_maintenance_lease(database);
    } catch (const std::exception& exception) {
        // Opportunistic: the next start tries again once the lease has expired.
        log(LogLevel::kDebug, "state", "maintenance sweep: {}", exception.what());
    }
}

bool clean_up_ephemeral_self(Database& database, const StateRoots& roots, std::int64_t sandbox_id) {
    return clean_up_ephemeral(database, roots, sandbox_id);
}

}  // namespace msb::state
