// The SQLite database <home>/db/msb.db: opening, schema gate, migrations, transactions (spec/state.md sections 2 to 5).
//
// The typed row operations are in sandbox_rows.h, run_rows.h, volume_rows.h, leases.h; they take a Database.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "state/home.h"

namespace SQLite {  // NOLINT(readability-identifier-naming): the library chose it
class Database;
}

namespace msb::state {

// config.json `database.*`.
struct DatabaseOptions {
    unsigned max_connections = 5;                  // readers beside the writer
    std::chrono::seconds connect_timeout{30};      // wait for a free reader
    std::chrono::milliseconds busy_timeout{5000};  // sqlite3_busy_timeout of every connection

    bool operator==(const DatabaseOptions&) const = default;
};

// One process's access to the database. Thread-safe: writes are serialised on one connection, reads use an idle one.
//
// Every error of SQLite leaves as Error{kDatabase}, detail "error returned from database: (code: N) text".
class Database {
  public:
    // The host's way in: migration lock, downgrade journals, install lease, schema gate, migrations (section 4). Creates
    // the database when missing. Throws Error with the texts of section 4; nothing is changed then, except that
    // migrations already finished stay finished.
    static Database open(const HomePaths& home, const DatabaseOptions& options = {});

    // The sandbox process's way in: one connection, busy_timeout 5 s, no lock, no gate, no migration, no lease. A missing
    // file is created empty (and then fails on first use).
    static Database open_runtime(const std::filesystem::path& file);

    Database(Database&&) noexcept;
    Database& operator=(Database&&) noexcept;
    ~Database();

    const std::filesystem::path& file() const;

    // Runs `body` in one transaction on the writer connection and commits. SQLITE_BUSY and SQLITE_BUSY_SNAPSHOT are
    // retried, whole transaction at a time: 8 attempts, sleeping 10, 20, 40, 80, 160, 320, 500 ms in between; `body` must
    // bear repetition. Any exception rolls back.
    void write(const std::function<void(SQLite::Database&)>& body);
    // Runs `body` on a connection; what it reads is one snapshot only if it is one statement.
    // A body, here and in write(), may not call back into the same Database: it has the connection.
    void read(const std::function<void(SQLite::Database&)>& body);

  private:
    struct Impl;
    explicit Database(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// The canonical migration list, in the order they are applied (section 4).
const std::vector<std::string_view>& migration_ids();
// The first that many are what upstream 0.6.0 ships: the shortest database that is upgraded.
inline constexpr std::size_t kBaselineMigrations = 13;

}  // namespace msb::state
