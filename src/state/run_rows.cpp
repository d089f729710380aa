#include "state/run_rows.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/process.h"
#include "state/row_columns.h"

namespace msb::state {

namespace {

constexpr std::array<std::string_view, 2> kRunStatuses = {"Running", "Terminated"};
constexpr std::array<std::string_view, 9> kReasons = {"Completed",           "Failed",
                                                      "MaxDurationExceeded", "IdleTimeout",
                                                      "AgentUnresponsive",   "ShutdownRequested",
                                                      "DrainRequested",      "Signal",
                                                      "InternalError"};

RunStatus read_status(const SQLite::Column& column) {
    const std::string text = sql::text(column);
    const auto found = std::ranges::find(kRunStatuses, text);
    if (found == kRunStatuses.end()) sql::unexpected_enum("RunStatus", text);
    return static_cast<RunStatus>(found - kRunStatuses.begin());
}

std::optional<TerminationReason> read_reason(const SQLite::Column& column) {
    if (column.isNull()) return std::nullopt;
    const std::string text = column.getString();
    const auto found = std::ranges::find(kReasons, text);
    if (found == kReasons.end()) sql::unexpected_enum("TerminationReason", text);
    return static_cast<TerminationReason>(found - kReasons.begin());
}

// A number no process can have reads as "no pid", which counts as dead.
std::optional<pid_t> read_pid(const SQLite::Column& column) {
    const auto value = sql::optional_integer(column);
    if (!value || *value <= 0 || *value > std::numeric_limits<pid_t>::max()) return std::nullopt;
    return static_cast<pid_t>(*value);
}

std::optional<RunRow> newest(Database& database, std::int64_t sandbox_id,
                             std::string_view condition) {
    std::optional<RunRow> row;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection, "SELECT " + std::string(kRunColumns) +
                                                " FROM run r WHERE r.sandbox_id = ?" +
                                                std::string(condition) +
                                                " ORDER BY r.started_at DESC, r.id DESC LIMIT 1");
        query.bind(1, sandbox_id);
        row.reset();
        if (query.executeStep()) row = read_run(query);
    });
    return row;
}

}  // namespace

std::string_view to_string(RunStatus status) {
    return kRunStatuses[static_cast<std::size_t>(status)];
}

std::string_view to_string(TerminationReason reason) {
    return kReasons[static_cast<std::size_t>(reason)];
}

RunRow read_run(SQLite::Statement& statement, int first) {
    RunRow row;
    row.id = statement.getColumn(first).getInt64();
    row.sandbox_id = statement.getColumn(first + 1).getInt64();
    row.pid = read_pid(statement.getColumn(first + 2));
    row.status = read_status(statement.getColumn(first + 3));
    if (auto code = sql::optional_integer(statement.getColumn(first + 4)))
        row.exit_code = static_cast<int>(*code);
    row.reason = read_reason(statement.getColumn(first + 5));
    row.started_at = sql::optional_timestamp(statement.getColumn(first + 6));
    row.terminated_at = sql::optional_timestamp(statement.getColumn(first + 7));
    return row;
}

std::int64_t insert_run(Database& database, std::int64_t sandbox_id, pid_t pid) {
    std::int64_t id = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement insert(
            connection,
            "INSERT INTO run (sandbox_id, pid, status, started_at) VALUES (?, ?, 'Running', ?)");
        insert.bind(1, sandbox_id);
        insert.bind(2, static_cast<std::int64_t>(pid));
        insert.bind(3, sql::now());
        insert.exec();
        id = connection.getLastInsertRowid();
    });
    return id;
}

void fail_run(Database& database, std::int64_t run_id) {
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement update(connection,
                                 "UPDATE run SET status = 'Terminated', "
                                 "termination_reason = 'InternalError', terminated_at = ? "
                                 "WHERE id = ?");
        update.bind(1, sql::now());
        update.bind(2, run_id);
        update.exec();
    });
}

void finish_run(Database& database, std::int64_t run_id, std::int64_t sandbox_id,
                TerminationReason reason, std::optional<int> exit_code) {
    database.write([&](SQLite::Database& connection) {
        const std::string now = sql::now();
        SQLite::Statement run(connection,
                              "UPDATE run SET status = 'Terminated', termination_reason = ?, "
                              "exit_code = ?, terminated_at = ? WHERE id = ?");
        sql::bind_text(run, 1, to_string(reason));
        sql::bind_optional(run, 2, std::optional<std::int64_t>(exit_code));
        run.bind(3, now);
        run.bind(4, run_id);
        run.exec();
        SQLite::Statement sandbox(connection,
                                  "UPDATE sandbox SET status = 'Stopped', active_config = NULL, "
                                  "network_slot = NULL, updated_at = ? WHERE id = ?");
        sandbox.bind(1, now);
        sandbox.bind(2, sandbox_id);
        sandbox.exec();
    });
}

std::optional<RunRow> latest_run(Database& database, std::int64_t sandbox_id) {
    return newest(database, sandbox_id, "");
}

std::optional<RunRow> latest_running_run(Database& database, std::int64_t sandbox_id) {
    return newest(database, sandbox_id, " AND r.status = 'Running'");
}

std::optional<pid_t> live_pid(Database& database, std::int64_t sandbox_id) {
    const auto run = latest_running_run(database, sandbox_id);
    if (!run || !run->pid || !process_alive(*run->pid)) return std::nullopt;
    return run->pid;
}

bool has_live_run(Database& database, std::int64_t sandbox_id) {
    bool live = false;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection,
                                "SELECT pid FROM run WHERE sandbox_id = ? AND status = 'Running'");
        query.bind(1, sandbox_id);
        live = false;
        while (!live && query.executeStep()) {
            const auto pid = read_pid(query.getColumn(0));
            live = pid && process_alive(*pid);
        }
    });
    return live;
}

}  // namespace msb::state
