#include "state/sandbox_rows.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/encoding.h"
#include "base/text.h"
#include "state/row_columns.h"
#include "state/sandbox_config.h"

namespace msb::state {

namespace {

constexpr std::array<std::string_view, 7> kStatuses = {"Created", "Starting", "Running", "Draining",
                                                       "Paused",  "Stopped",  "Crashed"};
constexpr int kMaxNetworkSlot = 65535;

void insert_labels(SQLite::Database& connection, std::int64_t id, const Labels& labels) {
    if (labels.empty()) return;
    SQLite::Statement insert(
        connection, "INSERT INTO sandbox_labels (sandbox_id, key, value) VALUES (?, ?, ?)");
    for (const auto& [key, value] : labels) {
        insert.bind(1, id);
        insert.bind(2, key);
        insert.bind(3, value);
        insert.exec();
        insert.reset();
    }
}

// One guarded status change; `set` may name further columns. The number of rows changed is the verdict.
bool change_status(Database& database, std::int64_t id, SandboxStatus status, std::string_view set,
                   std::string_view guard) {
    int changed = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement update(connection, "UPDATE sandbox SET status = ?, updated_at = ?" +
                                                 std::string(set) + " WHERE id = ?" +
                                                 std::string(guard));
        sql::bind_text(update, 1, to_string(status));
        update.bind(2, sql::now());
        update.bind(3, id);
        changed = update.exec();
    });
    return changed == 1;
}

// The smallest slot nobody has; rows of any status with a slot count.
int free_slot(SQLite::Database& connection) {
    SQLite::Statement query(connection,
                            "SELECT network_slot FROM sandbox WHERE network_slot IS NOT NULL "
                            "ORDER BY network_slot");
    int candidate = 1;
    while (query.executeStep() && query.getColumn(0).getInt() == candidate)
        ++candidate;
    return candidate;
}

template <class Bind>
std::optional<SandboxRow> find_one(Database& database, std::string_view condition, Bind bind) {
    std::optional<SandboxRow> row;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection, "SELECT " + std::string(kSandboxColumns) +
                                                " FROM sandbox s WHERE " + std::string(condition));
        bind(query);
        row.reset();
        if (query.executeStep()) row = read_sandbox(query);
    });
    return row;
}

// Sandboxes joined with their newest Running run in one statement. `tail` continues the WHERE clause.
template <class Bind>
std::vector<ListedSandbox> query_with_runs(Database& database, const std::string& tail, Bind bind) {
    // The run table has no index on sandbox_id: ranking it once beats looking it up per sandbox.
    static const std::string select =
        "WITH live AS (SELECT *, row_number() OVER (PARTITION BY sandbox_id "
        "ORDER BY started_at DESC, id DESC) AS place FROM run WHERE status = 'Running') SELECT " +
        std::string(kSandboxColumns) + ", " + std::string(kRunColumns) +
        " FROM sandbox s LEFT JOIN live r ON r.sandbox_id = s.id AND r.place = 1 AND s.status IN " +
        std::string(kReconcilableStatuses) + " WHERE 1";
    std::vector<ListedSandbox> rows;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement statement(connection, select + tail);
        bind(statement);
        rows.clear();
        while (statement.executeStep()) {
            ListedSandbox& listed = rows.emplace_back();
            listed.row = read_sandbox(statement);
            if (!statement.getColumn(kSandboxColumnCount).isNull())
                listed.running_run = read_run(statement, kSandboxColumnCount);
        }
    });
    return rows;
}

bool mounts_volume(const std::string& config, std::string_view volume) {
    try {
        const SandboxConfig parsed = parse_sandbox_config(config);
        return std::ranges::any_of(parsed.mounts, [&](const Mount& mount) {
            const auto* named = std::get_if<NamedMount>(&mount);
            return named != nullptr && named->name == volume;
        });
    } catch (const Error&) {
        return false;  // a document nobody can start from mounts nothing
    }
}

}  // namespace

std::string_view to_string(SandboxStatus status) {
    return kStatuses[static_cast<std::size_t>(status)];
}

std::optional<SandboxStatus> parse_sandbox_status(std::string_view text) {
    const auto found = std::ranges::find(kStatuses, text);
    if (found == kStatuses.end()) return std::nullopt;
    return static_cast<SandboxStatus>(found - kStatuses.begin());
}

bool is_active(SandboxStatus status) {
    return status == SandboxStatus::kStarting || status == SandboxStatus::kRunning ||
           status == SandboxStatus::kDraining || status == SandboxStatus::kPaused;
}

bool is_terminal(SandboxStatus status) {
    return status == SandboxStatus::kStopped || status == SandboxStatus::kCrashed;
}

SandboxRow read_sandbox(SQLite::Statement& statement, int first) {
    SandboxRow row;
    row.id = statement.getColumn(first).getInt64();
    row.name = sql::text(statement.getColumn(first + 1));
    row.config = sql::text(statement.getColumn(first + 2));
    const std::string status = sql::text(statement.getColumn(first + 3));
    const auto parsed = parse_sandbox_status(status);
    if (!parsed) sql::unexpected_enum("SandboxStatus", status);
    row.status = *parsed;
    row.created_at = sql::optional_timestamp(statement.getColumn(first + 4));
    row.updated_at = sql::optional_timestamp(statement.getColumn(first + 5));
    row.ephemeral = statement.getColumn(first + 6).getInt() != 0;
    row.active_config = sql::optional_text(statement.getColumn(first + 7));
    if (auto slot = sql::optional_integer(statement.getColumn(first + 8)))
        row.network_slot = static_cast<int>(*slot);
    return row;
}

std::int64_t insert_starting(Database& database, std::string_view name, std::string_view config,
                             bool ephemeral, const Labels& labels) {
    std::int64_t id = 0;
    database.write([&](SQLite::Database& connection) {
        const std::string now = sql::now();
        SQLite::Statement insert(
            connection,
            "INSERT INTO sandbox (name, config, status, created_at, updated_at, ephemeral) "
            "VALUES (?, ?, 'Starting', ?, ?, ?)");
        sql::bind_text(insert, 1, name);
        sql::bind_text(insert, 2, config);
        insert.bind(3, now);
        insert.bind(4, now);
        insert.bind(5, ephemeral ? 1 : 0);
        try {
            insert.exec();
        } catch (const SQLite::Exception& exception) {
            if (!sql::is_unique_violation(exception)) throw;
            sandbox_already_exists(name);
        }
        id = connection.getLastInsertRowid();
        insert_labels(connection, id, labels);
    });
    return id;
}

void sandbox_already_exists(std::string_view name) {
    throw Error(ErrorCode::kSandboxAlreadyExists,
                "sandbox '" + std::string(name) +
                    "' already exists; remove it, start the stopped sandbox, or recreate with "
                    ".replace()");
}

std::optional<SandboxRow> find_sandbox(Database& database, std::string_view name) {
    return find_one(database, "s.name = ?",
                    [&](SQLite::Statement& query) { sql::bind_text(query, 1, name); });
}

std::optional<SandboxRow> find_sandbox(Database& database, std::int64_t id) {
    return find_one(database, "s.id = ?", [&](SQLite::Statement& query) { query.bind(1, id); });
}

SandboxRow get_sandbox(Database& database, std::string_view name) {
    if (auto row = find_sandbox(database, name)) return std::move(*row);
    throw Error(ErrorCode::kSandboxNotFound, std::string(name));
}

SandboxRow get_sandbox_with_identity(Database& database, std::string_view name, std::int64_t id) {
    SandboxRow row = get_sandbox(database, name);
    check_identity(row, id);
    return row;
}

void check_identity(const SandboxRow& row, std::int64_t id) {
    if (row.id == id) return;
    throw Error(ErrorCode::kSandboxReplaced,
                "sandbox " + msb::quoted(row.name) +
                    " was replaced (expected identity local:" + std::to_string(id) + ", found " +
                    row.identity() + "); refusing stale lifecycle operation");
}

int claim_network_slot(Database& database, std::int64_t id) {
    int slot = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement query(connection,
                                "SELECT network_slot FROM sandbox WHERE id = ? AND status IN " +
                                    std::string(kActiveStatuses));
        query.bind(1, id);
        if (!query.executeStep())
            throw Error(ErrorCode::kRuntime,
                        "sandbox is no longer starting; refusing to claim a network slot");
        if (!query.getColumn(0).isNull()) {
            slot = query.getColumn(0).getInt();
            return;
        }
        slot = free_slot(connection);
        if (slot > kMaxNetworkSlot) throw Error(ErrorCode::kRuntime, "network slot pool exhausted");
        SQLite::Statement update(connection, "UPDATE sandbox SET network_slot = ? WHERE id = ?");
        update.bind(1, slot);
        update.bind(2, id);
        update.exec();
    });
    return slot;
}

bool mark_running(Database& database, std::int64_t id, std::string_view active_config) {
    int changed = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement update(connection,
                                 "UPDATE sandbox SET status = 'Running', active_config = ?, "
                                 "updated_at = ? WHERE id = ? AND status = 'Starting'");
        sql::bind_text(update, 1, active_config);
        update.bind(2, sql::now());
        update.bind(3, id);
        changed = update.exec();
    });
    return changed == 1;
}

bool mark_starting(Database& database, std::int64_t id) {
    return change_status(database, id, SandboxStatus::kStarting, "",
                         " AND status IN ('Created', 'Stopped', 'Crashed')");
}

bool mark_draining(Database& database, std::int64_t id) {
    return change_status(database, id, SandboxStatus::kDraining, "", " AND status = 'Running'");
}

void mark_start_failed(Database& database, std::int64_t id) {
    change_status(database, id, SandboxStatus::kStopped, ", active_config = NULL", "");
}

void mark_stopped(Database& database, std::int64_t id) {
    change_status(database, id, SandboxStatus::kStopped,
                  ", active_config = NULL, network_slot = NULL", "");
}

void replace_config(Database& database, std::int64_t id, std::string_view config,
                    const Labels& labels, const std::optional<std::string>& active_config) {
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement update(connection,
                                 "UPDATE sandbox SET config = ?, updated_at = ?, "
                                 "active_config = coalesce(?, active_config) WHERE id = ?");
        sql::bind_text(update, 1, config);
        update.bind(2, sql::now());
        sql::bind_optional(update, 3, active_config);
        update.bind(4, id);
        if (update.exec() == 0) return;
        SQLite::Statement clear(connection, "DELETE FROM sandbox_labels WHERE sandbox_id = ?");
        clear.bind(1, id);
        clear.exec();
        insert_labels(connection, id, labels);
    });
}

bool delete_sandbox(Database& database, std::int64_t id) {
    int deleted = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement statement(connection, "DELETE FROM sandbox WHERE id = ?");
        statement.bind(1, id);
        deleted = statement.exec();
    });
    return deleted == 1;
}

bool delete_ephemeral_sandbox(Database& database, std::int64_t id) {
    int deleted = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement statement(connection,
                                    "DELETE FROM sandbox WHERE id = ? AND ephemeral = 1 AND "
                                    "status IN ('Stopped', 'Crashed')");
        statement.bind(1, id);
        deleted = statement.exec();
    });
    return deleted == 1;
}

Labels sandbox_labels(Database& database, std::int64_t id) {
    Labels labels;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection,
                                "SELECT key, value FROM sandbox_labels WHERE sandbox_id = ?");
        query.bind(1, id);
        labels.clear();
        while (query.executeStep())
            labels[query.getColumn(0).getString()] = query.getColumn(1).getString();
    });
    return labels;
}

std::vector<std::string> active_sandboxes_mounting(Database& database, std::string_view volume) {
    std::vector<std::string> names;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection,
                                "SELECT name, config FROM sandbox WHERE status IN "
                                "('Running', 'Draining', 'Paused') ORDER BY id");
        names.clear();
        while (query.executeStep()) {
            if (mounts_volume(query.getColumn(1).getString(), volume))
                names.push_back(query.getColumn(0).getString());
        }
    });
    return names;
}

void replace_rootfs(Database& database, std::int64_t sandbox_id, std::string_view manifest_digest) {
    bool right = false;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement find(
            connection,
            "SELECT 1 FROM sandbox_rootfs r JOIN manifest m ON m.id = r.manifest_id "
            "WHERE r.sandbox_id = ? AND m.digest = ?");
        find.bind(1, sandbox_id);
        sql::bind_text(find, 2, manifest_digest);
        right = find.executeStep();
    });
    if (right) return;  // most starts
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement clear(connection, "DELETE FROM sandbox_rootfs WHERE sandbox_id = ?");
        clear.bind(1, sandbox_id);
        clear.exec();
        SQLite::Statement insert(
            connection,
            "INSERT INTO sandbox_rootfs (sandbox_id, manifest_id, mode, upper_fstype, created_at) "
            "VALUES (?, (SELECT id FROM manifest WHERE digest = ?), 'erofs', 'ext4', ?)");
        insert.bind(1, sandbox_id);
        sql::bind_text(insert, 2, manifest_digest);
        insert.bind(3, sql::now());
        insert.exec();
    });
}

std::vector<ListedSandbox> query_sandboxes(Database& database, const SandboxQuery& query) {
    std::string tail;
    for (std::size_t i = 0; i < query.labels.size(); ++i)
        tail +=
            " AND EXISTS (SELECT 1 FROM sandbox_labels l WHERE l.sandbox_id = s.id AND l.key = ? "
            "AND l.value = ?)";
    if (query.before_id) tail += " AND s.id < ?";
    tail += " ORDER BY s.id DESC";
    if (query.limit) tail += " LIMIT ?";
    return query_with_runs(database, tail, [&](SQLite::Statement& statement) {
        int index = 0;
        for (const auto& [key, value] : query.labels) {
            statement.bind(++index, key);
            statement.bind(++index, value);
        }
        if (query.before_id) statement.bind(++index, *query.before_id);
        if (query.limit) statement.bind(++index, static_cast<std::int64_t>(*query.limit));
    });
}

std::vector<ListedSandbox> query_stale_candidates(Database& database) {
    return query_with_runs(
        database, " AND s.status IN " + std::string(kReconcilableStatuses) + " ORDER BY s.id",
        [](SQLite::Statement&) {});
}

std::string encode_cursor(std::int64_t last_id) {
    return base64_encode(std::to_string(last_id), Base64::kUrlUnpadded);
}

std::int64_t decode_cursor(std::string_view cursor) {
    const auto payload = base64_decode(cursor, Base64::kUrlUnpadded);
    if (!payload) throw Error(ErrorCode::kInvalidCursor, "invalid sandbox list cursor encoding");
    const auto id = parse_integer<std::int32_t>(*payload);
    if (!id) throw Error(ErrorCode::kInvalidCursor, "invalid sandbox list cursor payload");
    return *id;
}

}  // namespace msb::state
