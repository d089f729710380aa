// Starting, replacing and removing existing rows: spec/state.md sections 6.10, 7.3, 7.4; checks 13, 14 and 25.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "base/error.h"
#include "base/process.h"
#include "fixture.h"
#include "state/ipc_paths.h"
#include "state/locks.h"
#include "state/reconcile.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using test::error_of;

class RemovalTest : public ::testing::Test {
  protected:
    std::int64_t add(const std::string& name, const std::string& status) {
        const auto id = insert_starting(database_, name, "{}", false, {{"a", "b"}});
        home_.exec("UPDATE sandbox SET status = '" + status + "' WHERE name = '" + name + "'");
        home_.write("sandboxes/" + name + "/old", "x");
        return id;
    }
    std::string start_error(const std::string& name) {
        return error_of([&] { claim_start(database_, roots_, name, [](const SandboxRow&) {}); });
    }
    std::string remove_error(const std::string& name) {
        return error_of([&] { remove_sandbox(database_, roots_, name); });
    }
    std::string replace_error(const std::string& name, milliseconds grace = milliseconds(0)) {
        return error_of([&] { prepare_create_target(database_, roots_, name, {true, grace}); });
    }
    bool directory(const std::string& name) { return fs::exists(home_.paths().sandbox_dir(name)); }

    test::TempHome home_;
    Database database_ = home_.open();
    StateRoots roots_ = home_.roots();
};

TEST_F(RemovalTest, StartByStatus) {
    for (const char* status : {"Created", "Stopped", "Crashed"}) {
        add(status, status);
        const StartClaim claim = claim_start(database_, roots_, status, [](const SandboxRow&) {});
        EXPECT_EQ(claim.row.status, SandboxStatus::kStarting);
        EXPECT_EQ(get_sandbox(database_, status).status, SandboxStatus::kStarting);
        EXPECT_FALSE(try_lock_lifecycle(roots_, status));  // the claim owns it
    }
    add("running", "Running");
    EXPECT_EQ(start_error("running"),
              "sandbox still running: cannot start sandbox 'running': already running");
    add("paused", "Paused");
    EXPECT_EQ(start_error("paused"),
              "sandbox still running: cannot start sandbox 'paused': status is Paused (expected "
              "Created, Stopped, or Crashed)");
    EXPECT_EQ(start_error("nope"), "sandbox not found: nope");
}

TEST_F(RemovalTest, StartNeedsTheDirectoryAndAValidDocument) {
    const auto id = add("web", "Stopped");
    EXPECT_EQ(error_of([&] {
                  claim_start(database_, roots_, "web",
                              [](const SandboxRow&) { throw Error(ErrorCode::kJson, "bad"); });
              }),
              "json error: bad");
    fs::remove_all(home_.paths().sandbox_dir("web"));
    EXPECT_EQ(start_error("web"),
              "sandbox state missing for 'web': " + home_.paths().sandbox_dir("web").string());
    EXPECT_EQ(find_sandbox(database_, id)->status, SandboxStatus::kStopped);
    EXPECT_TRUE(try_lock_lifecycle(roots_, "web"));
}

TEST_F(RemovalTest, OnlyOneOfTwoStartsWins) {
    add("web", "Stopped");
    StartClaim winner = claim_start(database_, roots_, "web", [](const SandboxRow&) {});
    EXPECT_EQ(start_error("web"),
              "sandbox still running: cannot start sandbox 'web': status is Starting (expected "
              "Created, Stopped, or Crashed)");
}

TEST_F(RemovalTest, PlainCreateIsStoppedByRowOrDirectory) {
    const auto error = [&](const char* name) {
        return error_of([&] { prepare_create_target(database_, roots_, name, {}); });
    };
    EXPECT_EQ(error("x"), "");
    home_.write("sandboxes/x/file", "old");
    EXPECT_EQ(error("x"),
              "sandbox already exists: sandbox 'x' already exists; remove it, start the stopped "
              "sandbox, or recreate with .replace()");
    EXPECT_EQ(replace_error("x"), "");
    EXPECT_FALSE(directory("x"));
    add("y", "Stopped");
    EXPECT_NE(error("y"), "");
}

TEST_F(RemovalTest, UntrackedLiveEndpointProtectsItsDirectory) {
    home_.write("sandboxes/x/file", "old");
    const IpcPaths paths = IpcPaths::of(roots_, "x");
    create_socket_directory(paths);
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, paths.agent.c_str(), paths.agent.native().size());
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(socket.get(), 1), 0);
    EXPECT_EQ(replace_error("x"),
              "sandbox still running: cannot replace sandbox \"x\": an untracked runtime endpoint "
              "is still live");
    EXPECT_TRUE(directory("x"));
    socket.reset();
    EXPECT_EQ(replace_error("x"), "");
    EXPECT_FALSE(directory("x"));
}

TEST_F(RemovalTest, ReplaceOfRowsWithoutAProcess) {
    for (const char* status :
         {"Created", "Starting", "Running", "Draining", "Paused", "Stopped", "Crashed"}) {
        const auto id = add(status, status);
        EXPECT_EQ(replace_error(status), "");
        EXPECT_FALSE(find_sandbox(database_, status));
        EXPECT_FALSE(directory(status));
        EXPECT_GT(add(status, "Stopped"), id);
    }
}

// Check 14: a process that ignores SIGTERM.
TEST_F(RemovalTest, ReplaceKillsAStubbornProcess) {
    const auto id = add("web", "Running");
    test::LiveProcess stubborn([] { ::signal(SIGTERM, SIG_IGN); });
    insert_run(database_, id, stubborn.pid());
    EXPECT_EQ(replace_error("web", milliseconds(100)), "");
    EXPECT_FALSE(process_alive(stubborn.pid()));
    EXPECT_EQ(home_.query("SELECT (SELECT count(*) FROM sandbox), (SELECT count(*) FROM run)"),
              "0|0");
    EXPECT_FALSE(directory("web"));
}

TEST_F(RemovalTest, ReplaceRefusesWhenTheRecordedProcessLives) {
    const auto id = add("web", "Stopped");
    test::LiveProcess live;
    insert_run(database_, id, live.pid());
    EXPECT_EQ(replace_error("web"),
              "sandbox still running: cannot replace sandbox \"web\": its recorded runtime process "
              "is still alive");
    EXPECT_TRUE(find_sandbox(database_, "web"));
}

TEST_F(RemovalTest, RemoveByStatus) {
    for (const char* status : {"Starting", "Running", "Paused"}) {
        add(status, status);
        EXPECT_EQ(remove_error(status), std::string("sandbox still running: cannot remove sandbox "
                                                    "'") +
                                            status + "': still running");
    }
    add("created", "Created");
    EXPECT_EQ(remove_error("created"),
              "sandbox still running: cannot remove sandbox \"created\": status is Created");
    for (const char* status : {"Stopped", "Crashed", "Draining"}) {  // Draining is reconciled
        add(status, status);
        EXPECT_EQ(remove_error(status), "");
        EXPECT_FALSE(find_sandbox(database_, status));
        EXPECT_FALSE(directory(status));
    }
    EXPECT_EQ(home_.query("SELECT count(*) FROM sandbox_labels"), "4");
    EXPECT_EQ(remove_error("nope"), "sandbox not found: nope");
}

TEST_F(RemovalTest, RemoveOfASuccessorIsRefused) {
    const auto id = add("web", "Stopped");
    delete_sandbox(database_, id);
    add("web", "Stopped");
    EXPECT_EQ(error_of([&] { remove_sandbox(database_, roots_, "web", id); }),
              "sandbox \"web\" was replaced (expected identity local:1, found local:2); refusing "
              "stale lifecycle operation");
    EXPECT_TRUE(directory("web"));
}

// Check 25, the second half: the lock is waited for 5 s, then nothing was touched.
TEST_F(RemovalTest, HeldLifecycleLockStopsRemoval) {
    add("web", "Stopped");
    const auto lock = try_lock_lifecycle(roots_, "web");
    EXPECT_EQ(remove_error("web"),
              "sandbox still running: sandbox \"web\" runtime still owns its lifecycle lock");
    EXPECT_TRUE(find_sandbox(database_, "web"));
    EXPECT_TRUE(directory("web"));
}

TEST_F(RemovalTest, UnusableNamesAreNeverPaths) {
    home_.write("precious", "x");
    home_.exec("INSERT INTO sandbox (name, config, status) VALUES ('..', '{}', 'Stopped')");
    EXPECT_NE(remove_error(".."), "");
    EXPECT_TRUE(fs::exists(home_.paths().home() / "precious"));
}

TEST_F(RemovalTest, KillRuntime) {
    const auto id = add("web", "Running");
    EXPECT_TRUE(kill_runtime(database_, id, milliseconds(0)));  // no process
    test::LiveProcess live;
    insert_run(database_, id, live.pid());
    EXPECT_TRUE(kill_runtime(database_, id, milliseconds(5000)));
    EXPECT_FALSE(process_alive(live.pid()));
    mark_stopped(database_, id);
    EXPECT_EQ(home_.query("SELECT s.status, r.status FROM sandbox s, run r"), "Stopped|Running");
}

}  // namespace
}  // namespace msb::state
