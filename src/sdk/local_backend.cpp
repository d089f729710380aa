#include "sdk/local_backend.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/process.h"
#include "base/text.h"

namespace msb::sdk {

namespace {

// What makes one environment different from another. The file's identity stands for its content.
struct EnvironmentKey {
    std::string home, config_file, backend, profile, api_key;
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = -1;
    timespec modified{};

    bool operator==(const EnvironmentKey& other) const {
        return home == other.home && config_file == other.config_file && backend == other.backend &&
               profile == other.profile && api_key == other.api_key && device == other.device &&
               inode == other.inode && size == other.size &&
               modified.tv_sec == other.modified.tv_sec &&
               modified.tv_nsec == other.modified.tv_nsec;
    }
};

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

EnvironmentKey environment_key() {
    EnvironmentKey key;
    key.home = state::environment_home();
    key.config_file = state::config_file_path();
    key.backend = variable("MSB_BACKEND");
    key.profile = variable("MSB_PROFILE");
    key.api_key = variable("MSB_API_KEY");
    struct stat info{};
    if (::stat(key.config_file.c_str(), &info) == 0) {
        key.device = info.st_dev;
        key.inode = info.st_ino;
        key.size = info.st_size;
        key.modified = info.st_mtim;
    }
    return key;
}

bool executable_file(const std::filesystem::path& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
           ::access(path.c_str(), X_OK) == 0;
}

// Where the code of the SDK itself lives: the program, or the shared library.
std::filesystem::path own_library() {
    Dl_info info{};
    if (::dladdr(reinterpret_cast<void*>(&own_library), &info) == 0 || info.dli_fname == nullptr)
        return {};
    std::error_code ignored;
    return std::filesystem::canonical(info.dli_fname, ignored);
}

}  // namespace

struct LocalBackend::Lazy {
    std::mutex mutex;
    std::optional<state::Database> database;
};

LocalBackend::LocalBackend(state::LocalConfig local_config, state::HomePaths home_paths)
    : config(std::move(local_config)),
      paths(std::move(home_paths)),
      roots(paths.roots()),
      lazy_(std::make_unique<Lazy>()) {}
LocalBackend::~LocalBackend() = default;

std::shared_ptr<LocalBackend> LocalBackend::current(std::string_view operation) {
    static std::mutex mutex;
    static EnvironmentKey cached_key;
    static std::shared_ptr<LocalBackend> cached;

    EnvironmentKey key = environment_key();
    std::scoped_lock lock(mutex);
    if (cached && cached_key == key) return cached;
    state::require_local_backend(state::choose_backend(), operation);
    state::LocalConfig config = state::load_local_config();
    state::HomePaths paths = config.home_paths();
    cached = std::make_shared<LocalBackend>(std::move(config), std::move(paths));
    cached_key = std::move(key);
    return cached;
}

state::Database& LocalBackend::database() {
    std::scoped_lock lock(lazy_->mutex);
    if (!lazy_->database) lazy_->database.emplace(state::Database::open(paths, config.database));
    return *lazy_->database;
}

std::filesystem::path find_runtime_binary(const LocalBackend& backend,
                                          const std::filesystem::path& explicit_path) {
    if (std::string path = variable("MSB_PATH"); !path.empty()) return path;
    if (!explicit_path.empty()) return explicit_path;
    std::vector<std::filesystem::path> tried;
    if (backend.config.msb_path) tried.push_back(*backend.config.msb_path);
    tried.push_back(backend.paths.bin() / "msb");
    tried.push_back(std::filesystem::path(self_executable()).parent_path() / "msb");
    if (std::filesystem::path library = own_library(); !library.empty()) {
        // <prefix>/lib/libmicrosandbox.so, or <prefix>/lib/<architecture>/libmicrosandbox.so
        tried.push_back(library.parent_path().parent_path() / "bin" / "msb");
        tried.push_back(library.parent_path().parent_path().parent_path() / "bin" / "msb");
    }
    const std::string search = variable("PATH");
    for (std::string_view directory : split(search, ':')) {
        if (!directory.empty()) tried.push_back(std::filesystem::path(directory) / "msb");
    }
    for (const std::filesystem::path& path : tried) {
        if (executable_file(path)) return path;
    }
    throw Error(
        ErrorCode::kRuntime,
        "msb runtime binary not found; set MSB_PATH, paths.msb in config.json, or put msb in PATH");
}

}  // namespace msb::sdk
