// Private to state: how a host process opens the database (spec/state.md section 4).
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>

#include "state/database.h"

namespace SQLite {  // NOLINT(readability-identifier-naming): the library chose it
class Database;
}

namespace msb::state {

// One connection with the PRAGMAs of section 3. Throws SQLite::Exception.
std::unique_ptr<SQLite::Database> open_connection(const std::filesystem::path& file, bool create,
                                                  std::chrono::milliseconds busy_timeout);

// Runs `attempt` up to 8 times while SQLite says busy. The last exception leaves as SQLite::Exception.
void retry_while_busy(const std::function<void()>& attempt);

// The whole sequence; returns the writer connection of an up-to-date database.
std::unique_ptr<SQLite::Database> open_and_migrate(const HomePaths& home,
                                                   const DatabaseOptions& options);

}  // namespace msb::state
