#include "state/global_config_writer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "base/error.h"
#include "base/fd.h"
#include "base/file_lock.h"
#include "base/json.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

using json::Value;

// The file behind symbolic links: replacing a link would cut the user's file off from where they keep it.
fs::path real_file(const fs::path& file) {
    std::error_code error;
    const fs::path target = fs::canonical(file, error);
    return error ? file : target;
}

Value read_document(const fs::path& file) {
    const std::string text = read_file(file, kMaxConfigBytes);
    try {
        // Checks everything we know; a file the local reader discards is not ours to rewrite.
        (void)parse_local_config(text);
    } catch (const Error& error) {
        throw Error(ErrorCode::kInvalidConfig,
                    "failed to parse config `" + file.string() + "`: " + error.detail());
    }
    return json::parse(text);
}

// publish_file() makes a file of ours; the one replaced may be somebody else's (a root shell with the user's HOME).
void publish(const fs::path& file, const struct stat& before, const std::string& content) {
    publish_file(file, content, before.st_mode & 0777);
    if (::geteuid() != before.st_uid || ::getegid() != before.st_gid)
        (void)!::chown(file.c_str(), before.st_uid, before.st_gid);
}

// `change` says whether it changed the document.
bool update(const fs::path& link, const std::function<bool(Value&)>& change) {
    const fs::path file = real_file(link);
    struct stat before{};
    if (::stat(file.c_str(), &before) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return false;  // nothing to change
        throw_os_error(errno, "stat " + file.string());
    }
    const FileLock lock =
        FileLock::acquire(file.string() + ".lock", LockMode::kExclusive, S_IRUSR | S_IWUSR);
    Value document = read_document(file);
    if (!change(document)) return false;
    publish(file, before, json::dump_pretty(document) + "\n");
    return true;
}

Value* member(Value& object, const std::string& key) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(key);
    return found == object.end() ? nullptr : &*found;
}

}  // namespace

bool remove_registry_auth(const fs::path& file, const std::string& host) {
    return update(file, [&](Value& document) {
        Value* registries = member(document, "registries");
        Value* hosts = registries ? member(*registries, "hosts") : nullptr;
        Value* entry = hosts ? member(*hosts, host) : nullptr;
        Value* auth = entry ? member(*entry, "auth") : nullptr;
        if (!auth || auth->is_null()) return false;
        entry->erase("auth");
        if (entry->empty()) hosts->erase(host);
        return true;
    });
}

}  // namespace msb::state
