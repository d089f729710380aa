#include "state/schema.h"

#include "state/sql.h"

namespace msb::state {

namespace {

// The whole of spec/state.md section 5. Order matters only for the reader: SQLite resolves references lazily.
constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS seaql_migrations (version VARCHAR NOT NULL PRIMARY KEY, applied_at INTEGER NOT NULL);
CREATE TABLE sandbox (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at DATETIME_TEXT, updated_at DATETIME_TEXT,
    ephemeral BOOLEAN NOT NULL DEFAULT FALSE,
    active_config TEXT,
    network_slot INTEGER CHECK (network_slot IS NULL OR
    (typeof(network_slot) = 'integer' AND network_slot BETWEEN 1 AND 65535)));
CREATE INDEX idx_sandbox_ephemeral_status ON sandbox (ephemeral, status);
CREATE UNIQUE INDEX idx_sandbox_network_slot_unique ON sandbox (network_slot) WHERE network_slot IS NOT NULL;
CREATE TABLE run (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sandbox_id INTEGER NOT NULL REFERENCES sandbox (id) ON DELETE CASCADE,
    pid INTEGER, status TEXT NOT NULL, exit_code INTEGER, exit_signal INTEGER,
    termination_reason TEXT, termination_detail TEXT, signals_sent TEXT,
    started_at DATETIME_TEXT, terminated_at DATETIME_TEXT);
CREATE TABLE sandbox_labels (
    sandbox_id INTEGER NOT NULL REFERENCES sandbox (id) ON DELETE CASCADE,
    key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (sandbox_id, key));
CREATE INDEX idx_sandbox_labels_sandbox_id ON sandbox_labels (sandbox_id);
CREATE INDEX idx_sandbox_labels_key_value ON sandbox_labels (key, value);
CREATE TABLE volume (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
    quota_mib INTEGER, size_bytes INTEGER, labels TEXT,
    created_at DATETIME_TEXT, updated_at DATETIME_TEXT,
    kind TEXT NOT NULL DEFAULT 'dir', capacity_bytes INTEGER, disk_format TEXT, disk_fstype TEXT);
CREATE TABLE volume_attach (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    volume_id INTEGER NOT NULL REFERENCES volume (id) ON DELETE CASCADE,
    sandbox_id INTEGER REFERENCES sandbox (id) ON DELETE SET NULL,
    pid INTEGER NOT NULL, mode TEXT NOT NULL, created_at DATETIME_TEXT NOT NULL);
CREATE INDEX idx_volume_attach_volume_id ON volume_attach (volume_id);
CREATE TABLE manifest (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE,
    media_type TEXT, config_digest TEXT, architecture TEXT, os TEXT, variant TEXT,
    layer_count INTEGER, total_size_bytes INTEGER, created_at DATETIME_TEXT);
CREATE TABLE image_ref (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, reference TEXT NOT NULL UNIQUE,
    manifest_id INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    created_at DATETIME_TEXT, updated_at DATETIME_TEXT);
CREATE TABLE config (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    manifest_id INTEGER NOT NULL UNIQUE REFERENCES manifest (id) ON DELETE CASCADE,
    digest TEXT NOT NULL, env TEXT, cmd TEXT, entrypoint TEXT, working_dir TEXT,
    "user" TEXT, labels TEXT, stop_signal TEXT, created_at DATETIME_TEXT);
CREATE TABLE layer (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, diff_id TEXT NOT NULL UNIQUE,
    blob_digest TEXT NOT NULL, media_type TEXT, compressed_size_bytes INTEGER,
    erofs_size_bytes INTEGER, created_at DATETIME_TEXT, last_used_at DATETIME_TEXT);
CREATE TABLE manifest_layer (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    manifest_id INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    layer_id INTEGER NOT NULL REFERENCES layer (id) ON DELETE RESTRICT,
    position INTEGER NOT NULL);
CREATE UNIQUE INDEX idx_manifest_layers_manifest_position ON manifest_layer (manifest_id, position);
CREATE TABLE sandbox_rootfs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sandbox_id INTEGER NOT NULL UNIQUE REFERENCES sandbox (id) ON DELETE CASCADE,
    manifest_id INTEGER REFERENCES manifest (id) ON DELETE RESTRICT,
    mode TEXT NOT NULL, upper_fstype TEXT, created_at DATETIME_TEXT,
    root_disk_kind TEXT NOT NULL DEFAULT 'managed', root_disk_path TEXT);
CREATE TABLE maintenance_lease (
    name TEXT NOT NULL PRIMARY KEY, holder_pid INTEGER,
    lease_expires_at DATETIME_TEXT NOT NULL, last_completed_at DATETIME_TEXT);
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
CREATE UNIQUE INDEX idx_snapshot_index_name ON snapshot_index (name) WHERE name IS NOT NULL;
CREATE INDEX idx_snapshot_index_parent ON snapshot_index (parent_digest);
CREATE INDEX idx_snapshot_index_image ON snapshot_index (image_manifest_digest);
CREATE TABLE snapshot_artifact_migration (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, artifact_path TEXT NOT NULL,
    indexed_digest TEXT, source_digest TEXT, target_digest TEXT,
    source_parent_digest TEXT, target_parent_digest TEXT,
    payload_integrity TEXT, payload_size BIGINT, payload_file_identity TEXT,
    phase TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, error_code TEXT, error_detail TEXT,
    discovered_at DATETIME NOT NULL, updated_at DATETIME NOT NULL, completed_at DATETIME,
    recovery_member TEXT, translation_source TEXT, UNIQUE (kind, artifact_path));
CREATE INDEX idx_snapshot_artifact_migration_source ON snapshot_artifact_migration (kind, source_digest);
CREATE TABLE cpu_allocation (
    id TEXT NOT NULL PRIMARY KEY,
    run_id INTEGER NOT NULL UNIQUE REFERENCES run (id) ON DELETE CASCADE,
    requested_policy TEXT NOT NULL, resolved_policy TEXT NOT NULL, enforcement TEXT NOT NULL,
    topology_fingerprint TEXT NOT NULL, lease_name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL, created_at DATETIME_TEXT NOT NULL);
CREATE TABLE cpu_allocation_cpu (
    allocation_id TEXT NOT NULL REFERENCES cpu_allocation (id) ON DELETE CASCADE,
    vcpu_index INTEGER NOT NULL, logical_cpu INTEGER NOT NULL, role TEXT NOT NULL,
    PRIMARY KEY (allocation_id, vcpu_index));
CREATE INDEX idx_cpu_allocation_cpu_logical ON cpu_allocation_cpu (logical_cpu);
CREATE TABLE memory_allocation_node (
    allocation_id TEXT NOT NULL REFERENCES cpu_allocation (id) ON DELETE CASCADE,
    guest_numa_node INTEGER NOT NULL, host_numa_node INTEGER NOT NULL,
    boot_mib INTEGER NOT NULL, max_mib INTEGER NOT NULL,
    PRIMARY KEY (allocation_id, guest_numa_node));
CREATE INDEX idx_memory_allocation_node_host ON memory_allocation_node (host_numa_node);
CREATE TABLE writeback_allocation (
    id TEXT NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL UNIQUE, lease_name TEXT NOT NULL UNIQUE,
    per_disk_limit_bytes INTEGER NOT NULL, disk_count INTEGER NOT NULL,
    reserved_bytes INTEGER NOT NULL, pool_bytes INTEGER NOT NULL,
    boot_id TEXT NOT NULL, backing_devices TEXT NOT NULL, created_at DATETIME_TEXT NOT NULL);
)sql";

}  // namespace

void create_full_schema(SQLite::Database& connection) {
    connection.exec(kSchema);
}

}  // namespace msb::state
