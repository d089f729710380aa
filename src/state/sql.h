// Private to state: reading typed columns and binding typed values with SQLiteCpp. The texts of refused values are the
// ones upstream's database layer produces (spec/state.md section 5.1).
#pragma once

#include <SQLiteCpp/Column.h>
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace msb::state::sql {

// The kind of statement that failed, as upstream words it.
enum class Phase { kQuery, kExecution };

// "error returned from database: (code: 5) database is locked", with the extended code.
std::string error_text(const SQLite::Exception& exception);
// Error{kDatabase} "Query Error: ..." or "Execution Error: ...".
[[noreturn]] void rethrow(const SQLite::Exception& exception, Phase phase);
bool is_busy(const SQLite::Exception& exception);  // SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT
bool is_unique_violation(const SQLite::Exception& exception);

// "YYYY-MM-DD HH:MM:SS.fffffffff", now.
std::string now();
std::string timestamp(std::int64_t unix_ns);

std::string text(const SQLite::Column& column);  // NULL reads as ""
std::optional<std::string> optional_text(const SQLite::Column& column);
std::optional<std::int64_t> optional_integer(const SQLite::Column& column);
// Throws Error{kDatabase} "Query Error: error occurred while decoding column "updated_at": invalid datetime: X".
std::optional<std::int64_t> optional_timestamp(const SQLite::Column& column);
// Throws Error{kDatabase} "Type Error: unexpected value for <type> enum: x".
[[noreturn]] void unexpected_enum(std::string_view type, std::string_view value);

void bind_text(SQLite::Statement& statement, int index, std::string_view value);
void bind_optional(SQLite::Statement& statement, int index,
                   const std::optional<std::string>& value);
void bind_optional(SQLite::Statement& statement, int index,
                   const std::optional<std::int64_t>& value);

}  // namespace msb::state::sql
