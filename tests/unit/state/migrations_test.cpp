// Databases of every older version become the newest (spec/state.md section 4, checks 2 and 5 of section 13).
#include <gtest/gtest.h>

#include "base/error.h"
#include "fixture.h"
#include "old_databases.h"

namespace msb::state {
namespace {

using test::create_old_database;
using test::describe_schema;
using test::error_of;
using test::TempHome;

class EveryVersion : public ::testing::TestWithParam<std::size_t> {};

TEST_P(EveryVersion, BecomesStructurallyFresh) {
    TempHome fresh, old;
    fresh.open();
    create_old_database(old, GetParam());
    old.exec("DELETE FROM maintenance_lease");
    if (GetParam() < 25) {
        EXPECT_NE(old.query("SELECT count(*) FROM seaql_migrations"), "25");
    }
    old.open();
    EXPECT_EQ(describe_schema(old.paths().database()), describe_schema(fresh.paths().database()));
    EXPECT_EQ(old.query("SELECT version FROM seaql_migrations ORDER BY rowid"),
              fresh.query("SELECT version FROM seaql_migrations ORDER BY rowid"));
    EXPECT_EQ(old.query("SELECT name, holder_pid FROM maintenance_lease"),
              "install_exclusive|NULL");
    EXPECT_EQ(old.query("PRAGMA foreign_key_check"), "");
    EXPECT_EQ(old.query("PRAGMA integrity_check"), "ok");
}

INSTANTIATE_TEST_SUITE_P(Prefixes, EveryVersion, ::testing::Range<std::size_t>(13, 26));

TEST(Migrations, FreshSchemaIsTheOneOfTheSpecification) {
    TempHome home;
    home.open();
    const std::string schema = describe_schema(home.paths().database());
    for (const char* line : {
             "column sandbox.network_slot INTEGER 0 - 0",
             "column sandbox.ephemeral BOOLEAN 1 FALSE 0",
             "column sandbox_rootfs.root_disk_kind TEXT 1 'MANAGED' 0",
             "column cpu_allocation_cpu.vcpu_index INTEGER 1 - 2",
             "index sandbox idx_sandbox_network_slot_unique unique=1 partial=1 on network_slot",
             "index sandbox_labels idx_sandbox_labels_key_value unique=0 partial=0 on key,value",
             "index snapshot_artifact_migration u unique=1 partial=0 on kind,artifact_path",
             "key run sandbox_id -> sandbox.id NO ACTION CASCADE",
             "key sandbox_rootfs manifest_id -> manifest.id NO ACTION RESTRICT",
             "key volume_attach sandbox_id -> sandbox.id NO ACTION SET NULL",
             "autoincrement sandbox",
         })
        EXPECT_NE(schema.find(line), std::string::npos) << line;
    // writeback_allocation.run_id is deliberately no foreign key.
    EXPECT_EQ(schema.find("key writeback_allocation"), std::string::npos);
}

TEST(Migrations, DocumentsAreRewritten) {
    TempHome home;
    create_old_database(home, 13);
    home.exec(
        R"sql(INSERT INTO sandbox (name, config, status) VALUES
            ('bind', '{"name":"bind","image":{"Bind":"/srv"},"zz":1}', 'Stopped'),
            ('lower', '{"image":{"bind":"/a","Bind":"/b"}}', 'Stopped'),
            ('sized', '{"image":{"Oci":{"reference":"r","upper_size_mib":77}}}', 'Stopped'),
            ('null', '{"image":{"Oci":{"reference":"r","upper_size_mib":null}}}', 'Stopped'),
            ('kept', '{ "image": {"Oci":{"upper_size_mib":5,"root_disk":{"kind":"tmpfs"}}}}', 'Stopped'))sql");
    home.open();
    EXPECT_EQ(
        home.query("SELECT config FROM sandbox ORDER BY id"),
        R"({"name":"bind","image":{"Bind":{"path":"/srv","follow_root_symlinks":false}},"zz":1}
{"image":{"bind":{"path":"/a","follow_root_symlinks":false},"Bind":"/b"}}
{"image":{"Oci":{"reference":"r","root_disk":{"kind":"managed","size_mib":77}}}}
{"image":{"Oci":{"reference":"r"}}}
{ "image": {"Oci":{"upper_size_mib":5,"root_disk":{"kind":"tmpfs"}}}})");
}

TEST(Migrations, ActiveDocumentsAreRewrittenToo) {
    TempHome home;
    create_old_database(home, 14);
    home.exec(
        R"sql(INSERT INTO sandbox (name, config, status, active_config) VALUES
            ('a', '{}', 'Stopped', '{"image":{"Bind":"/srv"}}'))sql");
    home.open();
    EXPECT_EQ(home.query("SELECT active_config FROM sandbox"),
              R"({"image":{"Bind":{"path":"/srv","follow_root_symlinks":false}}})");
}

TEST(Migrations, UnparsableDocumentFailsTheOpenAndStaysRetryable) {
    TempHome home;
    create_old_database(home, 13);
    home.exec("INSERT INTO sandbox (name, config, status) VALUES ('a', 'not json', 'Stopped')");
    EXPECT_NE(error_of([&] { home.open(); }).find("parse sandbox config JSON: "),
              std::string::npos);
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "14");  // what went before stays
    home.exec("UPDATE sandbox SET config = '{}'");
    EXPECT_EQ(error_of([&] { home.open(); }), "");
    EXPECT_EQ(home.query("SELECT count(*) FROM seaql_migrations"), "25");
}

TEST(Migrations, LabelsAreRebuiltFromTheDocuments) {
    TempHome home;
    create_old_database(home, 21);
    home.exec(
        R"sql(INSERT INTO sandbox (name, config, status) VALUES
            ('a', '{"labels":{"x":"1","y":""}}', 'Stopped'), ('b', '{}', 'Stopped');
            INSERT INTO sandbox_labels VALUES (1, 'stale', 'z'), (2, 'stale', 'z'))sql");
    home.open();
    EXPECT_EQ(home.query("SELECT * FROM sandbox_labels ORDER BY key"), "1|x|1\n1|y|");

    TempHome bad;
    create_old_database(bad, 21);
    bad.exec(
        R"sql(INSERT INTO sandbox (name, config, status) VALUES
            ('a', '{"labels":{"x":"1"}}', 'Stopped'), ('b', '{"labels":{"x":1}}', 'Stopped'))sql");
    EXPECT_EQ(error_of([&] { bad.open(); }),
              "database error: Custom Error: rebuild labels for sandbox id 2: Custom Error: parse "
              "sandbox config JSON: label \"x\" must have a string value");
    EXPECT_EQ(bad.query("SELECT count(*) FROM sandbox_labels"), "0");  // all or nothing
}

TEST(Migrations, CpuAllocationsBecomeShareable) {
    TempHome home;
    create_old_database(home, 22);
    home.exec(
        R"sql(INSERT INTO sandbox (name, config, status) VALUES ('a', '{}', 'Running');
            INSERT INTO run (sandbox_id, status) VALUES (1, 'Running');
            INSERT INTO cpu_allocation VALUES ('id', 1, 'auto', 'auto', 'pending', 'f', 'id.lock',
                'active', '2026-01-01 00:00:00');
            INSERT INTO cpu_allocation_cpu VALUES (4, 'id', 0, 'planned'), (5, 'id', NULL, 'x'))sql");
    home.open();
    EXPECT_EQ(
        home.query("SELECT allocation_id, vcpu_index, logical_cpu, role FROM cpu_allocation_cpu"),
        "id|0|4|assigned");
}

TEST(Migrations, SnapshotIndexIsCopied) {
    TempHome home;
    create_old_database(home, 16);
    home.exec(
        "INSERT INTO snapshot_index VALUES ('sha256:aa', 'n', NULL, 'ref', 'sha256:bb', 'raw', "
        "'ext4', '/x', 5, '2026-01-01 00:00:00', '2026-01-02 00:00:00', 3)");
    home.open();
    EXPECT_EQ(home.query("SELECT digest, scope, state_kind, locality, availability, "
                         "migration_state, child_count FROM snapshot_index"),
              "sha256:aa|disk|file|embedded|ready|canonical|3");
}

// spec/state.md check 5.
TEST(Migrations, LiveSandboxesGetTheirIdAsSlot) {
    TempHome home;
    create_old_database(home, 23);
    home.exec(
        R"sql(INSERT INTO sandbox (id, name, config, status) VALUES (1, 'a', '{}', 'Created'),
            (2, 'b', '{}', 'Starting'), (3, 'c', '{}', 'Running'), (6, 'd', '{}', 'Stopped'),
            (70000, 'e', '{}', 'Running'))sql");
    home.open();
    EXPECT_EQ(home.query("SELECT network_slot FROM sandbox ORDER BY id"), "NULL\n2\n3\nNULL\nNULL");
}

TEST(Migrations, EffectWithoutRecordIsTolerated) {
    // Upstream records a migration after running it, outside of a transaction: killed in between, the column exists.
    TempHome home;
    create_old_database(home, 13);
    home.exec("ALTER TABLE sandbox ADD COLUMN active_config TEXT");
    EXPECT_EQ(error_of([&] { home.open(); }), "");
}

}  // namespace
}  // namespace msb::state
