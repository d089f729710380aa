// Rows of `sandbox`, `sandbox_labels` and `sandbox_rootfs`: what launcher, runtime and readers write and read
// (spec/state.md sections 5, 6 and 7). All functions throw Error{kDatabase} on a database failure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "state/database.h"
#include "state/run_rows.h"

namespace msb::state {

enum class SandboxStatus : std::uint8_t {
    kCreated,
    kStarting,
    kRunning,
    kDraining,
    kPaused,
    kStopped,
    kCrashed
};

std::string_view to_string(
    SandboxStatus status);  // "Running": the spelling of the database, messages and JSON
std::optional<SandboxStatus> parse_sandbox_status(std::string_view text);  // case-sensitive
bool is_active(
    SandboxStatus status);  // Starting, Running, Draining, Paused: owns or may own a runtime
bool is_terminal(SandboxStatus status);  // Stopped, Crashed

struct SandboxRow {
    std::int64_t id = 0;
    std::string name;
    std::string config;  // SandboxConfig JSON as stored; may not parse
    SandboxStatus status = SandboxStatus::kCreated;
    std::optional<std::int64_t> created_at;  // Unix nanoseconds
    std::optional<std::int64_t> updated_at;
    bool ephemeral = false;
    std::optional<std::string> active_config;
    std::optional<int> network_slot;

    // Client-visible identity: "local:<id>".
    std::string identity() const { return "local:" + std::to_string(id); }
};

using Labels = std::map<std::string, std::string>;

// Inserts the row in status Starting, created_at = updated_at = now, and one label row each, in one transaction. Returns
// the id. Throws Error{kSandboxAlreadyExists} when the name is taken.
std::int64_t insert_starting(Database& database, std::string_view name, std::string_view config,
                             bool ephemeral, const Labels& labels);

// nullopt when there is no such row. Does not reconcile; see reconcile.h for what clients call.
std::optional<SandboxRow> find_sandbox(Database& database, std::string_view name);
std::optional<SandboxRow> find_sandbox(Database& database, std::int64_t id);
// Throws Error{kSandboxNotFound} "N".
SandboxRow get_sandbox(Database& database, std::string_view name);
// Every database call that must not act on a successor of the same name: throws Error{kSandboxReplaced}
// `"x" was replaced (expected identity local:1, found local:11); refusing stale lifecycle operation`, or
// Error{kSandboxNotFound}.
SandboxRow get_sandbox_with_identity(Database& database, std::string_view name, std::int64_t id);
void check_identity(const SandboxRow& row, std::int64_t id);  // the check alone

// Throws Error{kSandboxAlreadyExists} "sandbox 'N' already exists; remove it, ...".
[[noreturn]] void sandbox_already_exists(std::string_view name);

// The smallest free slot in 1..65535 for a row that has none (a row keeps one it has). Returns the slot.
// Throws Error{kRuntime} "network slot pool exhausted", or when the row is gone or no longer active.
int claim_network_slot(Database& database, std::int64_t id);

// Agent ready: status Running, active_config, updated_at. False when the row is gone or not Starting.
bool mark_running(Database& database, std::int64_t id, std::string_view active_config);
// Start of an existing row: Created, Stopped or Crashed -> Starting. False when the row was in another status.
bool mark_starting(Database& database, std::int64_t id);
// Running -> Draining; false when it was not Running.
bool mark_draining(Database& database, std::int64_t id);
// Launcher failed after insert_starting(): status Stopped. A claimed slot stays, as upstream leaves it.
void mark_start_failed(Database& database, std::int64_t id);
// Kill and forced stop: Stopped, active_config and slot NULL; the run row is left alone.
void mark_stopped(Database& database, std::int64_t id);

// Replaces config and every label row, and active_config when given, in one transaction.
void replace_config(Database& database, std::int64_t id, std::string_view config,
                    const Labels& labels,
                    const std::optional<std::string>& active_config = std::nullopt);

// Deletes the row; runs, labels and rootfs cascade. False when it was gone.
bool delete_sandbox(Database& database, std::int64_t id);
// Deletes only an ephemeral row in status Stopped or Crashed.
bool delete_ephemeral_sandbox(Database& database, std::int64_t id);

Labels sandbox_labels(Database& database, std::int64_t id);

// Names of sandboxes in status Running, Draining or Paused whose `config` mounts the named volume, in id order.
std::vector<std::string> active_sandboxes_mounting(Database& database, std::string_view volume);

// The `sandbox_rootfs` row of an OCI sandbox, replaced: manifest_id looked up by digest (NULL if absent), mode erofs. Nothing is written
// when it is right already.
void replace_rootfs(Database& database, std::int64_t sandbox_id, std::string_view manifest_digest);

// --- Listing -----------------------------------------------------------------------------------------------------

inline constexpr unsigned kDefaultPageSize = 20;
inline constexpr unsigned kMaxPageSize = 100;

struct SandboxQuery {
    Labels labels;                          // every pair must match exactly
    std::optional<unsigned> limit;          // nullopt: everything
    std::optional<std::int64_t> before_id;  // rows with a smaller id than this
};

// A row together with its newest run in status Running: what reconciling needs, from one statement.
struct ListedSandbox {
    SandboxRow row;
    std::optional<RunRow> running_run;
};

// Newest id first. One SQL statement whatever the number of rows. Does not reconcile; reconcile.h has list_sandboxes().
std::vector<ListedSandbox> query_sandboxes(Database& database, const SandboxQuery& query);

// Page cursor: unpadded base64url of the decimal id of the last row.
std::string encode_cursor(std::int64_t last_id);
// Throws Error{kInvalidCursor} "invalid sandbox list cursor encoding" or "invalid sandbox list cursor payload".
std::int64_t decode_cursor(std::string_view cursor);

}  // namespace msb::state
