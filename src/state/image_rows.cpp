#include "state/image_rows.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "state/sql.h"

namespace msb::state {

namespace {

using SQLite::Statement;

// --- JSON columns -------------------------------------------------------------------------------------------------

std::optional<std::string> write_list(const std::optional<std::vector<std::string>>& words) {
    if (!words) return std::nullopt;
    json::Value list = json::Value::array();
    for (const std::string& word : *words)
        list.push_back(word);
    return json::dump(list);
}

// Anything but an array of strings reads as absent: the column is a copy for display, the cache has the truth.
std::optional<std::vector<std::string>> read_list(const std::optional<std::string>& text) {
    if (!text) return std::nullopt;
    try {
        const json::Value document = json::parse(*text);
        if (!document.is_array()) return std::nullopt;
        std::vector<std::string> words;
        for (const json::Value& word : document) {
            if (!word.is_string()) return std::nullopt;
            words.push_back(word.get<std::string>());
        }
        return words;
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

std::optional<std::string> write_labels(
    const std::vector<std::pair<std::string, std::string>>& labels) {
    if (labels.empty()) return std::nullopt;
    json::Value object = json::Value::object();
    for (const auto& [key, value] : labels)
        object[key] = value;
    return json::dump(object);
}

std::vector<std::pair<std::string, std::string>> read_labels(
    const std::optional<std::string>& text) {
    std::vector<std::pair<std::string, std::string>> labels;
    if (!text) return labels;
    try {
        const json::Value document = json::parse(*text);
        if (!document.is_object()) return labels;
        for (const auto& [key, value] : document.items())
            if (value.is_string()) labels.emplace_back(key, value.get<std::string>());
    } catch (const json::ParseError&) {
        return {};
    }
    std::sort(labels.begin(), labels.end());
    return labels;
}

// --- Writing ------------------------------------------------------------------------------------------------------

std::optional<std::int64_t> find_id(SQLite::Database& connection, const char* query,
                                    std::string_view key) {
    Statement statement(connection, query);
    sql::bind_text(statement, 1, key);
    if (!statement.executeStep()) return std::nullopt;
    return statement.getColumn(0).getInt64();
}

// Refreshes the times when the reference points to this very manifest and its layers are all there.
bool refresh(SQLite::Database& connection, std::string_view reference, const ImageRecord& image,
             const std::string& now) {
    Statement find(
        connection,
        "SELECT r.id, m.id, (SELECT count(*) FROM manifest_layer l WHERE l.manifest_id = m.id) "
        "FROM image_ref r JOIN manifest m ON m.id = r.manifest_id "
        "WHERE r.reference = ? AND m.digest = ?");
    sql::bind_text(find, 1, reference);
    sql::bind_text(find, 2, image.manifest_digest);
    if (!find.executeStep() ||
        find.getColumn(2).getInt64() != static_cast<std::int64_t>(image.layers.size()))
        return false;
    const std::int64_t ref_id = find.getColumn(0).getInt64();
    const std::int64_t manifest_id = find.getColumn(1).getInt64();
    Statement layers(connection,
                     "UPDATE layer SET last_used_at = ? WHERE id IN "
                     "(SELECT layer_id FROM manifest_layer WHERE manifest_id = ?)");
    sql::bind_text(layers, 1, now);
    layers.bind(2, manifest_id);
    layers.exec();
    Statement update(connection, "UPDATE image_ref SET updated_at = ? WHERE id = ?");
    sql::bind_text(update, 1, now);
    update.bind(2, ref_id);
    update.exec();
    return true;
}

std::int64_t keep_manifest(SQLite::Database& connection, const ImageRecord& image,
                           const std::string& now) {
    constexpr const char* kFind = "SELECT id FROM manifest WHERE digest = ?";
    if (auto id = find_id(connection, kFind, image.manifest_digest)) return *id;
    std::int64_t total = 0;
    for (const ImageLayerRow& layer : image.layers)
        total += layer.compressed_size_bytes.value_or(0);
    Statement insert(connection,
                     "INSERT INTO manifest (digest, config_digest, architecture, os, layer_count, "
                     "total_size_bytes, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)");
    sql::bind_text(insert, 1, image.manifest_digest);
    sql::bind_text(insert, 2, image.config.digest);
    sql::bind_text(insert, 3, image.architecture);
    sql::bind_text(insert, 4, image.os);
    insert.bind(5, static_cast<std::int64_t>(image.layers.size()));
    insert.bind(6, total);
    sql::bind_text(insert, 7, now);
    insert.exec();
    return connection.getLastInsertRowid();
}

void replace_image_config(SQLite::Database& connection, std::int64_t manifest_id,
                          const ImageConfigRow& config, const std::string& now) {
    Statement remove(connection, "DELETE FROM config WHERE manifest_id = ?");
    remove.bind(1, manifest_id);
    remove.exec();
    Statement insert(
        connection,
        "INSERT INTO config (manifest_id, digest, env, cmd, entrypoint, working_dir, \"user\", "
        "labels, stop_signal, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)");
    insert.bind(1, manifest_id);
    sql::bind_text(insert, 2, config.digest);
    sql::bind_optional(insert, 3,
                       config.env.empty() ? std::optional<std::string>() : write_list(config.env));
    sql::bind_optional(insert, 4, write_list(config.cmd));
    sql::bind_optional(insert, 5, write_list(config.entrypoint));
    sql::bind_optional(insert, 6, config.working_dir);
    sql::bind_optional(insert, 7, config.user);
    sql::bind_optional(insert, 8, write_labels(config.labels));
    sql::bind_text(insert, 9, now);
    insert.exec();
}

std::int64_t keep_layer(SQLite::Database& connection, const ImageLayerRow& layer,
                        const std::string& now) {
    Statement upsert(
        connection,
        "INSERT INTO layer (diff_id, blob_digest, media_type, compressed_size_bytes, created_at, "
        "last_used_at) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (diff_id) DO UPDATE SET last_used_at = excluded.last_used_at "
        "RETURNING id");
    sql::bind_text(upsert, 1, layer.diff_id);
    sql::bind_text(upsert, 2, layer.blob_digest);
    sql::bind_optional(upsert, 3, layer.media_type);
    sql::bind_optional(upsert, 4, layer.compressed_size_bytes);
    sql::bind_text(upsert, 5, now);
    sql::bind_text(upsert, 6, now);
    upsert.executeStep();
    return upsert.getColumn(0).getInt64();
}

void replace_layers(SQLite::Database& connection, std::int64_t manifest_id,
                    const std::vector<ImageLayerRow>& layers, const std::string& now) {
    Statement remove(connection, "DELETE FROM manifest_layer WHERE manifest_id = ?");
    remove.bind(1, manifest_id);
    remove.exec();
    Statement insert(
        connection,
        "INSERT INTO manifest_layer (manifest_id, layer_id, position) VALUES (?, ?, ?)");
    for (std::size_t position = 0; position < layers.size(); ++position) {
        insert.reset();
        insert.bind(1, manifest_id);
        insert.bind(2, keep_layer(connection, layers[position], now));
        insert.bind(3, static_cast<std::int64_t>(position));
        insert.exec();
    }
}

void point_reference(SQLite::Database& connection, std::string_view reference,
                     std::int64_t manifest_id, const std::string& now) {
    Statement upsert(connection,
                     "INSERT INTO image_ref (reference, manifest_id, created_at, updated_at) "
                     "VALUES (?, ?, ?, ?) "
                     "ON CONFLICT (reference) DO UPDATE SET manifest_id = excluded.manifest_id, "
                     "updated_at = excluded.updated_at");
    sql::bind_text(upsert, 1, reference);
    upsert.bind(2, manifest_id);
    sql::bind_text(upsert, 3, now);
    sql::bind_text(upsert, 4, now);
    upsert.exec();
}

// --- Reading ------------------------------------------------------------------------------------------------------

constexpr std::string_view kSelectImage =
    "SELECT r.reference, m.digest, m.architecture, m.os, m.layer_count, m.total_size_bytes, "
    "r.created_at, r.updated_at, m.id FROM image_ref r JOIN manifest m ON m.id = r.manifest_id ";

ImageRow read_image(Statement& statement) {
    ImageRow row;
    row.reference = sql::text(statement.getColumn(0));
    row.manifest_digest = sql::optional_text(statement.getColumn(1));
    row.architecture = sql::optional_text(statement.getColumn(2));
    row.os = sql::optional_text(statement.getColumn(3));
    row.layer_count = sql::optional_integer(statement.getColumn(4)).value_or(0);
    row.total_size_bytes = sql::optional_integer(statement.getColumn(5));
    row.created_at = sql::optional_timestamp(statement.getColumn(6));
    row.updated_at = sql::optional_timestamp(statement.getColumn(7));
    return row;
}

std::optional<ImageConfigRow> read_config(SQLite::Database& connection, std::int64_t manifest_id) {
    Statement select(
        connection,
        "SELECT digest, env, cmd, entrypoint, working_dir, \"user\", labels, stop_signal "
        "FROM config WHERE manifest_id = ?");
    select.bind(1, manifest_id);
    if (!select.executeStep()) return std::nullopt;
    ImageConfigRow row;
    row.digest = sql::text(select.getColumn(0));
    row.env =
        read_list(sql::optional_text(select.getColumn(1))).value_or(std::vector<std::string>());
    row.cmd = read_list(sql::optional_text(select.getColumn(2)));
    row.entrypoint = read_list(sql::optional_text(select.getColumn(3)));
    row.working_dir = sql::optional_text(select.getColumn(4));
    row.user = sql::optional_text(select.getColumn(5));
    row.labels = read_labels(sql::optional_text(select.getColumn(6)));
    row.stop_signal = sql::optional_text(select.getColumn(7));
    return row;
}

std::vector<ImageLayerRow> read_layers(SQLite::Database& connection, std::int64_t manifest_id) {
    Statement select(connection,
                     "SELECT l.diff_id, l.blob_digest, l.media_type, l.compressed_size_bytes, "
                     "l.erofs_size_bytes "
                     "FROM manifest_layer p JOIN layer l ON l.id = p.layer_id "
                     "WHERE p.manifest_id = ? ORDER BY p.position");
    select.bind(1, manifest_id);
    std::vector<ImageLayerRow> layers;
    while (select.executeStep()) {
        ImageLayerRow row;
        row.diff_id = sql::text(select.getColumn(0));
        row.blob_digest = sql::text(select.getColumn(1));
        row.media_type = sql::optional_text(select.getColumn(2));
        row.compressed_size_bytes = sql::optional_integer(select.getColumn(3));
        row.erofs_size_bytes = sql::optional_integer(select.getColumn(4));
        layers.push_back(std::move(row));
    }
    return layers;
}

// Runs `use` with the reference's row and the id of its manifest.
template <class Use>
void with_image(SQLite::Database& connection, std::string_view reference, const Use& use) {
    Statement select(connection, std::string(kSelectImage) + "WHERE r.reference = ?");
    sql::bind_text(select, 1, reference);
    if (!select.executeStep()) throw Error(ErrorCode::kImageNotFound, std::string(reference));
    ImageRow row = read_image(select);
    use(std::move(row), select.getColumn(8).getInt64());
}

// --- Removing -----------------------------------------------------------------------------------------------------

std::vector<std::string> texts(SQLite::Database& connection, const std::string& query) {
    std::vector<std::string> found;
    Statement select(connection, query);
    while (select.executeStep())
        found.push_back(sql::text(select.getColumn(0)));
    return found;
}

void check_unused(SQLite::Database& connection, std::int64_t manifest_id) {
    Statement users(
        connection,
        "SELECT sandbox_id FROM sandbox_rootfs WHERE manifest_id = ? ORDER BY sandbox_id");
    users.bind(1, manifest_id);
    std::string ids;
    while (users.executeStep())
        ids += (ids.empty() ? "" : ", ") + std::to_string(users.getColumn(0).getInt64());
    if (!ids.empty()) throw Error(ErrorCode::kImageInUse, ids);
}

// Layers that lost their last manifest.
void drop_unused_layers(SQLite::Database& connection, RemovedImages& removed) {
    constexpr const char* kUnused = "id NOT IN (SELECT layer_id FROM manifest_layer)";
    removed.layer_diff_ids = texts(
        connection, std::string("SELECT diff_id FROM layer WHERE ") + kUnused + " ORDER BY id");
    if (!removed.layer_diff_ids.empty())
        connection.exec(std::string("DELETE FROM layer WHERE ") + kUnused);
}

constexpr std::string_view kManifestInUse =
    "(id IN (SELECT manifest_id FROM sandbox_rootfs WHERE manifest_id IS NOT NULL) OR "
    "digest IN (SELECT image_manifest_digest FROM snapshot_index))";

}  // namespace

void record_image(Database& database, std::string_view reference, const ImageRecord& image) {
    database.write([&](SQLite::Database& connection) {
        const std::string now = sql::now();
        if (refresh(connection, reference, image, now)) return;
        const std::int64_t manifest_id = keep_manifest(connection, image, now);
        replace_image_config(connection, manifest_id, image.config, now);
        replace_layers(connection, manifest_id, image.layers, now);
        point_reference(connection, reference, manifest_id, now);
    });
}

std::vector<ImageRow> list_images(Database& database) {
    std::vector<ImageRow> rows;
    database.read([&](SQLite::Database& connection) {
        rows.clear();
        Statement select(connection,
                         std::string(kSelectImage) + "ORDER BY r.created_at DESC, r.id DESC");
        while (select.executeStep())
            rows.push_back(read_image(select));
    });
    return rows;
}

ImageRow get_image(Database& database, std::string_view reference) {
    ImageRow found;
    database.read([&](SQLite::Database& connection) {
        with_image(connection, reference,
                   [&](ImageRow row, std::int64_t) { found = std::move(row); });
    });
    return found;
}

ImageDetailRows get_image_detail(Database& database, std::string_view reference) {
    ImageDetailRows detail;
    database.read([&](SQLite::Database& connection) {
        with_image(connection, reference, [&](ImageRow row, std::int64_t manifest_id) {
            detail = {std::move(row), read_config(connection, manifest_id),
                      read_layers(connection, manifest_id)};
        });
    });
    return detail;
}

RemovedImages remove_image(Database& database, std::string_view reference, bool force) {
    RemovedImages removed;
    database.write([&](SQLite::Database& connection) {
        removed = {};
        with_image(connection, reference, [&](const ImageRow& row, std::int64_t manifest_id) {
            if (!force) check_unused(connection, manifest_id);
            Statement remove(connection, "DELETE FROM image_ref WHERE reference = ?");
            sql::bind_text(remove, 1, reference);
            remove.exec();
            removed.references.emplace_back(reference);
            Statement others(connection, "SELECT 1 FROM image_ref WHERE manifest_id = ? LIMIT 1");
            others.bind(1, manifest_id);
            if (others.executeStep()) return;
            Statement manifest(connection, "DELETE FROM manifest WHERE id = ?");
            manifest.bind(1, manifest_id);
            manifest.exec();
            removed.manifest_digests.push_back(row.manifest_digest.value_or(""));
            drop_unused_layers(connection, removed);
        });
    });
    return removed;
}

RemovedImages prune_images(Database& database) {
    RemovedImages removed;
    database.write([&](SQLite::Database& connection) {
        removed = {};
        const std::string unused = "NOT " + std::string(kManifestInUse);
        const std::string dead_refs =
            "FROM image_ref WHERE manifest_id IN (SELECT id FROM manifest WHERE " + unused + ")";
        removed.references = texts(connection, "SELECT reference " + dead_refs + " ORDER BY id");
        connection.exec("DELETE " + dead_refs);
        const std::string dead_manifests =
            "FROM manifest WHERE " + unused + " AND id NOT IN (SELECT manifest_id FROM image_ref)";
        removed.manifest_digests =
            texts(connection, "SELECT digest " + dead_manifests + " ORDER BY id");
        connection.exec("DELETE " + dead_manifests);
        drop_unused_layers(connection, removed);
    });
    return removed;
}

}  // namespace msb::state
