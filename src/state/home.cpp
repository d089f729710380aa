#include "state/home.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/hash.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kH24 = 24;
constexpr std::size_t kH32 = 32;

// nullopt also for an empty value: an empty variable counts as unset.
std::optional<std::string> environment(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
}

std::optional<fs::path> passwd_home() {
    std::vector<char> buffer(16 * 1024);
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) != 0 ||
        found == nullptr)
        return std::nullopt;
    if (found->pw_dir == nullptr || *found->pw_dir == '\0') return std::nullopt;
    return fs::path(found->pw_dir);
}

}  // namespace

std::string h24(std::string_view name) {
    return sha256_hex(name).substr(0, kH24);
}

std::string h32(std::string_view name) {
    return sha256_hex(name).substr(0, kH32);
}

fs::path environment_home() {
    if (auto home = environment("MSB_HOME")) return *home;
    if (auto home = environment("HOME")) return fs::path(*home) / ".microsandbox";
    if (auto home = passwd_home()) return *home / ".microsandbox";
    return fs::path(".") / ".microsandbox";
}

fs::path config_file_path() {
    if (auto path = environment("MSB_CONFIG_PATH")) return *path;
    return environment_home() / "config.json";
}

HomePaths::HomePaths(fs::path home, PathOverrides overrides)
    : home_(std::move(home)), overrides_(std::move(overrides)) {}

fs::path HomePaths::database_dir() const {
    return home_ / "db";
}
fs::path HomePaths::database() const {
    return database_dir() / "msb.db";
}
fs::path HomePaths::migration_lock() const {
    return database_dir() / "msb.db.migration.lock";
}
fs::path HomePaths::downgrade_journals() const {
    return database_dir() / "self-downgrade";
}

fs::path HomePaths::sandboxes() const {
    return overrides_.sandboxes.value_or(home_ / "sandboxes");
}
fs::path HomePaths::sandbox_dir(std::string_view name) const {
    return sandboxes() / name;
}
fs::path HomePaths::sandbox_upper(std::string_view name) const {
    return sandbox_dir(name) / "upper.ext4";
}
fs::path HomePaths::sandbox_flat_root(std::string_view name) const {
    return sandbox_dir(name) / "rootfs.raw";
}
fs::path HomePaths::sandbox_logs(std::string_view name) const {
    return sandbox_dir(name) / "logs";
}
fs::path HomePaths::sandbox_runtime(std::string_view name) const {
    return sandbox_dir(name) / "runtime";
}
fs::path HomePaths::sandbox_scripts(std::string_view name) const {
    return sandbox_runtime(name) / "scripts";
}
fs::path HomePaths::sandbox_ssh(std::string_view name) const {
    return sandbox_dir(name) / "ssh";
}

fs::path HomePaths::volumes() const {
    return overrides_.volumes.value_or(home_ / "volumes");
}
fs::path HomePaths::volume_dir(std::string_view name) const {
    return volumes() / name;
}
fs::path HomePaths::volume_disk(std::string_view name) const {
    return volume_dir(name) / "disk.raw";
}
fs::path HomePaths::volume_lock(std::string_view name) const {
    return volumes() / ".locks" / (std::string(name) + ".lock");
}

fs::path HomePaths::snapshots() const {
    return overrides_.snapshots.value_or(home_ / "snapshots");
}
fs::path HomePaths::cache() const {
    return overrides_.cache.value_or(home_ / "cache");
}
fs::path HomePaths::logs() const {
    return overrides_.logs.value_or(home_ / "logs");
}
fs::path HomePaths::secrets() const {
    return overrides_.secrets.value_or(home_ / "secrets");
}
fs::path HomePaths::registry_secret(std::string_view secret_name) const {
    return secrets() / "registries" / secret_name;
}
fs::path HomePaths::tls() const {
    return home_ / "tls";
}
fs::path HomePaths::ssh() const {
    return home_ / "ssh";
}
fs::path HomePaths::bin() const {
    return home_ / "bin";
}
fs::path HomePaths::lib() const {
    return home_ / "lib";
}

fs::path HomePaths::run() const {
    return home_ / "run";
}
fs::path HomePaths::creation_lock(std::string_view name) const {
    return creation_lock_path(roots(), name);
}
fs::path HomePaths::lifecycle_lock(std::string_view name) const {
    return lifecycle_lock_path(roots(), name);
}
fs::path HomePaths::cpu_leases() const {
    return run() / "cpu-leases";
}
fs::path HomePaths::writeback_leases() const {
    return run() / "writeback-leases";
}

std::string HomePaths::metrics_shm_name() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx",
                  static_cast<unsigned long long>(fnv1a64(home_.native())));
    return "/msb-met-" + std::string(digits) + "-v3";
}

fs::path lifecycle_lock_path(const StateRoots& roots, std::string_view name) {
    return roots.run / "locks" / (h32(name) + ".lock");
}

fs::path creation_lock_path(const StateRoots& roots, std::string_view name) {
    return roots.run / "creation-locks" / (h32(name) + ".lock");
}

void check_socket_path_length(const StateRoots& roots, std::string_view name) {
    const fs::path directory = roots.run / "sandboxes" / h24(name);
    const std::size_t agent = (directory / "agent.sock").native().size();
    const std::size_t control = (directory / "control.sock").native().size();
    if (agent < kMaxSocketPathBytes && control < kMaxSocketPathBytes) return;
    throw Error(ErrorCode::kInvalidConfig,
                "sandbox runtime socket path is too long: shortest derived path is " +
                    std::to_string(agent) +
                    " bytes, but Unix socket paths on this platform must be shorter than " +
                    std::to_string(kMaxSocketPathBytes) +
                    " bytes; set MSB_HOME to a shorter directory");
}

}  // namespace msb::state
