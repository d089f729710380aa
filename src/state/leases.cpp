#include "state/leases.h"

#include <unistd.h>

#include "base/time.h"
#include "state/sql.h"

namespace msb::state {

namespace {

template <class Duration>
constexpr std::int64_t to_ns(Duration duration) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

// True when somebody sweeps now or did so recently: the common case, found without a write.
bool sweep_not_due(SQLite::Database& connection, std::int64_t now) {
    SQLite::Statement query(
        connection,
        "SELECT lease_expires_at, last_completed_at FROM maintenance_lease WHERE name = ?");
    sql::bind_text(query, 1, kMaintenanceLease);
    if (!query.executeStep()) return false;
    const auto expires = sql::optional_timestamp(query.getColumn(0));
    const auto completed = sql::optional_timestamp(query.getColumn(1));
    return (expires && *expires > now) ||
           (completed && *completed > now - to_ns(kMaintenanceInterval));
}

}  // namespace

bool acquire_maintenance_lease(Database& database) {
    const std::int64_t now = wall_clock_ns();
    bool skip = false;
    database.read([&](SQLite::Database& connection) { skip = sweep_not_due(connection, now); });
    if (skip) return false;
    int taken = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement seed(connection,
                               "INSERT OR IGNORE INTO maintenance_lease (name, lease_expires_at) "
                               "VALUES (?, ?)");
        sql::bind_text(seed, 1, kMaintenanceLease);
        seed.bind(2, sql::timestamp(now));
        seed.exec();
        SQLite::Statement take(connection,
                               "UPDATE maintenance_lease SET holder_pid = ?, lease_expires_at = ? "
                               "WHERE name = ? AND lease_expires_at <= ? AND "
                               "(last_completed_at IS NULL OR last_completed_at <= ?)");
        take.bind(1, static_cast<std::int64_t>(::getpid()));
        take.bind(2, sql::timestamp(now + to_ns(kMaintenanceLeaseTime)));
        sql::bind_text(take, 3, kMaintenanceLease);
        take.bind(4, sql::timestamp(now));
        take.bind(5, sql::timestamp(now - to_ns(kMaintenanceInterval)));
        taken = take.exec();
    });
    return taken == 1;
}

void complete_maintenance_lease(Database& database) {
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement update(connection,
                                 "UPDATE maintenance_lease SET last_completed_at = ?, "
                                 "holder_pid = NULL WHERE name = ? AND holder_pid = ?");
        update.bind(1, sql::now());
        sql::bind_text(update, 2, kMaintenanceLease);
        update.bind(3, static_cast<std::int64_t>(::getpid()));
        update.exec();
    });
}

}  // namespace msb::state
