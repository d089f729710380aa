// Opening what is broken, contended or dying.
#include <SQLiteCpp/Database.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/error.h"
#include "fixture.h"
#include "old_databases.h"
#include "state/locks.h"
#include "state/sandbox_rows.h"
#include "support/kill_point.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;
using test::describe_schema;
using test::error_of;
using test::in_child;
using test::TempHome;

TEST(OpenFaults, NotADatabase) {
    TempHome home;
    home.write("db/msb.db", "this is certainly not a database file, whatever its name says\n");
    EXPECT_EQ(error_of([&] { home.open(); }),
              "connect to " + home.paths().database().string() +
                  ": error returned from database: (code: 26) file is not a database");
}

TEST(OpenFaults, EmptyFileIsAFreshDatabase) {
    TempHome home;
    home.write("db/msb.db", "");
    home.open();
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "25");
}

TEST(OpenFaults, CorruptPagesAreAnError) {
    TempHome home;
    home.open();
    home.query("PRAGMA wal_checkpoint(TRUNCATE)");
    {
        std::fstream file(home.paths().database(), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(100);  // past the header: the root of the schema
        file << std::string(4000, '\xff');
    }
    const std::string error = error_of([&] { home.open(); });
    EXPECT_TRUE(error.find("(code: 11)") != std::string::npos) << error;
}

TEST(OpenFaults, DirectoryInPlaceOfTheDatabase) {
    TempHome home;
    fs::create_directories(home.paths().database());
    EXPECT_NE(error_of([&] { home.open(); }).find("(code: 14) unable to open database file"),
              std::string::npos);
}

TEST(OpenFaults, HomeThatCannotBeCreated) {
    TempHome home;
    home.write("file", "");
    EXPECT_NE(error_of([&] {
                  Database::open(HomePaths(home.paths().home() / "file" / "h"));
              }).find("Not a directory (os error 20)"),
              std::string::npos);
}

TEST(OpenFaults, ReadOnlyHome) {
    TempHome home;
    ASSERT_EQ(::chmod(home.paths().home().c_str(), 0555), 0);
    // As somebody whom the mode bits bind.
    const std::string error = in_child([&]() -> std::string {
        if (::geteuid() == 0 && ::setuid(65534) != 0) return "setuid failed";
        home.open();
        return "opened";
    });
    EXPECT_NE(error.find("Permission denied (os error 13)"), std::string::npos) << error;
    ::chmod(home.paths().home().c_str(), 0755);
}

TEST(OpenFaults, NoRoomWhileCreatingLeavesAnOpenableHome) {
    TempHome home;
    const std::string error = in_child([&]() -> std::string {
        // A file size limit: writes fail in the middle of the creation, as on a full disk.
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{64 << 10, 64 << 10};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return "setrlimit failed";
        home.open();
        return "opened";
    });
    EXPECT_NE(error.find("(code: 778) disk I/O error"), std::string::npos) << error;
    home.open();
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "25");
}

TEST(OpenFaults, TruncatedLogLosesOnlyItsTail) {
    TempHome home;
    {
        Database database = home.open();
        insert_starting(database, "kept", "{}", false, {});
        database.read([](SQLite::Database& connection) {
            connection.exec("PRAGMA wal_checkpoint(TRUNCATE)");
        });
        insert_starting(database, "lost", "{}", false, {});
    }
    const fs::path log = home.paths().database().string() + "-wal";
    ASSERT_GT(fs::file_size(log), 100u);
    fs::resize_file(log, fs::file_size(log) - 100);
    Database database = home.open();
    EXPECT_TRUE(find_sandbox(database, "kept"));
    EXPECT_FALSE(find_sandbox(database, "lost"));
}

TEST(OpenFaults, LockedDatabaseFailsAfterEightAttempts) {
    TempHome home;
    home.open();
    DatabaseOptions options;
    options.busy_timeout = std::chrono::milliseconds(10);
    Database database = Database::open(home.paths(), options);  // reading needs no write lock
    SQLite::Database other(home.paths().database().string(), SQLite::OPEN_READWRITE);
    other.exec("BEGIN IMMEDIATE");
    const std::string error = error_of([&] { insert_starting(database, "a", "{}", false, {}); });
    EXPECT_NE(error.find("(code: 5) database is locked"), std::string::npos) << error;
    other.exec("ROLLBACK");
    // The whole transaction is repeated, not only its start: here the body meets the lock that its own transaction holds.
    int attempts = 0;
    database.write([&](SQLite::Database&) {
        if (++attempts < 3) other.exec("BEGIN IMMEDIATE");
    });
    EXPECT_EQ(attempts, 3);
    EXPECT_EQ(insert_starting(database, "a", "{}", false, {}), 1);
}

TEST(OpenFaults, MigrationWaitsForTheMigrationLock) {
    TempHome home;
    fs::create_directories(home.paths().database_dir());
    test::LiveProcess owner([&] { test::hold_until_death(lock_migration(home.paths())); });
    std::thread opener([&] { home.open(); });
    // The opener stands before the database: nothing is created until the owner is gone.
    EXPECT_FALSE(fs::exists(home.paths().database()));
    owner.kill_and_reap();
    opener.join();
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "25");
}

void open_at_once(const TempHome& home, int count) {
    std::vector<pid_t> children;
    PipeFds start = make_pipe();
    for (int i = 0; i < count; ++i) {
        const pid_t pid = ::fork();
        ASSERT_GE(pid, 0);
        if (pid == 0) {
            start.write.reset();
            char byte;
            (void)!::read(start.read.get(), &byte, 1);  // until the starter closes its end
            int status = 0;
            try {
                Database database = home.open();
                const auto id = insert_starting(database, "s" + std::to_string(i), "{}", false, {});
                claim_network_slot(database, id);
            } catch (const std::exception& exception) {
                std::fprintf(stderr, "%s\n", exception.what());
                status = 1;
            }
            ::_exit(status);
        }
        children.push_back(pid);
    }
    start.write.reset();
    for (pid_t pid : children) {
        int status = -1;
        ::waitpid(pid, &status, 0);
        EXPECT_EQ(status, 0);
    }
}

TEST(OpenFaults, ManyProcessesCreateOneDatabase) {
    TempHome home;
    open_at_once(home, 8);
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "25");
    EXPECT_EQ(home.query("SELECT count(*), count(DISTINCT network_slot), max(network_slot) "
                         "FROM sandbox"),
              "8|8|8");
}

TEST(OpenFaults, ManyProcessesMigrateOneDatabase) {
    TempHome home, fresh;
    fresh.open();
    test::create_old_database(home, 13);
    open_at_once(home, 8);
    EXPECT_EQ(describe_schema(home.paths().database()), describe_schema(fresh.paths().database()));
    EXPECT_EQ(home.query("SELECT count(*) FROM sandbox"), "8");
}

// SIGKILL before each `stride`-th change that creation or migration makes to a file; whatever is left must open and end
// up complete. `before` is the home it starts from, `rows` how many sandboxes are in there.
void kill_while_opening(const TempHome& before, int rows, std::size_t stride) {
    TempHome fresh;
    fresh.open();
    const std::string schema = describe_schema(fresh.paths().database());
    std::size_t killed = 0;
    for (std::size_t n = 1;; n += stride) {
        SCOPED_TRACE("killed before change " + std::to_string(n));
        TempHome home;
        fs::copy(before.paths().home(), home.paths().home(), fs::copy_options::recursive);
        if (!msb::test::killed_before_change(n, [&] { home.open(); })) break;
        ++killed;
        ASSERT_EQ(error_of([&] { home.open(); }), "");
        ASSERT_EQ(describe_schema(home.paths().database()), schema);
        ASSERT_EQ(home.query("SELECT count(*) FROM sandbox_labels"), std::to_string(rows));
        ASSERT_EQ(home.query("SELECT count(*) FROM sandbox WHERE config LIKE "
                             "'%\"Bind\":{\"path\":\"/r\",\"follow_root_symlinks\":false}%'"),
                  std::to_string(rows));
        ASSERT_EQ(home.query("PRAGMA integrity_check"), "ok");
    }
    EXPECT_GT(killed * stride,
              50u);  // creating writes 100 pages and more; fewer means that nothing was traced
}

TEST(OpenFaults, KilledWhileCreating) {
    kill_while_opening(TempHome(), 0, 1);
}

TEST(OpenFaults, KilledWhileMigrating) {
    constexpr int kRows = 200;
    TempHome old;
    test::create_old_database(old, 13);
    std::string rows;
    for (int i = 0; i < kRows; ++i)
        rows += (i ? "," : "") + std::string("('s") + std::to_string(i) +
                R"(','{"image":{"Bind":"/r"},"labels":{"a":"b"}}','Stopped'))";
    old.exec("INSERT INTO sandbox (name, config, status) VALUES " + rows);
    kill_while_opening(old, kRows, 1);
}

}  // namespace
}  // namespace msb::state
