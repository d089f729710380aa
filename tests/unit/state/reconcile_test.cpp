// spec/state.md section 7.1 and 7.2, checks 9 and 25 of section 13; spec/sandbox-process.md check 21.
#include "state/reconcile.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "fixture.h"
#include "state/ipc_paths.h"
#include "state/locks.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;
using test::error_of;

enum class LastRun { kNone, kDead, kAlive, kNoPid };

class ReconcileTest : public ::testing::Test {
  protected:
    // A row in the status with an active_config, a slot and the given run.
    std::int64_t add(const std::string& name, const std::string& status, LastRun run,
                     bool ephemeral = false) {
        const auto id = insert_starting(database_, name, "{}", ephemeral, {});
        home_.exec("UPDATE sandbox SET status = '" + status +
                   "', active_config = '{}', network_slot = id WHERE name = '" + name + "'");
        if (run == LastRun::kAlive) insert_run(database_, id, live_.pid());
        if (run == LastRun::kDead) insert_run(database_, id, dead_);
        if (run == LastRun::kNoPid)
            home_.exec("INSERT INTO run (sandbox_id, status, started_at) VALUES (" +
                       std::to_string(id) + ", 'Running', '2026-01-01 00:00:00')");
        fs::create_directories(home_.paths().sandbox_dir(name));
        return id;
    }
    // "status|active_config set|slot set|run status|reason|exit_code"
    std::string state(const std::string& name) {
        return home_.query(
            "SELECT s.status, s.active_config IS NOT NULL, s.network_slot IS NOT NULL, "
            "coalesce(r.status, '-'), coalesce(r.termination_reason, '-'), "
            "coalesce(r.exit_code, '-') FROM sandbox s LEFT JOIN run r ON r.sandbox_id = s.id "
            "WHERE s.name = '" +
            name + "'");
    }

    test::TempHome home_;
    Database database_ = home_.open();
    StateRoots roots_ = home_.roots();
    test::LiveProcess live_;
    pid_t dead_ = test::dead_pid();
};

struct Case {
    const char* status;
    LastRun run;
    const char* expected;
};

TEST_F(ReconcileTest, WholeMatrix) {
    const std::string crashed = "Crashed|0|0|Terminated|InternalError|-";
    std::vector<Case> cases;
    for (const char* status : {"Starting", "Running"}) {
        cases.push_back({status, LastRun::kNone, nullptr});
        cases.push_back({status, LastRun::kDead, crashed.c_str()});
        cases.push_back({status, LastRun::kNoPid, crashed.c_str()});
        cases.push_back({status, LastRun::kAlive, nullptr});
    }
    cases.push_back({"Draining", LastRun::kNone, "Stopped|0|0|-|-|-"});
    cases.push_back({"Draining", LastRun::kDead, "Stopped|0|0|Terminated|ShutdownRequested|-"});
    cases.push_back({"Draining", LastRun::kAlive, nullptr});
    for (const char* status : {"Created", "Paused", "Stopped", "Crashed"}) {
        for (LastRun run : {LastRun::kNone, LastRun::kDead, LastRun::kAlive})
            cases.push_back({status, run, nullptr});
    }
    // Once through list (all rows at a time), once by name.
    for (const bool listed : {true, false}) {
        int n = 0;
        std::vector<std::pair<std::string, std::string>> expected;
        for (const Case& one : cases) {
            const std::string name = (listed ? "l" : "n") + std::to_string(n++);
            add(name, one.status, one.run);
            expected.emplace_back(name, one.expected ? one.expected : state(name));
        }
        if (listed) list_sandboxes(database_, roots_);
        for (const auto& [name, wanted] : expected) {
            if (!listed) get_reconciled(database_, roots_, name);
            EXPECT_EQ(state(name), wanted) << name;
        }
        home_.exec("DELETE FROM sandbox");
    }
}

TEST_F(ReconcileTest, ListingReturnsWhatItWrote) {
    add("a", "Running", LastRun::kDead);
    add("b", "Draining", LastRun::kNone);
    add("c", "Running", LastRun::kAlive);
    const auto page = list_sandboxes(database_, roots_);
    ASSERT_EQ(page.sandboxes.size(), 3u);
    EXPECT_EQ(page.sandboxes[0].status, SandboxStatus::kRunning);
    EXPECT_EQ(page.sandboxes[1].status, SandboxStatus::kStopped);
    EXPECT_EQ(page.sandboxes[2].status, SandboxStatus::kCrashed);
}

TEST_F(ReconcileTest, ZombieCountsAsDead) {
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) ::_exit(0);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);  // dead, not reaped
    const auto id = insert_starting(database_, "z", "{}", false, {});
    insert_run(database_, id, pid);
    EXPECT_EQ(get_reconciled(database_, roots_, "z").status, SandboxStatus::kCrashed);
    ::waitpid(pid, nullptr, 0);
}

TEST_F(ReconcileTest, HeldLifecycleLockLeavesTheRow) {
    add("web", "Running", LastRun::kDead);
    const std::string before = state("web");
    {
        test::LiveProcess owner(
            [&] { test::hold_until_death(std::move(*try_lock_lifecycle(roots_, "web"))); });
        EXPECT_EQ(get_reconciled(database_, roots_, "web").status, SandboxStatus::kRunning);
        list_sandboxes(database_, roots_);
        EXPECT_EQ(state("web"), before);
    }
    EXPECT_EQ(get_reconciled(database_, roots_, "web").status, SandboxStatus::kCrashed);
}

TEST_F(ReconcileTest, EndpointsGoFirstOrTheRowStays) {
    add("web", "Running", LastRun::kDead);
    const IpcPaths paths = IpcPaths::of(roots_, "web");
    create_socket_directory(paths);
    publish_link(paths.run, paths.legacy_agent_link, paths.agent);
    // A foreign layout: removal refuses, so the row must stay active.
    fs::rename(paths.run / "agent", paths.run / "moved");
    fs::create_symlink("moved", paths.run / "agent");
    EXPECT_EQ(get_reconciled(database_, roots_, "web").status, SandboxStatus::kRunning);
    fs::remove(paths.run / "agent");
    fs::rename(paths.run / "moved", paths.run / "agent");
    EXPECT_EQ(get_reconciled(database_, roots_, "web").status, SandboxStatus::kCrashed);
    EXPECT_FALSE(fs::exists(fs::symlink_status(paths.legacy_agent_link)));
    EXPECT_FALSE(fs::exists(paths.directory));
}

TEST_F(ReconcileTest, Pages) {
    for (int i = 1; i <= 5; ++i)
        add("s" + std::to_string(i), "Stopped", LastRun::kNone);
    const auto first = list_sandboxes(database_, roots_, {{}, 2, {}});
    ASSERT_EQ(first.sandboxes.size(), 2u);
    ASSERT_TRUE(first.next_cursor);
    EXPECT_EQ(decode_cursor(*first.next_cursor), 4);
    const auto last = list_sandboxes(database_, roots_, {{}, 3, 4});
    EXPECT_EQ(last.sandboxes.size(), 3u);
    EXPECT_FALSE(last.next_cursor);
    for (unsigned bad : {0u, 101u})
        EXPECT_EQ(error_of([&] { list_sandboxes(database_, roots_, {{}, bad, {}}); }),
                  "invalid config: sandbox list limit must be between 1 and 100");
}

TEST_F(ReconcileTest, MaintenanceSweepsStaleAndEphemeralRows) {
    add("crashed", "Running", LastRun::kDead);
    add("gone", "Stopped", LastRun::kNone, true);
    add("gone2", "Crashed", LastRun::kDead, true);
    add("kept", "Stopped", LastRun::kAlive, true);  // a live run guards it
    add("plain", "Stopped", LastRun::kNone, false);
    add("busy", "Running", LastRun::kAlive, true);
    home_.write("sandboxes/gone/logs/exec.log", "x");
    run_maintenance(database_, roots_);
    EXPECT_EQ(home_.query("SELECT name, status FROM sandbox ORDER BY id"),
              "crashed|Crashed\nkept|Stopped\nplain|Stopped\nbusy|Running");
    EXPECT_FALSE(fs::exists(home_.paths().sandbox_dir("gone")));
    EXPECT_TRUE(fs::exists(home_.paths().sandbox_dir("kept")));
    EXPECT_EQ(home_.query("SELECT holder_pid, last_completed_at IS NOT NULL FROM "
                          "maintenance_lease WHERE name = 'sandbox_lifecycle_maintenance'"),
              "NULL|1");
    // Not again within 30 s.
    add("late", "Running", LastRun::kDead);
    run_maintenance(database_, roots_);
    EXPECT_EQ(home_.query("SELECT status FROM sandbox WHERE name = 'late'"), "Running");
}

TEST_F(ReconcileTest, EphemeralCleanUpNeverLeavesTheSandboxDirectory) {
    home_.write("precious", "x");
    home_.write("sandboxes/other/file", "x");
    home_.exec(
        "INSERT INTO sandbox (name, config, status, ephemeral) VALUES ('..', '{}', 'Stopped', 1), "
        "('', '{}', 'Stopped', 1), ('a/../other', '{}', 'Stopped', 1)");
    run_maintenance(database_, roots_);
    EXPECT_TRUE(fs::exists(home_.paths().home() / "precious"));
    EXPECT_TRUE(fs::exists(home_.paths().sandbox_dir("other") / "file"));
    EXPECT_EQ(home_.query("SELECT count(*) FROM sandbox"), "3");
}

TEST_F(ReconcileTest, EphemeralSelfCleanFollowsNoLinks) {
    const auto id = add("tmp", "Stopped", LastRun::kNone, true);
    home_.write("precious/file", "x");
    fs::create_directory_symlink(home_.paths().home() / "precious",
                                 home_.paths().sandbox_dir("tmp") / "link");
    const auto lock = try_lock_lifecycle(roots_, "tmp");  // the runtime's own
    EXPECT_TRUE(clean_up_ephemeral_self(database_, roots_, id));
    EXPECT_TRUE(fs::exists(home_.paths().home() / "precious" / "file"));
    EXPECT_FALSE(fs::exists(home_.paths().sandbox_dir("tmp")));
    EXPECT_EQ(home_.query("SELECT count(*) FROM sandbox"), "0");
    const auto kept = add("kept", "Stopped", LastRun::kNone, false);
    EXPECT_FALSE(clean_up_ephemeral_self(database_, roots_, kept));
}

}  // namespace
}  // namespace msb::state
