#include "old_databases.h"

#include <stdexcept>

namespace msb::state::test {

namespace {

// What undoes migration number `n`, counted from 1, on the schema that follows it.
const char* undo(std::size_t n) {
    switch (n) {
        case 25:
            return "DROP INDEX idx_sandbox_network_slot_unique;"
                   "ALTER TABLE sandbox DROP COLUMN network_slot;";
        case 24:
        case 22:
        case 15:
            return "";
        case 23:
            return "DROP TABLE cpu_allocation_cpu;"
                   "CREATE TABLE cpu_allocation_cpu (logical_cpu INTEGER NOT NULL PRIMARY KEY,"
                   " allocation_id TEXT NOT NULL REFERENCES cpu_allocation (id) ON DELETE CASCADE,"
                   " vcpu_index INTEGER, role TEXT NOT NULL);"
                   "CREATE UNIQUE INDEX idx_cpu_allocation_cpu_vcpu"
                   " ON cpu_allocation_cpu (allocation_id, vcpu_index);";
        case 21:
            return "DROP TABLE memory_allocation_node;";
        case 20:
            return "DROP TABLE writeback_allocation;";
        case 19:
            return "DROP TABLE cpu_allocation_cpu; DROP TABLE cpu_allocation;";
        case 18:
            return "DROP TABLE snapshot_artifact_migration; DROP TABLE snapshot_index;"
                   "CREATE TABLE snapshot_index (digest TEXT NOT NULL PRIMARY KEY, name TEXT,"
                   " parent_digest TEXT, image_ref TEXT NOT NULL,"
                   " image_manifest_digest TEXT NOT NULL, format TEXT NOT NULL,"
                   " fstype TEXT NOT NULL, artifact_path TEXT NOT NULL, size_bytes BIGINT,"
                   " created_at DATETIME NOT NULL, indexed_at DATETIME NOT NULL,"
                   " child_count INTEGER NOT NULL DEFAULT 0, scope TEXT NOT NULL DEFAULT 'disk');"
                   "CREATE UNIQUE INDEX idx_snapshot_index_name ON snapshot_index (name)"
                   " WHERE name IS NOT NULL;"
                   "CREATE INDEX idx_snapshot_index_parent ON snapshot_index (parent_digest);"
                   "CREATE INDEX idx_snapshot_index_image"
                   " ON snapshot_index (image_manifest_digest);";
        case 17:
            return "ALTER TABLE snapshot_index DROP COLUMN scope;";
        case 16:
            return "ALTER TABLE sandbox_rootfs DROP COLUMN root_disk_kind;"
                   "ALTER TABLE sandbox_rootfs DROP COLUMN root_disk_path;";
        case 14:
            return "ALTER TABLE sandbox DROP COLUMN active_config;";
        default:
            throw std::logic_error("no such old database");
    }
}

}  // namespace

void create_old_database(const TempHome& home, std::size_t migrations) {
    home.open();
    const auto& ids = migration_ids();
    for (std::size_t n = ids.size(); n > migrations; --n) {
        home.exec(undo(n));
        home.exec("DELETE FROM seaql_migrations WHERE version = '" + std::string(ids[n - 1]) + "'");
    }
}

}  // namespace msb::state::test
