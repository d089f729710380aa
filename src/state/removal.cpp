// Starting, replacing and removing existing sandboxes: the row side of spec/state.md sections 6.10, 7.3 and 7.4.
#include "state/removal.h"

#include <signal.h>

#include <filesystem>
#include <thread>

#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "state/ipc_paths.h"
#include "state/locks.h"
#include "state/reconcile.h"
#include "state/row_columns.h"
#include "state/validation.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kExitPoll{50};
constexpr milliseconds kKillWait{5000};         // after SIGKILL
constexpr milliseconds kPreviousPidWait{5000};  // a start gives the previous runtime this long

// There is no portable way to wait for a process that need not be a child: poll, as upstream does.
bool wait_until_dead(pid_t pid, milliseconds limit) {
    const std::int64_t deadline =
        monotonic_ns() + std::chrono::duration_cast<std::chrono::nanoseconds>(limit).count();
    while (process_alive(pid)) {
        if (monotonic_ns() >= deadline) return false;
        std::this_thread::sleep_for(kExitPoll);
    }
    return true;
}

[[noreturn]] void still_running(const std::string& text) {
    throw Error(ErrorCode::kSandboxStillRunning, text);
}

std::optional<pid_t> live_pid_of_latest_run(Database& database, std::int64_t id) {
    const auto run = latest_run(database, id);
    if (!run || !run->pid || !process_alive(*run->pid)) return std::nullopt;
    return run->pid;
}

bool directory_exists(const StateRoots& roots, std::string_view name) {
    std::error_code error;
    return fs::exists(fs::symlink_status(roots.sandboxes / name, error));
}

void check_startable(const SandboxRow& row) {
    const std::string prefix = "cannot start sandbox '" + row.name + "': ";
    if (row.status == SandboxStatus::kRunning || row.status == SandboxStatus::kDraining)
        still_running(prefix + "already running");
    if (row.status != SandboxStatus::kCreated && !is_terminal(row.status))
        still_running(prefix + "status is " + std::string(to_string(row.status)) +
                      " (expected Created, Stopped, or Crashed)");
}

void check_same_row(std::string_view name, std::int64_t expected, std::int64_t found,
                    std::string_view action) {
    if (expected == found) return;
    throw Error(ErrorCode::kRuntime, "sandbox " + msb::quoted(name) +
                                         " identity changed from database id " +
                                         std::to_string(expected) + " to " + std::to_string(found) +
                                         "; refusing stale " + std::string(action));
}

// SIGTERM, the grace, SIGKILL, 5 s. The row afterwards says what was done to it.
void stop_for_replace(Database& database, const SandboxRow& row, milliseconds grace) {
    const auto run = latest_running_run(database, row.id);
    const bool live = run && run->pid && process_alive(*run->pid);
    if (live) {
        bool dead = false;
        if (grace > milliseconds(0)) {
            ::kill(*run->pid, SIGTERM);
            dead = wait_until_dead(*run->pid, grace);
        }
        if (!dead) {
            ::kill(*run->pid, SIGKILL);
            if (!wait_until_dead(*run->pid, kKillWait))
                throw Error(ErrorCode::kRuntime, "cannot replace sandbox " + msb::quoted(row.name) +
                                                     ": runtime did not exit after SIGKILL");
        }
    }
    database.write([&](SQLite::Database& connection) {
        const std::string now = sql::now();
        if (run) {
            // The runtime may have finished its own row on SIGTERM.
            SQLite::Statement update(connection,
                                     "UPDATE run SET status = 'Terminated', "
                                     "termination_reason = 'Signal', terminated_at = ? "
                                     "WHERE id = ? AND status = 'Running'");
            update.bind(1, now);
            update.bind(2, run->id);
            update.exec();
        }
        SQLite::Statement update(connection,
                                 "UPDATE sandbox SET status = 'Stopped', active_config = NULL, "
                                 "network_slot = NULL, updated_at = ? WHERE id = ? AND status IN " +
                                     std::string(kActiveStatuses));
        update.bind(1, now);
        update.bind(2, row.id);
        update.exec();
    });
}

void replace_row(Database& database, const StateRoots& roots, const SandboxRow& found,
                 milliseconds grace) {
    const auto row = reconcile(database, roots, found);
    if (!row) return;  // an ephemeral one that was just cleaned up
    if (is_active(row->status)) stop_for_replace(database, *row, grace);
    const FileLock lifecycle = lock_lifecycle(roots, row->name);
    if (live_pid_of_latest_run(database, row->id))
        still_running("cannot replace sandbox " + msb::quoted(row->name) +
                      ": its recorded runtime process is still alive");
    remove_endpoints_and_fallback(IpcPaths::of(roots, row->name));
    remove_sandbox_directory(roots, row->name);
    delete_sandbox(database, row->id);
}

// A directory nobody has a row for: left by a failed create, or by a database that was lost.
void replace_directory(const StateRoots& roots, std::string_view name) {
    const IpcPaths paths = IpcPaths::of(roots, name);
    const FileLock lifecycle = lock_lifecycle(roots, name);
    if (any_endpoint_live(paths))
        still_running("cannot replace sandbox " + msb::quoted(name) +
                      ": an untracked runtime endpoint is still live");
    remove_endpoints_and_fallback(paths);
    remove_sandbox_directory(roots, name);
}

}  // namespace

void remove_sandbox_directory(const StateRoots& roots, std::string_view name) {
    validate_sandbox_name(name, NameOrigin::kStored);
    const fs::path directory = roots.sandboxes / name;
    std::error_code error;
    fs::remove_all(directory, error);
    if (error) throw_os_error(error.value(), "remove " + directory.string());
}

StartClaim claim_start(Database& database, const StateRoots& roots, std::string_view name,
                       const std::function<void(const SandboxRow&)>& validate) {
    const SandboxRow seen = get_reconciled(database, roots, name);
    check_startable(seen);
    FileLock lifecycle = lock_lifecycle(roots, name);
    SandboxRow row = get_sandbox(database, name);
    check_same_row(name, seen.id, row.id, "start");
    check_startable(row);
    if (const auto pid = live_pid_of_latest_run(database, row.id)) {
        if (!wait_until_dead(*pid, kPreviousPidWait))
            throw Error(ErrorCode::kRuntime, "sandbox " + msb::quoted(name) +
                                                 " previous runtime pid " + std::to_string(*pid) +
                                                 " is still alive");
    }
    validate(row);
    if (!directory_exists(roots, name))
        throw Error(ErrorCode::kCustom, "sandbox state missing for '" + std::string(name) +
                                            "': " + (roots.sandboxes / name).string());
    if (!mark_starting(database, row.id)) {
        check_startable(get_sandbox(database, name));
        throw Error(ErrorCode::kSandboxNotFound, std::string(name));
    }
    row.status = SandboxStatus::kStarting;
    return {std::move(row), std::move(lifecycle)};
}

void prepare_create_target(Database& database, const StateRoots& roots, std::string_view name,
                           const ReplaceOptions& options) {
    const auto row = find_sandbox(database, name);
    if (!options.replace) {
        if (row || directory_exists(roots, name)) sandbox_already_exists(name);
        return;
    }
    if (row)
        replace_row(database, roots, *row, options.grace);
    else if (directory_exists(roots, name))
        replace_directory(roots, name);
}

void remove_sandbox(Database& database, const StateRoots& roots, std::string_view name,
                    std::optional<std::int64_t> expected_id) {
    const SandboxRow seen = get_reconciled(database, roots, name);
    if (expected_id) check_identity(seen, *expected_id);
    if (is_active(seen.status))
        still_running("cannot remove sandbox '" + std::string(name) + "': still running");
    if (!is_terminal(seen.status))
        still_running("cannot remove sandbox " + msb::quoted(name) + ": status is " +
                      std::string(to_string(seen.status)));
    const FileLock lifecycle = lock_lifecycle(roots, name);
    const SandboxRow row = get_sandbox(database, name);
    check_same_row(name, seen.id, row.id, "removal");
    if (!is_terminal(row.status))
        still_running("cannot remove sandbox '" + std::string(name) + "': still running");
    if (live_pid_of_latest_run(database, row.id))
        still_running("cannot remove sandbox " + msb::quoted(name) +
                      ": its recorded runtime process is still alive");
    remove_endpoints_and_fallback(IpcPaths::of(roots, name));
    remove_sandbox_directory(roots, name);
    delete_sandbox(database, row.id);
}

bool kill_runtime(Database& database, std::int64_t sandbox_id, milliseconds limit) {
    const auto pid = live_pid(database, sandbox_id);
    if (!pid) return true;
    ::kill(*pid, SIGKILL);
    return wait_until_dead(*pid, limit);
}

}  // namespace msb::state
