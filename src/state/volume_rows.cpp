#include "state/volume_rows.h"

#include "base/json.h"
#include "base/text.h"
#include "state/sandbox_rows.h"
#include "state/sql.h"

namespace msb::state {

namespace {

constexpr std::string_view kColumns =
    "id, name, kind, quota_mib, capacity_bytes, disk_format, disk_fstype, labels, created_at, "
    "updated_at";

// [["k","v"]]; anything else reads as no labels.
std::vector<std::pair<std::string, std::string>> parse_labels(
    const std::optional<std::string>& text) {
    std::vector<std::pair<std::string, std::string>> labels;
    if (!text) return labels;
    try {
        const json::Value document = json::parse(*text);
        if (!document.is_array()) return labels;
        for (const json::Value& pair : document) {
            if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() ||
                !pair[1].is_string())
                return {};
            labels.emplace_back(pair[0].get<std::string>(), pair[1].get<std::string>());
        }
    } catch (const json::ParseError&) {
        return {};
    }
    return labels;
}

std::optional<std::string> write_labels(
    const std::vector<std::pair<std::string, std::string>>& labels) {
    if (labels.empty()) return std::nullopt;
    json::Value document = json::Value::array();
    for (const auto& [key, value] : labels)
        document.push_back(json::Value::array({key, value}));
    return json::dump(document);
}

VolumeRow read_volume(SQLite::Statement& statement) {
    VolumeRow row;
    row.id = statement.getColumn(0).getInt64();
    row.name = sql::text(statement.getColumn(1));
    row.kind =
        sql::text(statement.getColumn(2)) == "disk" ? VolumeKind::kDisk : VolumeKind::kDirectory;
    if (auto quota = sql::optional_integer(statement.getColumn(3)))
        row.quota_mib = static_cast<std::uint32_t>(*quota);
    if (auto capacity = sql::optional_integer(statement.getColumn(4)))
        row.capacity_bytes = static_cast<std::uint64_t>(*capacity);
    row.disk_format = sql::optional_text(statement.getColumn(5)).value_or("raw");
    row.disk_fstype = sql::optional_text(statement.getColumn(6));
    row.labels = parse_labels(sql::optional_text(statement.getColumn(7)));
    row.created_at = sql::optional_timestamp(statement.getColumn(8));
    row.updated_at = sql::optional_timestamp(statement.getColumn(9));
    return row;
}

template <class Int>
std::optional<std::int64_t> to_column(const std::optional<Int>& value) {
    if (!value) return std::nullopt;
    return static_cast<std::int64_t>(*value);
}

}  // namespace

std::string_view to_string(VolumeKind kind) {
    return kind == VolumeKind::kDisk ? "disk" : "dir";
}

std::int64_t insert_volume(Database& database, const VolumeRow& row) {
    std::int64_t id = 0;
    const bool disk = row.kind == VolumeKind::kDisk;
    database.write([&](SQLite::Database& connection) {
        const std::string now = sql::now();
        SQLite::Statement insert(
            connection,
            "INSERT INTO volume (name, kind, quota_mib, capacity_bytes, disk_format, disk_fstype, "
            "labels, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
        insert.bind(1, row.name);
        sql::bind_text(insert, 2, to_string(row.kind));
        sql::bind_optional(insert, 3, to_column(row.quota_mib));
        sql::bind_optional(insert, 4, to_column(row.capacity_bytes));
        sql::bind_optional(insert, 5,
                           disk ? std::optional<std::string>(row.disk_format) : std::nullopt);
        sql::bind_optional(insert, 6, disk ? row.disk_fstype : std::nullopt);
        sql::bind_optional(insert, 7, write_labels(row.labels));
        insert.bind(8, now);
        insert.bind(9, now);
        try {
            insert.exec();
        } catch (const SQLite::Exception& exception) {
            if (!sql::is_unique_violation(exception)) throw;
            throw Error(ErrorCode::kVolumeAlreadyExists, row.name);
        }
        id = connection.getLastInsertRowid();
    });
    return id;
}

std::optional<VolumeRow> find_volume(Database& database, std::string_view name) {
    std::optional<VolumeRow> row;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(connection,
                                "SELECT " + std::string(kColumns) + " FROM volume WHERE name = ?");
        sql::bind_text(query, 1, name);
        row.reset();
        if (query.executeStep()) row = read_volume(query);
    });
    return row;
}

VolumeRow get_volume(Database& database, std::string_view name) {
    if (auto row = find_volume(database, name)) return std::move(*row);
    throw Error(ErrorCode::kVolumeNotFound, std::string(name));
}

std::vector<VolumeRow> list_volumes(Database& database) {
    std::vector<VolumeRow> rows;
    database.read([&](SQLite::Database& connection) {
        SQLite::Statement query(
            connection, "SELECT " + std::string(kColumns) + " FROM volume ORDER BY id DESC");
        rows.clear();
        while (query.executeStep())
            rows.push_back(read_volume(query));
    });
    return rows;
}

void delete_volume(Database& database, std::string_view name) {
    const auto users = active_sandboxes_mounting(database, name);
    if (!users.empty())
        throw Error(ErrorCode::kInvalidConfig, "volume " + msb::quoted(name) +
                                                   " is attached to active sandbox " +
                                                   msb::quoted(users.front()));
    int deleted = 0;
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement statement(connection, "DELETE FROM volume WHERE name = ?");
        sql::bind_text(statement, 1, name);
        deleted = statement.exec();
    });
    if (deleted == 0) throw Error(ErrorCode::kVolumeNotFound, std::string(name));
}

}  // namespace msb::state
