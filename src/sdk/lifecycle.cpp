#include "sdk/lifecycle.h"

#include <signal.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "sdk/child_process.h"
#include "state/ipc_paths.h"
#include "state/locks.h"
#include "state/reconcile.h"

namespace msb::sdk {

using state::SandboxRow;
using state::SandboxStatus;

namespace {

// Rows are re-read this often while nothing else tells of a change.
constexpr std::chrono::milliseconds kRowPoll{50};
// A live process is waited for through its pidfd; the row may change without it ending.
constexpr std::chrono::milliseconds kProcessPoll{1000};
constexpr std::chrono::milliseconds kLockPoll{20};
// How long an engine may take to follow its sandbox process into death.
constexpr std::chrono::milliseconds kEngineExit{2000};

Deadline earlier(const Deadline& deadline, std::chrono::milliseconds limit) {
    Clock::time_point soon = Clock::now() + limit;
    return deadline ? std::min(*deadline, soon) : soon;
}

[[noreturn]] void throw_stop_timeout(const std::string& name) {
    throw Error(ErrorCode::kRuntime,
                "timed out observing stopped state for sandbox '" + name + "'");
}

// After SIGKILL nothing removed the sockets, and the engine may hold the lifecycle lock a moment longer than the process
// lived. Best effort: the next start does it otherwise.
void clean_endpoints(const LocalBackend& backend, const std::string& name) {
    try {
        FileLock lock = state::lock_lifecycle(backend.roots, name, kEngineExit);
        state::remove_endpoints_and_fallback(state::IpcPaths::of(backend.roots, name));
    } catch (const Error& error) {
        log(LogLevel::kDebug, "lifecycle", "leaving endpoints of {}: {}", name, error.what());
    }
}

void force_stopped(const Target& target, const SandboxRow& row) {
    state::Database& database = target.backend->database();
    state::mark_stopped(database, row.id);
    clean_endpoints(*target.backend, row.name);
    if (!row.ephemeral) return;
    try {
        state::remove_sandbox(database, target.backend->roots, row.name, row.id);
    } catch (const Error& error) {
        log(LogLevel::kDebug, "lifecycle", "leaving ephemeral {}: {}", row.name, error.what());
    }
}

// A launcher holds the creation lock for as long as it starts the sandbox: a Starting row without process and without
// that lock was left by one that died.
bool launcher_gone(const Target& target, const SandboxRow& row) {
    if (row.status != SandboxStatus::kStarting ||
        state::live_pid(target.backend->database(), row.id))
        return false;
    std::filesystem::path path = state::creation_lock_path(target.backend->roots, row.name);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return true;
    return FileLock::try_acquire(path, LockMode::kExclusive, 0600).has_value();
}

// Kills the recorded process and settles the row. False: it is still there after `limit`.
bool kill_row(const Target& target, const SandboxRow& row, std::chrono::milliseconds limit,
              const Cancel& cancel) {
    if (auto pid = state::live_pid(target.backend->database(), row.id)) {
        ::kill(*pid, SIGKILL);
        if (!wait_process_gone(*pid, deadline_in(limit), cancel)) return false;
    }
    force_stopped(target, row);
    return true;
}

}  // namespace

SandboxRow read_row(const Target& target) {
    state::Database& database = target.backend->database();
    if (!target.id) return state::get_reconciled(database, target.backend->roots, target.name);
    SandboxRow row = state::get_sandbox_with_identity(database, target.name, *target.id);
    auto reconciled = state::reconcile(database, target.backend->roots, row);
    if (!reconciled) throw Error(ErrorCode::kSandboxNotFound, target.name);
    return std::move(*reconciled);
}

std::optional<SandboxRow> find_row(const Target& target) {
    state::Database& database = target.backend->database();
    auto row = state::find_sandbox(database, target.name);
    if (!row || (target.id && row->id != *target.id)) return std::nullopt;
    return state::reconcile(database, target.backend->roots, *row);
}

void require_running(const SandboxRow& row, std::string_view suffix) {
    if (row.status == SandboxStatus::kRunning || row.status == SandboxStatus::kDraining) return;
    throw Error(ErrorCode::kSandboxNotRunning,
                "'" + row.name + "' is not running (status: " + std::string(to_string(row.status)) +
                    ")" + std::string(suffix));
}

std::shared_ptr<AgentClient> connect_agent(const LocalBackend& backend, const std::string& name,
                                           const Deadline& deadline, const Cancel& cancel) {
    std::optional<Error> last;
    for (const std::filesystem::path& path :
         state::IpcPaths::of(backend.roots, name).agent_candidates()) {
        std::error_code missing;
        if (!std::filesystem::exists(path, missing)) continue;
        try {
            return AgentClient::connect(path, deadline, cancel);
        } catch (const Error& error) {
            if (error.code() == ErrorCode::kCancelled) throw;
            last = error;
        }
    }
    if (last) throw Error(*last);
    throw Error(ErrorCode::kSandboxNotRunning,
                msb::quoted(name) + " has no agent endpoint (is it running?)");
}

void request_stop(const Target& target) {
    const SandboxRow row = read_row(target);
    if (state::is_terminal(row.status)) return;
    state::Database& database = target.backend->database();
    state::mark_draining(database, row.id);
    try {
        auto client =
            connect_agent(*target.backend, row.name, deadline_in(kStopConnectTimeout), Cancel{});
        client->send(0, protocol::Shutdown{});
    } catch (const Error& error) {
        log(LogLevel::kDebug, "lifecycle", "agent of {} unreachable, sending SIGTERM: {}", row.name,
            error.what());
        if (auto pid = state::live_pid(database, row.id)) ::kill(*pid, SIGTERM);
    }
}

std::optional<SandboxRow> wait_terminal(const Target& target, const Deadline& deadline,
                                        const Cancel& cancel, bool& in_time) {
    in_time = true;
    for (;;) {
        std::optional<SandboxRow> row = find_row(target);
        if (!row || state::is_terminal(row->status)) return row;
        if (deadline && Clock::now() >= *deadline) {
            in_time = false;
            return row;
        }
        if (auto pid = state::live_pid(target.backend->database(), row->id))
            wait_process_gone(*pid, earlier(deadline, kProcessPoll), cancel);
        else
            wait_for(-1, 0, earlier(deadline, kRowPoll), cancel);
    }
}

void stop(const Target& target, std::chrono::milliseconds timeout, const Cancel& cancel) {
    const SandboxRow row = read_row(target);
    if (state::is_terminal(row.status)) return;
    // Nothing would ever change the status of these.
    if (row.status == SandboxStatus::kCreated || row.status == SandboxStatus::kPaused)
        throw_stop_timeout(row.name);
    const Target same{target.backend, row.name, row.id};
    if (launcher_gone(same, row)) return force_stopped(same, row);
    if (timeout.count() <= 0) return kill(same, kKillWait, cancel);
    request_stop(same);
    bool in_time = false;
    std::optional<SandboxRow> last = wait_terminal(same, deadline_in(timeout), cancel, in_time);
    if (in_time) return;
    if (!kill_row(same, *last, kKillWait, cancel)) throw_stop_timeout(row.name);
}

void kill(const Target& target, std::chrono::milliseconds timeout, const Cancel& cancel) {
    const SandboxRow row = read_row(target);
    if (!state::is_active(row.status) || row.status == SandboxStatus::kPaused) return;
    if (!kill_row({target.backend, row.name, row.id}, row, timeout, cancel))
        throw_stop_timeout(row.name);
}

void drain(const Target& target) {
    const SandboxRow row = read_row(target);
    if (!state::is_active(row.status)) return;
    state::Database& database = target.backend->database();
    state::mark_draining(database, row.id);
    if (auto pid = state::live_pid(database, row.id)) ::kill(*pid, SIGUSR1);
}

FileLock lock_creation(const LocalBackend& backend, const std::string& name, const Cancel& cancel) {
    if (cancel.fd() < 0) return state::lock_creation(backend.roots, name);
    const std::filesystem::path path = state::creation_lock_path(backend.roots, name);
    std::filesystem::create_directories(path.parent_path());
    for (;;) {
        if (auto lock = FileLock::try_acquire(path, LockMode::kExclusive, 0600))
            return std::move(*lock);
        sleep_for(kLockPoll, cancel);
    }
}

void remove(const Target& target, const Cancel& cancel) {
    FileLock creation = lock_creation(*target.backend, target.name, cancel);
    state::Database& database = target.backend->database();
    if (target.id) state::get_sandbox_with_identity(database, target.name, *target.id);
    state::remove_sandbox(database, target.backend->roots, target.name, target.id);
}

}  // namespace msb::sdk
