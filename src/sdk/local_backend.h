// The state this machine's sandboxes live in: configuration, paths, database.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "state/database.h"
#include "state/global_config.h"
#include "state/home.h"

namespace msb::sdk {

// Opened once and shared: see current(). Thread-safe.
struct LocalBackend {
    state::LocalConfig config;
    state::HomePaths paths;
    state::StateRoots roots;

    // The backend of the present environment ($MSB_HOME, $MSB_CONFIG_PATH, $MSB_BACKEND, config.json). One object is
    // kept for as long as none of them changes, so that the database is opened once per process.
    // `operation`, e.g. "Sandbox::create", goes into the text of Error{kUnsupported} for a cloud selection.
    // Throws Error{kInvalidConfig}.
    static std::shared_ptr<LocalBackend> current(std::string_view operation);

    // Opened on first use. Throws what state::Database::open throws.
    state::Database& database();

    LocalBackend(state::LocalConfig local_config, state::HomePaths home_paths);
    ~LocalBackend();

  private:
    struct Lazy;
    std::unique_ptr<Lazy> lazy_;
};

// The program to run as `msb sandbox`, first hit: $MSB_PATH (unchecked), `explicit_path`, config.json paths.msb,
// <home>/bin/msb, msb beside this program, ../bin/msb of the directory of the SDK library, PATH.
// Throws Error{kRuntime} naming what was tried.
std::filesystem::path find_runtime_binary(const LocalBackend& backend,
                                          const std::filesystem::path& explicit_path);

}  // namespace msb::sdk
