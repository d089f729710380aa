// Bringing rows back to the truth after a killed runtime or launcher; replacing and removing sandboxes
// (spec/state.md section 7, spec/sandbox-process.md section 18).
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_lock.h"
#include "state/sandbox_rows.h"

namespace msb::state {

// Applies section 7.1 to one row and returns it as it now is; nullopt when it is gone. A row whose lifecycle lock is held
// elsewhere, or whose endpoints cannot be removed, stays as it is.
std::optional<SandboxRow> reconcile(Database& database, const StateRoots& roots,
                                    const SandboxRow& row);

// What every client call by name uses: find, reconcile. Throws Error{kSandboxNotFound}.
SandboxRow get_reconciled(Database& database, const StateRoots& roots, std::string_view name);

struct SandboxPage {
    std::vector<SandboxRow> sandboxes;       // newest first, reconciled
    std::optional<std::string> next_cursor;  // set when there are more
};
// One SQL statement for the whole page; only rows that look stale cost more. `limit` nullopt lists everything, else it
// must be 1..100: throws Error{kInvalidConfig} "sandbox list limit must be between 1 and 100".
SandboxPage list_sandboxes(Database& database, const StateRoots& roots,
                           const SandboxQuery& query = {});

// --- Maintenance by the runtime process ------------------------------------------------------------------------------

// One opportunistic sweep: at most 250 stale rows and 250 ephemeral leftovers, at most 250 ms, guarded by the lease
// `sandbox_lifecycle_maintenance`. Errors are swallowed.
void run_maintenance(Database& database, const StateRoots& roots);

// Self-clean at the end of an ephemeral sandbox's own runtime, which holds the lifecycle lock: sockets, directory, row.
// False when the row is not ephemeral and terminal, or something could not be removed (the row stays then).
bool clean_up_ephemeral_self(Database& database, const StateRoots& roots, std::int64_t sandbox_id);

// --- Start, replace, remove (the caller holds the creation lock of the name) -----------------------------------------

// Start of an existing row (section 6 step 10), up to and including status Starting: reconcile, status check, lifecycle
// lock, identity, previous pid (given 5 s), directory. The lock is for the runtime to inherit.
// Throws Error{kSandboxStillRunning} "cannot start sandbox 'N': already running" / "cannot start sandbox 'N': status is S
// (expected Created, Stopped, or Crashed)"; Error{kRuntime} for identity and live pid; Error{kCustom}
// "sandbox state missing for 'N': PATH".
// `validate` is called with the row before its status changes and may throw (parse and re-validate the config).
struct StartClaim {
    SandboxRow row;
    FileLock lifecycle;
};
StartClaim claim_start(Database& database, const StateRoots& roots, std::string_view name,
                       const std::function<void(const SandboxRow&)>& validate);

// Makes room for a create. Without replace: throws Error{kSandboxAlreadyExists} when a row or a directory of the name
// exists. With replace: stops the old runtime (SIGTERM, `grace`, SIGKILL, 5 s; grace 0 goes straight to SIGKILL), then
// removes sockets, directory and row (section 7.3).
struct ReplaceOptions {
    bool replace = false;
    std::chrono::milliseconds grace{10000};
};
void prepare_create_target(Database& database, const StateRoots& roots, std::string_view name,
                           const ReplaceOptions& options);

// Section 7.4. Reconciles first. `expected_id` refuses a successor of the same name.
// Throws Error{kSandboxNotFound}, Error{kSandboxStillRunning}, Error{kRuntime} "... refusing stale removal".
void remove_sandbox(Database& database, const StateRoots& roots, std::string_view name,
                    std::optional<std::int64_t> expected_id = std::nullopt);

// Sends SIGKILL to the pid of the newest Running run and waits up to `limit` for it to be gone. False: still alive.
bool kill_runtime(Database& database, std::int64_t sandbox_id, std::chrono::milliseconds limit);

}  // namespace msb::state
