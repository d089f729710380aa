#include <gtest/gtest.h>
#include <sys/types.h>

#include "base/error.h"
#include "fixture.h"
#include "state/leases.h"
#include "state/run_rows.h"
#include "state/sandbox_rows.h"
#include "state/volume_rows.h"

namespace msb::state {
namespace {

using test::error_of;

class RowsTest : public ::testing::Test {
  protected:
    std::int64_t add(const std::string& name, const Labels& labels = {}) {
        return insert_starting(database_, name, "{}", false, labels);
    }
    std::vector<std::string> names(const SandboxQuery& query) {
        std::vector<std::string> list;
        for (const auto& listed : query_sandboxes(database_, query))
            list.push_back(listed.row.name);
        return list;
    }

    test::TempHome home_;
    Database database_ = home_.open();
};

TEST_F(RowsTest, InsertStarting) {
    const auto id =
        insert_starting(database_, "web", R"({"name":"web"})", true, {{"team", "x"}, {"mark", ""}});
    const SandboxRow row = get_sandbox(database_, "web");
    EXPECT_EQ(row.id, id);
    EXPECT_EQ(row.identity(), "local:1");
    EXPECT_EQ(row.status, SandboxStatus::kStarting);
    EXPECT_EQ(row.config, R"({"name":"web"})");
    EXPECT_TRUE(row.ephemeral);
    EXPECT_TRUE(row.created_at);
    EXPECT_EQ(row.created_at, row.updated_at);
    EXPECT_FALSE(row.active_config);
    EXPECT_FALSE(row.network_slot);
    EXPECT_EQ(sandbox_labels(database_, id), (Labels{{"team", "x"}, {"mark", ""}}));
    EXPECT_EQ(home_.query("SELECT length(created_at) > 19, instr(created_at, 'T') FROM sandbox"),
              "1|0");

    EXPECT_EQ(error_of([&] { add("web", {{"a", "b"}}); }),
              "sandbox already exists: sandbox 'web' already exists; remove it, start the stopped "
              "sandbox, or recreate with .replace()");
    EXPECT_EQ(home_.query("SELECT count(*) FROM sandbox_labels"), "2");
    EXPECT_EQ(error_of([&] { get_sandbox(database_, "nope"); }), "sandbox not found: nope");
}

TEST_F(RowsTest, IdsAreNeverReused) {
    const auto first = add("a");
    EXPECT_TRUE(delete_sandbox(database_, first));
    EXPECT_FALSE(delete_sandbox(database_, first));
    EXPECT_GT(add("a"), first);
    EXPECT_EQ(error_of([&] { get_sandbox_with_identity(database_, "a", first); }),
              "sandbox \"a\" was replaced (expected identity local:1, found local:2); refusing "
              "stale lifecycle operation");
}

// spec/state.md check 12.
TEST_F(RowsTest, NetworkSlots) {
    for (const char* name : {"a", "b", "c", "d"})
        add(name);
    home_.exec("UPDATE sandbox SET network_slot = 1 WHERE name = 'a'");
    home_.exec("UPDATE sandbox SET network_slot = 3, status = 'Stopped' WHERE name = 'b'");
    EXPECT_EQ(claim_network_slot(database_, 3), 2);
    EXPECT_EQ(claim_network_slot(database_, 4), 4);
    EXPECT_EQ(claim_network_slot(database_, 4), 4);                      // a row keeps what it has
    EXPECT_NE(error_of([&] { claim_network_slot(database_, 2); }), "");  // not active
    for (const char* bad : {"0", "65536", "'x'", "4"})
        EXPECT_THROW(home_.exec(std::string("UPDATE sandbox SET network_slot = ") + bad +
                                " WHERE name = 'a'"),
                     std::exception)
            << bad;
}

TEST_F(RowsTest, SlotPoolRunsOut) {
    home_.exec(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 65535) "
        "INSERT INTO sandbox (name, config, status, network_slot) "
        "SELECT 's' || i, '{}', 'Stopped', i FROM n");
    EXPECT_EQ(error_of([&] { claim_network_slot(database_, add("one-more")); }),
              "runtime error: network slot pool exhausted");
}

TEST_F(RowsTest, LifeOfARow) {
    const auto id = add("web");
    EXPECT_FALSE(mark_draining(database_, id));
    EXPECT_TRUE(mark_running(database_, id, R"({"active":1})"));
    EXPECT_FALSE(mark_running(database_, id, "{}"));
    EXPECT_EQ(get_sandbox(database_, "web").active_config, R"({"active":1})");
    claim_network_slot(database_, id);
    EXPECT_TRUE(mark_draining(database_, id));
    const auto run = insert_run(database_, id, 4242);
    EXPECT_EQ(latest_running_run(database_, id)->pid, 4242);
    finish_run(database_, run, id, TerminationReason::kIdleTimeout, 0);
    EXPECT_EQ(home_.query("SELECT status, termination_reason, exit_code, exit_signal, "
                          "termination_detail, signals_sent, terminated_at IS NULL FROM run"),
              "Terminated|IdleTimeout|0|NULL|NULL|NULL|0");
    const SandboxRow row = get_sandbox(database_, "web");
    EXPECT_EQ(row.status, SandboxStatus::kStopped);
    EXPECT_FALSE(row.active_config);
    EXPECT_FALSE(row.network_slot);
    EXPECT_FALSE(latest_running_run(database_, id));
    EXPECT_EQ(latest_run(database_, id)->reason, TerminationReason::kIdleTimeout);
    EXPECT_TRUE(mark_starting(database_, id));
    EXPECT_FALSE(mark_starting(database_, id));
    delete_sandbox(database_, id);
    EXPECT_EQ(home_.query("SELECT count(*) FROM run"), "0");  // cascades
}

TEST_F(RowsTest, FailedStartKeepsTheSlot) {
    const auto id = add("web");
    claim_network_slot(database_, id);
    const auto run = insert_run(database_, id, 1);
    fail_run(database_, run);
    EXPECT_EQ(get_sandbox(database_, "web").status, SandboxStatus::kStarting);
    mark_start_failed(database_, id);
    EXPECT_EQ(home_.query("SELECT status, network_slot FROM sandbox"), "Stopped|1");
    EXPECT_EQ(home_.query("SELECT status, termination_reason, exit_code FROM run"),
              "Terminated|InternalError|NULL");
    mark_stopped(database_, id);
    EXPECT_EQ(home_.query("SELECT network_slot FROM sandbox"), "NULL");
}

TEST_F(RowsTest, ReplaceConfigReplacesLabels) {
    const auto id = add("web", {{"a", "1"}, {"b", "2"}});
    replace_config(database_, id, "{\"x\":1}", {{"b", "3"}});
    EXPECT_EQ(sandbox_labels(database_, id), (Labels{{"b", "3"}}));
    EXPECT_FALSE(get_sandbox(database_, "web").active_config);
    replace_config(database_, id, "{}", {}, "{\"live\":1}");
    EXPECT_EQ(get_sandbox(database_, "web").active_config, "{\"live\":1}");
}

TEST_F(RowsTest, QueriesByLabelAndPage) {
    add("a", {{"team", "x"}, {"env", "dev"}});
    add("b", {{"team", "x"}});
    add("c", {{"team", "y"}, {"env", "dev"}});
    EXPECT_EQ(names({}), (std::vector<std::string>{"c", "b", "a"}));
    EXPECT_EQ(names({{{"team", "x"}}, {}, {}}), (std::vector<std::string>{"b", "a"}));
    EXPECT_EQ(names({{{"team", "x"}, {"env", "dev"}}, {}, {}}), (std::vector<std::string>{"a"}));
    EXPECT_EQ(names({{{"team", ""}}, {}, {}}), (std::vector<std::string>{}));
    EXPECT_EQ(names({{}, 2, {}}), (std::vector<std::string>{"c", "b"}));
    EXPECT_EQ(names({{}, 2, 2}), (std::vector<std::string>{"a"}));
    EXPECT_EQ(encode_cursor(5), "NQ");
    EXPECT_EQ(decode_cursor("NQ"), 5);
    EXPECT_EQ(error_of([] { decode_cursor("!"); }),
              "invalid cursor: invalid sandbox list cursor encoding");
    EXPECT_EQ(error_of([] { decode_cursor("eA"); }),
              "invalid cursor: invalid sandbox list cursor payload");
}

// spec/state.md check 21 and section 5.1.
TEST_F(RowsTest, ValuesOutsideTheirDomainFailTheListing) {
    add("web");
    const auto error = [&] { return error_of([&] { query_sandboxes(database_, {}); }); };
    home_.exec("UPDATE sandbox SET config = 'not json'");
    EXPECT_EQ(error(), "");
    home_.exec("UPDATE sandbox SET status = 'stopped'");
    EXPECT_EQ(error(),
              "database error: Type Error: unexpected value for SandboxStatus enum: stopped");
    home_.exec("UPDATE sandbox SET status = 'Running', updated_at = '2026-01-01'");
    EXPECT_EQ(error(),
              "database error: Query Error: error occurred while decoding column \"updated_at\": "
              "invalid datetime: 2026-01-01");
    for (const char* good :
         {"2026-01-01 10:00", "2026-01-01T10:00:00Z", "2026-01-01 10:00:00.5+02:00"}) {
        home_.exec(std::string("UPDATE sandbox SET updated_at = '") + good + "'");
        EXPECT_EQ(error(), "") << good;
    }
    home_.exec("UPDATE sandbox SET created_at = NULL, updated_at = NULL");
    EXPECT_FALSE(query_sandboxes(database_, {}).at(0).row.created_at);
    home_.exec(
        "INSERT INTO run (sandbox_id, status, termination_reason) VALUES (1, 'Running', 'Bogus')");
    EXPECT_EQ(error(),
              "database error: Type Error: unexpected value for TerminationReason enum: Bogus");
}

TEST_F(RowsTest, NewestRunWins) {
    const auto id = add("web");
    home_.exec(
        "INSERT INTO run (sandbox_id, pid, status, started_at) VALUES "
        "(1, 10, 'Running', '2026-01-02 00:00:00'), (1, 11, 'Running', '2026-01-03 00:00:00'), "
        "(1, 12, 'Running', '2026-01-01 00:00:00'), (1, 13, 'Terminated', '2026-01-09 00:00:00')");
    EXPECT_EQ(latest_running_run(database_, id)->pid, 11);
    EXPECT_EQ(latest_run(database_, id)->pid, 13);
    EXPECT_EQ(query_sandboxes(database_, {}).at(0).running_run->pid, 11);
}

TEST_F(RowsTest, ImpossiblePidsReadAsNone) {
    const auto id = add("web");
    home_.exec("INSERT INTO run (sandbox_id, pid, status) VALUES (1, -1, 'Running')");
    EXPECT_FALSE(latest_run(database_, id)->pid);
    EXPECT_FALSE(has_live_run(database_, id));
}

TEST_F(RowsTest, RootfsIsReplaced) {
    const auto id = add("web");
    replace_rootfs(database_, id, "sha256:aa");
    EXPECT_EQ(home_.query("SELECT manifest_id, mode, upper_fstype, root_disk_kind, root_disk_path "
                          "FROM sandbox_rootfs"),
              "NULL|erofs|ext4|managed|NULL");
    home_.exec("INSERT INTO manifest (digest) VALUES ('sha256:aa')");
    replace_rootfs(database_, id, "sha256:aa");
    EXPECT_EQ(home_.query("SELECT manifest_id FROM sandbox_rootfs"), "1");
}

TEST_F(RowsTest, Volumes) {
    VolumeRow disk;
    disk.name = "data";
    disk.kind = VolumeKind::kDisk;
    disk.capacity_bytes = 64ull << 20;
    disk.disk_format = "raw";
    disk.disk_fstype = "ext4";
    disk.labels = {{"k", "v"}};
    insert_volume(database_, disk);
    EXPECT_EQ(home_.query("SELECT name, quota_mib, size_bytes, labels, kind, capacity_bytes, "
                          "disk_format, disk_fstype FROM volume"),
              R"(data|NULL|NULL|[["k","v"]]|disk|67108864|raw|ext4)");
    EXPECT_EQ(get_volume(database_, "data").labels, disk.labels);
    EXPECT_EQ(error_of([&] { insert_volume(database_, disk); }), "volume already exists: data");
    EXPECT_EQ(error_of([&] { get_volume(database_, "x"); }), "volume not found: x");

    home_.exec("UPDATE volume SET kind = 'tape', labels = '{bad', disk_format = NULL");
    EXPECT_EQ(get_volume(database_, "data").kind, VolumeKind::kDirectory);
    EXPECT_EQ(get_volume(database_, "data").disk_format, "raw");
    EXPECT_TRUE(get_volume(database_, "data").labels.empty());

    const std::string config = R"({"mounts":[{"type":"Named","name":"data","guest":"/d"}]})";
    insert_starting(database_, "user", config, false, {});
    home_.exec("UPDATE sandbox SET status = 'Running'");
    EXPECT_EQ(error_of([&] { delete_volume(database_, "data"); }),
              "invalid config: volume \"data\" is attached to active sandbox \"user\"");
    home_.exec("UPDATE sandbox SET status = 'Starting'");  // does not block, as upstream has it
    delete_volume(database_, "data");
    EXPECT_TRUE(list_volumes(database_).empty());
}

TEST_F(RowsTest, MaintenanceLease) {
    EXPECT_TRUE(acquire_maintenance_lease(database_));
    EXPECT_FALSE(acquire_maintenance_lease(database_));  // held
    complete_maintenance_lease(database_);
    EXPECT_FALSE(acquire_maintenance_lease(database_));  // done a moment ago
    home_.exec(
        "UPDATE maintenance_lease SET last_completed_at = '2001-01-01 00:00:00', "
        "lease_expires_at = '2099-01-01 00:00:00' WHERE name = 'sandbox_lifecycle_maintenance'");
    EXPECT_FALSE(acquire_maintenance_lease(database_));
    home_.exec(
        "UPDATE maintenance_lease SET lease_expires_at = '2001-01-01 00:00:00' "
        "WHERE name = 'sandbox_lifecycle_maintenance'");
    EXPECT_TRUE(acquire_maintenance_lease(database_));
    EXPECT_NE(home_.query("SELECT holder_pid FROM maintenance_lease WHERE name = "
                          "'sandbox_lifecycle_maintenance'"),
              "NULL");
}

}  // namespace
}  // namespace msb::state
