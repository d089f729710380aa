// Upgrading older databases. What each step does to a row follows spec/state.md section 4; the result of all of them is
// structurally what create_full_schema() makes (tests compare the two).
//
// Every step checks for what it is about to create: upstream records a migration only after it ran and outside of a
// transaction, so a database of a killed upstream process may already show the effect without the record.
#include <array>
#include <functional>

#include "base/json.h"
#include "base/time.h"
#include "state/schema.h"
#include "state/sql.h"

namespace msb::state {

namespace {

struct Migration {
    std::string_view id;
    void (*apply)(
        SQLite::Database&);  // nullptr: part of the 0.6.0 baseline, or a marker without effect
};

bool table_exists(SQLite::Database& connection, const char* table) {
    SQLite::Statement query(connection,
                            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?");
    query.bind(1, table);
    return query.executeStep();
}

bool column_exists(SQLite::Database& connection, const char* table, const char* column) {
    SQLite::Statement query(connection, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?");
    query.bind(1, table);
    query.bind(2, column);
    return query.executeStep();
}

void add_column(SQLite::Database& connection, const char* table, const char* column,
                const char* declaration) {
    if (column_exists(connection, table, column)) return;
    connection.exec(std::string("ALTER TABLE ") + table + " ADD COLUMN " + column + " " +
                    declaration);
}

[[noreturn]] void custom_error(const std::string& text) {
    throw Error(ErrorCode::kDatabase, "Custom Error: " + text);
}

json::Value parse_config(const std::string& text) {
    try {
        return json::parse(text);
    } catch (const json::ParseError& error) {
        custom_error(std::string("parse sandbox config JSON: ") + error.what());
    }
}

// Calls `edit` for every non-NULL document in `column` and stores those it changed (returned true for).
void rewrite_documents(SQLite::Database& connection, const std::string& column,
                       bool (*edit)(json::Value&)) {
    SQLite::Statement rows(connection, "SELECT id, " + column + " FROM sandbox WHERE " + column +
                                           " IS NOT NULL ORDER BY id");
    SQLite::Statement update(connection, "UPDATE sandbox SET " + column + " = ? WHERE id = ?");
    while (rows.executeStep()) {
        json::Value document = parse_config(rows.getColumn(1).getString());
        if (!edit(document)) continue;
        update.bind(1, json::dump(document));
        update.bind(2, rows.getColumn(0).getInt64());
        update.exec();
        update.reset();
    }
}

// document.image[variant] when all of it is there.
json::Value* image_variant(json::Value& document, const char* variant) {
    if (!document.is_object()) return nullptr;
    auto image = document.find("image");
    if (image == document.end() || !image->is_object()) return nullptr;
    auto found = image->find(variant);
    return found == image->end() ? nullptr : &*found;
}

bool expand_oci_source(json::Value& document) {
    json::Value* oci = image_variant(document, "Oci");
    if (oci == nullptr || !oci->is_string()) return false;
    json::Value expanded = json::Value::object();
    expanded["reference"] = *oci;
    expanded["upper_size_mib"] = 4096;
    *oci = std::move(expanded);
    return true;
}

bool expand_bind_source(json::Value& document) {
    json::Value* bind = image_variant(document, "bind");
    if (bind == nullptr) bind = image_variant(document, "Bind");
    if (bind == nullptr || !bind->is_string()) return false;
    json::Value expanded = json::Value::object();
    expanded["path"] = *bind;
    expanded["follow_root_symlinks"] = false;
    *bind = std::move(expanded);
    return true;
}

bool move_upper_size(json::Value& document) {
    json::Value* oci = image_variant(document, "Oci");
    if (oci == nullptr || !oci->is_object() || oci->contains("root_disk")) return false;
    auto size = oci->find("upper_size_mib");
    if (size == oci->end()) return false;
    json::Value value = std::move(*size);
    oci->erase(size);
    if (!value.is_null()) {
        json::Value disk = json::Value::object();
        disk["kind"] = "managed";
        disk["size_mib"] = std::move(value);
        (*oci)["root_disk"] = std::move(disk);
    }
    return true;
}

void migrate_oci_source(SQLite::Database& connection) {
    rewrite_documents(connection, "config", expand_oci_source);
}

void add_active_config(SQLite::Database& connection) {
    add_column(connection, "sandbox", "active_config", "TEXT");
}

void migrate_bind_source(SQLite::Database& connection) {
    rewrite_documents(connection, "config", expand_bind_source);
    rewrite_documents(connection, "active_config", expand_bind_source);
}

void migrate_root_disk(SQLite::Database& connection) {
    add_column(connection, "sandbox_rootfs", "root_disk_kind", "TEXT NOT NULL DEFAULT 'managed'");
    add_column(connection, "sandbox_rootfs", "root_disk_path", "TEXT");
    rewrite_documents(connection, "config", move_upper_size);
    rewrite_documents(connection, "active_config", move_upper_size);
}

void add_snapshot_scope(SQLite::Database& connection) {
    add_column(connection, "snapshot_index", "scope", "TEXT NOT NULL DEFAULT 'disk'");
}

void rebuild_snapshot_index(SQLite::Database& connection) {
    if (!column_exists(connection, "snapshot_index", "state_kind")) {
        connection.exec(R"sql(
            DROP INDEX IF EXISTS idx_snapshot_index_name;
            DROP INDEX IF EXISTS idx_snapshot_index_parent;
            DROP INDEX IF EXISTS idx_snapshot_index_image;
            ALTER TABLE snapshot_index RENAME TO snapshot_index_before;
            CREATE TABLE snapshot_index (
                digest TEXT NOT NULL PRIMARY KEY, name TEXT, parent_digest TEXT,
                scope TEXT NOT NULL, state_kind TEXT NOT NULL,
                image_ref TEXT NOT NULL, image_manifest_digest TEXT NOT NULL,
                format TEXT, fstype TEXT, checkpoint_manifest_digest TEXT,
                artifact_path TEXT NOT NULL, size_bytes BIGINT,
                locality TEXT NOT NULL DEFAULT 'embedded', storage_binding_id TEXT,
                availability TEXT NOT NULL DEFAULT 'ready',
                migration_state TEXT NOT NULL DEFAULT 'canonical', migration_error_code TEXT,
                created_at DATETIME NOT NULL, indexed_at DATETIME NOT NULL,
                child_count INTEGER NOT NULL DEFAULT 0);
            INSERT INTO snapshot_index (digest, name, parent_digest, scope, state_kind, image_ref,
                    image_manifest_digest, format, fstype, artifact_path, size_bytes, created_at,
                    indexed_at, child_count)
                SELECT digest, name, parent_digest, scope, 'file', image_ref,
                    image_manifest_digest, format, fstype, artifact_path, size_bytes, created_at,
                    indexed_at, child_count
                FROM snapshot_index_before;
            DROP TABLE snapshot_index_before;
            CREATE UNIQUE INDEX idx_snapshot_index_name ON snapshot_index (name)
                WHERE name IS NOT NULL;
            CREATE INDEX idx_snapshot_index_parent ON snapshot_index (parent_digest);
            CREATE INDEX idx_snapshot_index_image ON snapshot_index (image_manifest_digest);
        )sql");
    }
    connection.exec(R"sql(
        CREATE TABLE IF NOT EXISTS snapshot_artifact_migration (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,
            artifact_path TEXT NOT NULL,
            indexed_digest TEXT, source_digest TEXT, target_digest TEXT,
            source_parent_digest TEXT, target_parent_digest TEXT,
            payload_integrity TEXT, payload_size BIGINT, payload_file_identity TEXT,
            phase TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
            error_code TEXT, error_detail TEXT,
            discovered_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, completed_at DATETIME,
            recovery_member TEXT, translation_source TEXT, UNIQUE (kind, artifact_path));
        CREATE INDEX IF NOT EXISTS idx_snapshot_artifact_migration_source
            ON snapshot_artifact_migration (kind, source_digest);
    )sql");
}

void create_cpu_allocations(SQLite::Database& connection) {
    connection.exec(R"sql(
        CREATE TABLE IF NOT EXISTS cpu_allocation (
            id TEXT NOT NULL PRIMARY KEY,
            run_id INTEGER NOT NULL UNIQUE REFERENCES run (id) ON DELETE CASCADE,
            requested_policy TEXT NOT NULL, resolved_policy TEXT NOT NULL,
            enforcement TEXT NOT NULL, topology_fingerprint TEXT NOT NULL,
            lease_name TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
            created_at DATETIME_TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS cpu_allocation_cpu (
            logical_cpu INTEGER NOT NULL PRIMARY KEY,
            allocation_id TEXT NOT NULL REFERENCES cpu_allocation (id) ON DELETE CASCADE,
            vcpu_index INTEGER, role TEXT NOT NULL);
        CREATE UNIQUE INDEX IF NOT EXISTS idx_cpu_allocation_cpu_vcpu
            ON cpu_allocation_cpu (allocation_id, vcpu_index);
    )sql");
}

void create_writeback_allocations(SQLite::Database& connection) {
    connection.exec(R"sql(
        CREATE TABLE IF NOT EXISTS writeback_allocation (
            id TEXT NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL UNIQUE,
            lease_name TEXT NOT NULL UNIQUE,
            per_disk_limit_bytes INTEGER NOT NULL, disk_count INTEGER NOT NULL,
            reserved_bytes INTEGER NOT NULL, pool_bytes INTEGER NOT NULL,
            boot_id TEXT NOT NULL, backing_devices TEXT NOT NULL,
            created_at DATETIME_TEXT NOT NULL);
    )sql");
}

void create_memory_allocation_nodes(SQLite::Database& connection) {
    connection.exec(R"sql(
        CREATE TABLE IF NOT EXISTS memory_allocation_node (
            allocation_id TEXT NOT NULL REFERENCES cpu_allocation (id) ON DELETE CASCADE,
            guest_numa_node INTEGER NOT NULL, host_numa_node INTEGER NOT NULL,
            boot_mib INTEGER NOT NULL, max_mib INTEGER NOT NULL,
            PRIMARY KEY (allocation_id, guest_numa_node));
        CREATE INDEX IF NOT EXISTS idx_memory_allocation_node_host
            ON memory_allocation_node (host_numa_node);
    )sql");
}

// The labels of one document, in document order. The texts are upstream's.
std::vector<std::pair<std::string, std::string>> labels_of(const std::string& config) {
    const json::Value document = parse_config(config);
    std::vector<std::pair<std::string, std::string>> labels;
    if (!document.is_object()) return labels;
    auto found = document.find("labels");
    if (found == document.end()) return labels;
    if (!found->is_object()) custom_error("parse sandbox config JSON: labels must be an object");
    for (const auto& [key, value] : found->items()) {
        if (!value.is_string())
            custom_error("parse sandbox config JSON: label \"" + key +
                         "\" must have a string value");
        labels.emplace_back(key, value.get<std::string>());
    }
    return labels;
}

void rebuild_labels(SQLite::Database& connection) {
    connection.exec("DELETE FROM sandbox_labels");
    SQLite::Statement rows(connection, "SELECT id, config FROM sandbox ORDER BY id");
    SQLite::Statement insert(
        connection, "INSERT INTO sandbox_labels (sandbox_id, key, value) VALUES (?, ?, ?)");
    while (rows.executeStep()) {
        const std::int64_t id = rows.getColumn(0).getInt64();
        try {
            for (const auto& [key, value] : labels_of(sql::text(rows.getColumn(1)))) {
                insert.bind(1, id);
                insert.bind(2, key);
                insert.bind(3, value);
                insert.exec();
                insert.reset();
            }
        } catch (const Error& error) {
            custom_error("rebuild labels for sandbox id " + std::to_string(id) + ": " +
                         error.detail());
        }
    }
}

void share_cpu_allocations(SQLite::Database& connection) {
    connection.exec(R"sql(
        ALTER TABLE cpu_allocation_cpu RENAME TO cpu_allocation_cpu_before;
        CREATE TABLE cpu_allocation_cpu (
            allocation_id TEXT NOT NULL REFERENCES cpu_allocation (id) ON DELETE CASCADE,
            vcpu_index INTEGER NOT NULL, logical_cpu INTEGER NOT NULL, role TEXT NOT NULL,
            PRIMARY KEY (allocation_id, vcpu_index));
        INSERT INTO cpu_allocation_cpu (allocation_id, vcpu_index, logical_cpu, role)
            SELECT allocation_id, vcpu_index, logical_cpu, 'assigned'
            FROM cpu_allocation_cpu_before WHERE vcpu_index IS NOT NULL;
        DROP TABLE cpu_allocation_cpu_before;
        CREATE INDEX idx_cpu_allocation_cpu_logical ON cpu_allocation_cpu (logical_cpu);
    )sql");
}

void add_network_slot(SQLite::Database& connection) {
    const bool existed = column_exists(connection, "sandbox", "network_slot");
    add_column(connection, "sandbox", "network_slot",
               "INTEGER CHECK (network_slot IS NULL OR (typeof(network_slot) = 'integer' AND "
               "network_slot BETWEEN 1 AND 65535))");
    if (!existed)
        connection.exec(
            "UPDATE sandbox SET network_slot = id WHERE status IN "
            "('Starting', 'Running', 'Draining', 'Paused') AND id BETWEEN 1 AND 65535");
    connection.exec(
        "CREATE UNIQUE INDEX IF NOT EXISTS idx_sandbox_network_slot_unique "
        "ON sandbox (network_slot) WHERE network_slot IS NOT NULL");
}

// Canonical order; not lexicographic (18/19 and 24/25).
constexpr std::array kMigrations = {
    Migration{"m20260305_000001_create_image_tables", nullptr},
    Migration{"m20260305_000002_create_sandbox_tables", nullptr},
    Migration{"m20260305_000003_create_storage_tables", nullptr},
    Migration{"m20260305_000004_create_sandbox_images_table", nullptr},
    Migration{"m20260410_000001_erofs_image_schema", nullptr},
    Migration{"m20260501_000001_create_snapshot_index", nullptr},
    Migration{"m20260517_000001_drop_sandbox_metric", nullptr},
    Migration{"m20260527_000001_migrate_oci_rootfs_source", migrate_oci_source},
    Migration{"m20260531_000001_create_sandbox_labels", nullptr},
    Migration{"m20260531_000002_index_sandbox_labels_key_value", nullptr},
    Migration{"m20260606_000001_named_volume_kinds", nullptr},
    Migration{"m20260621_000001_add_sandbox_ephemeral", nullptr},
    Migration{"m20260621_000002_create_maintenance_lease", nullptr},
    Migration{"m20260703_000001_add_sandbox_active_config", add_active_config},
    Migration{"m20260708_000001_migrate_bind_rootfs_source", migrate_bind_source},
    Migration{"m20260710_000001_migrate_root_disk", migrate_root_disk},
    Migration{"m20260714_000001_add_snapshot_scope", add_snapshot_scope},
    Migration{"m20260723_000001_snapshot_artifact_transition", rebuild_snapshot_index},
    Migration{"m20260719_000001_create_cpu_allocations", create_cpu_allocations},
    Migration{"m20260803_000001_create_writeback_allocations", create_writeback_allocations},
    Migration{"m20260808_000001_create_memory_allocation_nodes", create_memory_allocation_nodes},
    Migration{"m20260810_000001_rebuild_sandbox_labels", rebuild_labels},
    Migration{"m20260813_000001_share_cpu_allocations", share_cpu_allocations},
    Migration{"m20260824_000001_mount_owner_config", nullptr},
    Migration{"m20260818_000001_sandbox_network_slot", add_network_slot},
};

void record(SQLite::Database& connection, std::string_view id) {
    SQLite::Statement insert(connection,
                             "INSERT INTO seaql_migrations (version, applied_at) VALUES (?, ?)");
    sql::bind_text(insert, 1, id);
    insert.bind(2, wall_clock_ns() / 1'000'000'000);
    insert.exec();
}

void in_transaction(SQLite::Database& connection, const std::function<void()>& body) {
    connection.exec("BEGIN IMMEDIATE");
    try {
        body();
        connection.exec("COMMIT");
    } catch (...) {
        // SQLite may have rolled back by itself already (disk full, I/O error).
        connection.tryExec("ROLLBACK");
        throw;
    }
}

bool has_any_table(SQLite::Database& connection) {
    SQLite::Statement query(
        connection,
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND "
        "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> 'seaql_migrations'");
    return query.executeStep();
}

}  // namespace

const std::vector<std::string_view>& migration_ids() {
    static const std::vector<std::string_view> ids = [] {
        std::vector<std::string_view> list;
        list.reserve(kMigrations.size());
        for (const Migration& migration : kMigrations)
            list.push_back(migration.id);
        return list;
    }();
    return ids;
}

std::set<std::string> applied_migrations(SQLite::Database& connection) {
    std::set<std::string> applied;
    if (!table_exists(connection, "seaql_migrations")) return applied;
    SQLite::Statement query(connection, "SELECT version FROM seaql_migrations");
    while (query.executeStep())
        applied.insert(query.getColumn(0).getString());
    return applied;
}

void check_schema(SQLite::Database& connection, const std::set<std::string>& applied) {
    const auto& ids = migration_ids();
    const std::size_t count = std::min(applied.size(), ids.size());
    const std::set<std::string_view> prefix(ids.begin(), ids.begin() + static_cast<long>(count));
    for (const std::string& id : applied) {
        if (!prefix.contains(id))
            throw Error(ErrorCode::kRuntime,
                        "database schema is newer than this msb binary; applied migration \"" + id +
                            "\" is not in this binary's migration prefix");
    }
    if (applied.empty() && has_any_table(connection))
        throw Error(ErrorCode::kRuntime,
                    "database has tables but no migration records; it was not created by "
                    "microsandbox, or is damaged");
    if (!applied.empty() && applied.size() < kBaselineMigrations)
        throw Error(ErrorCode::kRuntime,
                    "database schema is older than microsandbox 0.6.0 (" +
                        std::to_string(applied.size()) + " of " + std::to_string(ids.size()) +
                        " migrations applied); upgrade it with microsandbox 0.6 first");
}

void migrate(SQLite::Database& connection, const std::set<std::string>& applied) {
    if (applied.empty()) {
        in_transaction(connection, [&] {
            create_full_schema(connection);
            for (const Migration& migration : kMigrations)
                record(connection, migration.id);
        });
        return;
    }
    for (std::size_t i = applied.size(); i < kMigrations.size(); ++i) {
        in_transaction(connection, [&] {
            if (kMigrations[i].apply != nullptr) kMigrations[i].apply(connection);
            record(connection, kMigrations[i].id);
        });
    }
}

}  // namespace msb::state
