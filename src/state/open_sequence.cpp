// Opening as a host process, in the order of spec/state.md section 4. Everything happens under the migration lock, so
// two processes never migrate at once and a reader of the gate sees whole migrations.
//
// An up-to-date database is only read: the observable trace of an opening, the row `install_exclusive` without a holder,
// is written when it is missing or when there was something to do. `msb run` and `msb list` thus start without a commit.
#include "state/open_sequence.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>

#include "base/fd.h"
#include "base/json.h"
#include "base/text.h"
#include "base/time.h"
#include "state/leases.h"
#include "state/locks.h"
#include "state/schema.h"
#include "state/sql.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxJournalBytes = 1 << 20;
constexpr std::int64_t kInstallLeaseNs =
    std::chrono::duration_cast<std::chrono::nanoseconds>(kInstallLeaseTime).count();

[[noreturn]] void runtime_error(const std::string& text) {
    throw Error(ErrorCode::kRuntime, text);
}

[[noreturn]] void recovery_required(const std::string& text) {
    runtime_error("self_downgrade_recovery_required: " + text);
}

// --- Step 2: journals of a downgrade that was interrupted --------------------------------------

void check_journal(const fs::path& operation) {
    const fs::path journal = operation / "journal.json";
    std::error_code error;
    if (!fs::exists(fs::symlink_status(journal, error)))
        recovery_required("operation directory has no journal: " + operation.string());
    std::string phase;
    try {
        const json::Value document = json::parse(read_file(journal, kMaxJournalBytes));
        if (document.is_object() && document.contains("phase") && document["phase"].is_string())
            phase = document["phase"].get<std::string>();
    } catch (const json::ParseError& failure) {
        recovery_required("invalid journal " + journal.string() + ": " + failure.what());
    } catch (const Error& failure) {
        recovery_required("read " + journal.string() + ": " + failure.detail());
    }
    if (phase != "complete")
        recovery_required("resume the active downgrade recorded at " + journal.string());
}

void check_downgrade_journals(const fs::path& directory) {
    std::error_code error;
    std::vector<fs::path> operations;
    for (fs::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
        const std::string name = it->path().filename();
        if (name.starts_with('.') || it->symlink_status().type() != fs::file_type::directory)
            continue;
        operations.push_back(it->path());
    }
    if (error && error != std::errc::no_such_file_or_directory)
        recovery_required("read " + directory.string() + ": " + os_error_text(error.value()));
    std::ranges::sort(operations);
    std::ranges::for_each(operations, check_journal);
}

// --- Steps 4 and 7: the install lease ----------------------------------------------------------

struct InstallLease {
    bool held = false;  // a holder is recorded
    std::int64_t expires_at = 0;
};

// nullopt: no row, or no table yet.
std::optional<InstallLease> read_install_lease(SQLite::Database& connection) {
    SQLite::Statement table(
        connection,
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'maintenance_lease'");
    if (!table.executeStep()) return std::nullopt;
    SQLite::Statement query(
        connection, "SELECT holder_pid, lease_expires_at FROM maintenance_lease WHERE name = ?");
    sql::bind_text(query, 1, kInstallLease);
    if (!query.executeStep()) return std::nullopt;
    return InstallLease{!query.getColumn(0).isNull(),
                        sql::optional_timestamp(query.getColumn(1)).value_or(0)};
}

void check_no_install(const std::optional<InstallLease>& lease) {
    if (!lease || lease->expires_at <= wall_clock_ns()) return;
    runtime_error("microsandbox install operation in progress until " +
                  sql::timestamp(lease->expires_at) + "; retry after it completes");
}

void acquire_install_lease(SQLite::Database& connection) {
    const std::int64_t now = wall_clock_ns();
    SQLite::Statement seed(connection,
                           "INSERT OR IGNORE INTO maintenance_lease (name, lease_expires_at) "
                           "VALUES (?, ?)");
    sql::bind_text(seed, 1, kInstallLease);
    seed.bind(2, sql::timestamp(now));
    seed.exec();
    SQLite::Statement take(connection,
                           "UPDATE maintenance_lease SET holder_pid = ?, lease_expires_at = ? "
                           "WHERE name = ? AND lease_expires_at <= ?");
    take.bind(1, static_cast<std::int64_t>(::getpid()));
    take.bind(2, sql::timestamp(now + kInstallLeaseNs));
    sql::bind_text(take, 3, kInstallLease);
    take.bind(4, sql::timestamp(now));
    if (take.exec() == 1) return;
    const auto lease = read_install_lease(connection);
    runtime_error("another microsandbox install operation is in progress until " +
                  sql::timestamp(lease ? lease->expires_at : now));
}

void clear_install_lease(SQLite::Database& connection) {
    const std::string now = sql::now();
    SQLite::Statement clear(connection,
                            "UPDATE maintenance_lease SET holder_pid = NULL, "
                            "lease_expires_at = ?, last_completed_at = ? WHERE name = ?");
    clear.bind(1, now);
    clear.bind(2, now);
    sql::bind_text(clear, 3, kInstallLease);
    clear.exec();
}

// Acquire and clear belong together and nothing happens between them that another process must not see: one commit.
void leave_install_trace(SQLite::Database& connection) {
    connection.exec("BEGIN IMMEDIATE");
    try {
        acquire_install_lease(connection);
        clear_install_lease(connection);
        connection.exec("COMMIT");
    } catch (...) {
        connection.tryExec("ROLLBACK");
        throw;
    }
}

// --- Steps 4 to 7 on an open connection --------------------------------------------------------

void gate_and_migrate(SQLite::Database& connection) {
    const auto lease = read_install_lease(connection);
    check_no_install(lease);
    const std::set<std::string> applied = applied_migrations(connection);
    check_schema(connection, applied);
    const bool up_to_date = applied.size() == migration_ids().size();
    if (!up_to_date) migrate(connection, applied);
    if (!up_to_date || !lease || lease->held) leave_install_trace(connection);
}

}  // namespace

std::unique_ptr<SQLite::Database> open_and_migrate(const HomePaths& home,
                                                   const DatabaseOptions& options) {
    std::error_code error;
    fs::create_directories(home.database_dir(), error);
    if (error)
        runtime_error("create directory " + home.database_dir().string() + ": " +
                      os_error_text(error.value()));
    const FileLock lock = lock_migration(home);
    check_downgrade_journals(home.downgrade_journals());

    std::unique_ptr<SQLite::Database> connection;
    try {
        retry_while_busy(
            [&] { connection = open_connection(home.database(), true, options.busy_timeout); });
    } catch (const SQLite::Exception& exception) {
        // Upstream words this one without a kind in front.
        throw Error(ErrorCode::kCustom,
                    "connect to " + home.database().string() + ": " + sql::error_text(exception));
    }
    try {
        retry_while_busy([&] { gate_and_migrate(*connection); });
    } catch (const SQLite::Exception& exception) {
        sql::rethrow(exception, sql::Phase::kQuery);
    }
    return connection;
}

}  // namespace msb::state
