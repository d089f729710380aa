// Opening as a host process: spec/state.md section 4, checks 1, 3, 4, 6, 7 of section 13.
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "fixture.h"
#include "state/sandbox_rows.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempHome;

constexpr const char* kLeaseRow =
    "SELECT name, holder_pid, lease_expires_at = last_completed_at FROM maintenance_lease";

TEST(Open, FreshHome) {
    TempHome home;
    home.open();
    EXPECT_TRUE(fs::is_regular_file(home.paths().database()));
    EXPECT_EQ(fs::file_size(home.paths().migration_lock()), 0u);
    std::string expected;
    for (std::string_view id : migration_ids())
        expected += (expected.empty() ? "" : "\n") + std::string(id);
    EXPECT_EQ(migration_ids().size(), 25u);
    EXPECT_EQ(home.query("SELECT version FROM seaql_migrations ORDER BY rowid"), expected);
    EXPECT_EQ(home.query(kLeaseRow), "install_exclusive|NULL|1");
    EXPECT_EQ(home.query("PRAGMA journal_mode"), "wal");
    EXPECT_EQ(home.query("PRAGMA user_version"), "0");
}

TEST(Open, ConnectionSettings) {
    TempHome home;
    Database database = home.open();
    database.read([](SQLite::Database&) {});
    // Foreign keys are on: a run of no sandbox is refused.
    EXPECT_NE(error_of([&] { insert_run(database, 99, 1); }).find("FOREIGN KEY"),
              std::string::npos);
}

TEST(Open, AnUpToDateDatabaseIsNotWritten) {
    TempHome home;
    home.open();
    const std::string version = home.query("PRAGMA data_version");
    const std::string lease = home.query("SELECT * FROM maintenance_lease");
    home.open();
    EXPECT_EQ(home.query("SELECT * FROM maintenance_lease"), lease);
}

TEST(Open, BookkeepingIsASet) {
    TempHome home;
    home.open();
    home.exec("UPDATE seaql_migrations SET applied_at = 1");
    home.exec(
        "CREATE TABLE copy AS SELECT * FROM seaql_migrations ORDER BY version DESC;"
        "DELETE FROM seaql_migrations; INSERT INTO seaql_migrations SELECT * FROM copy;"
        "DROP TABLE copy");
    EXPECT_EQ(error_of([&] { home.open(); }), "");
}

TEST(Open, NewerSchemaIsRefusedUnchanged) {
    TempHome home;
    home.open();
    home.exec("INSERT INTO seaql_migrations VALUES ('m20990101_000001_future', 5)");
    const std::string before = home.query("SELECT * FROM seaql_migrations");
    EXPECT_EQ(error_of([&] { home.open(); }),
              "runtime error: database schema is newer than this msb binary; applied migration "
              "\"m20990101_000001_future\" is not in this binary's migration prefix");
    EXPECT_EQ(home.query("SELECT * FROM seaql_migrations"), before);
}

TEST(Open, HoleIsRefusedLikeANewerSchema) {
    TempHome home;
    home.open();
    home.exec("DELETE FROM seaql_migrations WHERE version = 'm20260824_000001_mount_owner_config'");
    EXPECT_EQ(error_of([&] { home.open(); }),
              "runtime error: database schema is newer than this msb binary; applied migration "
              "\"m20260818_000001_sandbox_network_slot\" is not in this binary's migration prefix");
}

TEST(Open, TooOldAndForeignDatabasesAreRefusedUnchanged) {
    TempHome home;
    home.open();
    home.exec("DELETE FROM seaql_migrations WHERE rowid > 12");
    EXPECT_TRUE(error_of([&] { home.open(); })
                    .starts_with("runtime error: database schema is older than microsandbox 0.6.0 "
                                 "(12 of 25 migrations applied)"));
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "12");

    TempHome foreign;
    foreign.exec("CREATE TABLE recipes (id INTEGER)");
    EXPECT_TRUE(error_of([&] {
                    foreign.open();
                }).starts_with("runtime error: database has tables but no migration records"));
    EXPECT_EQ(foreign.query("SELECT name FROM sqlite_master"), "recipes");
}

TEST(Open, InstallInProgress) {
    TempHome home;
    home.open();
    home.exec(
        "UPDATE maintenance_lease SET lease_expires_at = '2099-01-01 00:00:00', holder_pid = 1");
    EXPECT_EQ(error_of([&] { home.open(); }),
              "runtime error: microsandbox install operation in progress until 2099-01-01 "
              "00:00:00; retry after it completes");
    // An expired one is taken over and cleared.
    home.exec("UPDATE maintenance_lease SET lease_expires_at = '2001-01-01 00:00:00'");
    home.open();
    EXPECT_EQ(home.query(kLeaseRow), "install_exclusive|NULL|1");
}

TEST(Open, RuntimeIgnoresLeaseAndGate) {
    TempHome home;
    home.open();
    home.exec(
        "UPDATE maintenance_lease SET lease_expires_at = '2099-01-01 00:00:00', holder_pid = 1");
    home.exec("INSERT INTO seaql_migrations VALUES ('m20990101_000001_future', 5)");
    Database runtime = Database::open_runtime(home.paths().database());
    EXPECT_FALSE(find_sandbox(runtime, "x"));
}

TEST(Open, RuntimeFailsOnFirstUseOfAMissingDatabase) {
    TempHome home;
    const fs::path file = home.paths().home() / "none.db";
    Database runtime = Database::open_runtime(file);
    EXPECT_TRUE(fs::exists(file));
    EXPECT_NE(error_of([&] { insert_run(runtime, 1, 1); }).find("no such table: run"),
              std::string::npos);
}

TEST(Open, DowngradeJournals) {
    const std::string prefix = "runtime error: self_downgrade_recovery_required: ";
    TempHome home;
    home.write("db/self-downgrade/.staging/x", "");  // hidden ones are not operations
    home.write("db/self-downgrade/file", "");
    EXPECT_EQ(error_of([&] { home.open(); }), "");
    fs::remove(home.paths().database());

    const fs::path operation = home.paths().downgrade_journals() / "op-1";
    fs::create_directories(operation);
    EXPECT_EQ(error_of([&] { home.open(); }),
              prefix + "operation directory has no journal: " + operation.string());
    const std::string journal = (operation / "journal.json").string();
    home.write("db/self-downgrade/op-1/journal.json", "{");
    EXPECT_TRUE(
        error_of([&] { home.open(); }).starts_with(prefix + "invalid journal " + journal + ": "));
    for (const char* text : {R"({"phase":"database_reverted"})", "{}", R"({"phase":5})", "[]"}) {
        home.write("db/self-downgrade/op-1/journal.json", text);
        EXPECT_EQ(error_of([&] { home.open(); }),
                  prefix + "resume the active downgrade recorded at " + journal)
            << text;
    }
    EXPECT_FALSE(fs::exists(home.paths().database()));  // not opened in these cases
    home.write("db/self-downgrade/op-1/journal.json", R"({"phase":"complete"})");
    EXPECT_EQ(error_of([&] { home.open(); }), "");
}

TEST(Open, ThreadsReadWhileOneWrites) {
    TempHome home;
    Database database = home.open();
    insert_starting(database, "a", "{}", false, {});
    database.write([&](SQLite::Database&) {
        // The writer connection is taken; another thread must still get an answer.
        std::string name;
        std::thread reader([&] { name = get_sandbox(database, "a").name; });
        reader.join();
        EXPECT_EQ(name, "a");
    });
}

}  // namespace
}  // namespace msb::state
