// Private to state: the schema of a fresh database and the migrations of older ones (spec/state.md sections 4 and 5).
#pragma once

#include <set>
#include <string>

#include "state/database.h"

namespace SQLite {  // NOLINT(readability-identifier-naming): the library chose it
class Database;
}

namespace msb::state {

// What seaql_migrations holds, in index order; empty when the table is missing.
std::set<std::string> applied_migrations(SQLite::Database& connection);

// Throws Error{kRuntime} unless the set is the first n entries of the canonical list: a newer schema, a hole and a
// foreign id are all "newer". Also refuses databases older than 0.6.0 and files with tables but no bookkeeping.
void check_schema(SQLite::Database& connection, const std::set<std::string>& applied);

// Brings the database from `applied` (which passed check_schema) to the full list: a fresh one in a single transaction,
// an older one with one transaction per migration, so that a killed process leaves a valid prefix.
void migrate(SQLite::Database& connection, const std::set<std::string>& applied);

// The statements of section 5, all tables and indexes.
void create_full_schema(SQLite::Database& connection);

}  // namespace msb::state
