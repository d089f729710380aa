// Rows of `run`: one per start of a sandbox, written by its runtime process (spec/state.md sections 5 and 6).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "state/database.h"

namespace msb::state {

enum class RunStatus : std::uint8_t { kRunning, kTerminated };

enum class TerminationReason : std::uint8_t {
    kCompleted,
    kFailed,
    kMaxDurationExceeded,
    kIdleTimeout,
    kAgentUnresponsive,
    kShutdownRequested,
    kDrainRequested,  // readable, never written
    kSignal,
    kInternalError,
};

std::string_view to_string(RunStatus status);
std::string_view to_string(TerminationReason reason);

struct RunRow {
    std::int64_t id = 0;
    std::int64_t sandbox_id = 0;
    std::optional<pid_t> pid;
    RunStatus status = RunStatus::kRunning;
    std::optional<int> exit_code;
    std::optional<TerminationReason> reason;
    std::optional<std::int64_t> started_at;  // Unix nanoseconds
    std::optional<std::int64_t> terminated_at;
};

// status Running, started_at = now. Returns the id.
std::int64_t insert_run(Database& database, std::int64_t sandbox_id, pid_t pid);

// Failure before VM entry: Terminated/InternalError, terminated_at, exit_code NULL. The sandbox row is not touched.
void fail_run(Database& database, std::int64_t run_id);

// The exit observer's two steps in one transaction: run Terminated with reason, exit_code, terminated_at; sandbox Stopped,
// active_config and network_slot NULL, updated_at.
void finish_run(Database& database, std::int64_t run_id, std::int64_t sandbox_id,
                TerminationReason reason, std::optional<int> exit_code);

// Newest by started_at. nullopt when there is none.
std::optional<RunRow> latest_run(Database& database, std::int64_t sandbox_id);
std::optional<RunRow> latest_running_run(Database& database, std::int64_t sandbox_id);

// The pid of the newest Running run if that process is alive (state.md section 7).
std::optional<pid_t> live_pid(Database& database, std::int64_t sandbox_id);

// Any Running run whose pid is alive.
bool has_live_run(Database& database, std::int64_t sandbox_id);

}  // namespace msb::state
