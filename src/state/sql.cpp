#include "state/sql.h"

#include <sqlite3.h>

#include "base/text.h"
#include "base/time.h"

namespace msb::state::sql {

std::string error_text(const SQLite::Exception& exception) {
    return "error returned from database: (code: " +
           std::to_string(exception.getExtendedErrorCode()) + ") " + exception.what();
}

void rethrow(const SQLite::Exception& exception, Phase phase) {
    throw Error(ErrorCode::kDatabase,
                std::string(phase == Phase::kQuery ? "Query Error: " : "Execution Error: ") +
                    error_text(exception));
}

bool is_busy(const SQLite::Exception& exception) {
    return exception.getExtendedErrorCode() == SQLITE_BUSY ||
           exception.getExtendedErrorCode() == SQLITE_BUSY_SNAPSHOT;
}

bool is_unique_violation(const SQLite::Exception& exception) {
    return exception.getExtendedErrorCode() == SQLITE_CONSTRAINT_UNIQUE ||
           exception.getExtendedErrorCode() == SQLITE_CONSTRAINT_PRIMARYKEY;
}

std::string now() {
    return timestamp(wall_clock_ns());
}

std::string timestamp(std::int64_t unix_ns) {
    return database_timestamp(unix_ns);
}

std::string text(const SQLite::Column& column) {
    return column.isNull() ? std::string() : column.getString();
}

std::optional<std::string> optional_text(const SQLite::Column& column) {
    if (column.isNull()) return std::nullopt;
    return column.getString();
}

std::optional<std::int64_t> optional_integer(const SQLite::Column& column) {
    if (column.isNull()) return std::nullopt;
    return column.getInt64();
}

std::optional<std::int64_t> optional_timestamp(const SQLite::Column& column) {
    if (column.isNull()) return std::nullopt;
    const std::string value = column.getString();
    if (auto parsed = parse_timestamp(value)) return parsed;
    throw Error(ErrorCode::kDatabase, "Query Error: error occurred while decoding column " +
                                          msb::quoted(column.getName()) +
                                          ": invalid datetime: " + value);
}

void unexpected_enum(std::string_view type, std::string_view value) {
    throw Error(ErrorCode::kDatabase, "Type Error: unexpected value for " + std::string(type) +
                                          " enum: " + std::string(value));
}

void bind_text(SQLite::Statement& statement, int index, std::string_view value) {
    statement.bind(index, std::string(value));
}

void bind_optional(SQLite::Statement& statement, int index,
                   const std::optional<std::string>& value) {
    if (value)
        statement.bind(index, *value);
    else
        statement.bind(index);
}

void bind_optional(SQLite::Statement& statement, int index,
                   const std::optional<std::int64_t>& value) {
    if (value)
        statement.bind(index, *value);
    else
        statement.bind(index);
}

}  // namespace msb::state::sql
