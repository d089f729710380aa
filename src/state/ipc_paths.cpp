// Removal is the delicate part: the paths lie in a directory other processes of the same user (and old versions) also
// write, and what is removed must be this sandbox's endpoints and nothing a symlink points to. So every directory on the
// way is opened O_NOFOLLOW and entries are unlinked relative to the descriptors, never by a path looked up again.
#include "state/ipc_paths.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/fd.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

constexpr mode_t kSocketDirectoryMode = 0700;
constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

void make_directories(const fs::path& directory) {
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) throw_os_error(error.value(), "create directory " + directory.string());
}

// Opens a subdirectory without following a symlink; an empty fd when it does not exist.
UniqueFd open_owned_directory(int parent, const char* name, const fs::path& shown) {
    UniqueFd fd(::openat(parent, name, kOpenDirectory));
    if (fd || errno == ENOENT) return fd;
    if (errno == ENOTDIR || errno == ELOOP)
        throw Error(ErrorCode::kIo,
                    "runtime IPC directory is not an owned directory: " + shown.string());
    throw_os_error(errno, "open " + shown.string());
}

void unlink_entry(int directory, const std::string& name, const fs::path& shown) {
    if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return;
    throw_os_error(errno, "remove " + shown.string());
}

// Removes <sandboxes>/<h24> with its sockets. `sandboxes` is an open descriptor of run/sandboxes.
void remove_socket_directory_in(int sandboxes, const IpcPaths& paths) {
    const std::string entry = paths.directory.filename();
    UniqueFd directory(::openat(sandboxes, entry.c_str(), kOpenDirectory));
    if (!directory) {
        if (errno == ENOENT) return;
        if (errno != ENOTDIR && errno != ELOOP)
            throw_os_error(errno, "open " + paths.directory.string());
        return unlink_entry(sandboxes, entry, paths.directory);  // a symlink or file: only itself
    }
    unlink_entry(directory.get(), paths.control.filename(), paths.control);
    unlink_entry(directory.get(), paths.agent.filename(), paths.agent);
    if (::unlinkat(sandboxes, entry.c_str(), AT_REMOVEDIR) == 0) return;
    // A file nobody of us put there keeps the directory; the endpoints are gone, which is what counts.
    if (errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) return;
    throw_os_error(errno, "remove " + paths.directory.string());
}

// True when something accepts connections at `path`.
bool endpoint_live(const fs::path& path) {
    sockaddr_un address{};
    const std::string& text = path.native();
    if (text.size() >= sizeof address.sun_path) return false;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, text.data(), text.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return false;
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return true;
    return errno == EAGAIN;  // a listener whose backlog is full
}

}  // namespace

IpcPaths IpcPaths::of(const StateRoots& roots, std::string_view name) {
    IpcPaths paths;
    paths.run = roots.run;
    paths.directory = roots.run / "sandboxes" / h24(name);
    paths.agent = paths.directory / "agent.sock";
    paths.control = paths.directory / "control.sock";
    const std::string hash = h32(name);
    paths.legacy_agent_link = roots.run / "agent" / (hash + ".sock");
    paths.legacy_control_link = roots.run / "agent" / (hash + ".control.sock");
    const fs::path runtime = roots.sandboxes / name / "runtime";
    paths.fallback_agent = runtime / "agent.sock";
    paths.fallback_control = runtime / "agent.control.sock";
    return paths;
}

std::vector<fs::path> IpcPaths::agent_candidates() const {
    return {agent, legacy_agent_link, fallback_agent};
}

std::vector<fs::path> IpcPaths::control_candidates() const {
    return {control, legacy_control_link, fallback_control};
}

bool is_canonical_agent_path(const fs::path& agent) {
    if (agent.filename() != "agent.sock") return false;
    const std::string hash = agent.parent_path().filename();
    if (agent.parent_path().parent_path().filename() != "sandboxes" || hash.size() != 24)
        return false;
    return std::ranges::all_of(
        hash, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

fs::path control_path_for(const fs::path& agent) {
    if (is_canonical_agent_path(agent)) return agent.parent_path() / "control.sock";
    return fs::path(agent).replace_extension(".control.sock");
}

void create_socket_directory(const IpcPaths& paths) {
    make_directories(paths.directory.parent_path());
    if (::mkdir(paths.directory.c_str(), kSocketDirectoryMode) != 0 && errno != EEXIST)
        throw_os_error(errno, "create directory " + paths.directory.string());
    UniqueFd fd(::open(paths.directory.c_str(), kOpenDirectory));
    if (!fd && (errno == ENOTDIR || errno == ELOOP))
        throw Error(ErrorCode::kIo,
                    "canonical socket path is not a directory: " + paths.directory.string());
    if (!fd) throw_os_error(errno, "open " + paths.directory.string());
    // Also when it was just created: the umask may have taken owner bits away.
    if (::fchmod(fd.get(), kSocketDirectoryMode) != 0)
        throw_os_error(errno, "chmod " + paths.directory.string());
}

fs::path link_target(const fs::path& run, const fs::path& link, const fs::path& socket) {
    const fs::path below = socket.lexically_normal().lexically_relative(run.lexically_normal());
    const bool under_run = !below.empty() && *below.begin() != ".." && below != ".";
    if (!under_run) return fs::absolute(socket);
    return socket.lexically_normal().lexically_relative(link.lexically_normal().parent_path());
}

void publish_link(const fs::path& run, const fs::path& link, const fs::path& socket) {
    const fs::path target = link_target(run, link, socket);
    make_directories(link.parent_path());
    if (::symlink(target.c_str(), link.c_str()) == 0) return;
    if (errno != EEXIST) throw_os_error(errno, "create link " + link.string());
    std::error_code error;
    if (fs::read_symlink(link, error) == target && !error) return;
    throw Error(ErrorCode::kIo, "legacy runtime endpoint already exists at " + link.string());
}

void remove_endpoints(const IpcPaths& paths) {
    UniqueFd run(::open(paths.run.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!run) {
        if (errno == ENOENT) return;
        throw_os_error(errno, "open " + paths.run.string());
    }
    // Both are opened before anything is touched: a foreign layout is refused whole.
    UniqueFd links = open_owned_directory(run.get(), "agent", paths.run / "agent");
    UniqueFd sandboxes = open_owned_directory(run.get(), "sandboxes", paths.run / "sandboxes");
    if (links) {
        unlink_entry(links.get(), paths.legacy_control_link.filename(), paths.legacy_control_link);
        unlink_entry(links.get(), paths.legacy_agent_link.filename(), paths.legacy_agent_link);
    }
    if (sandboxes) remove_socket_directory_in(sandboxes.get(), paths);
}

void remove_socket_directory(const IpcPaths& paths) {
    UniqueFd run(::open(paths.run.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!run) {
        if (errno == ENOENT) return;
        throw_os_error(errno, "open " + paths.run.string());
    }
    UniqueFd sandboxes = open_owned_directory(run.get(), "sandboxes", paths.run / "sandboxes");
    if (sandboxes) remove_socket_directory_in(sandboxes.get(), paths);
}

void remove_endpoints_and_fallback(const IpcPaths& paths) {
    remove_endpoints(paths);
    // The runtime directory is shared with the guest, so its content is the guest's: never follow a link there.
    UniqueFd runtime(::open(paths.fallback_agent.parent_path().c_str(), kOpenDirectory));
    if (!runtime) return;
    for (const fs::path& socket : {paths.fallback_control, paths.fallback_agent})
        ::unlinkat(runtime.get(), socket.filename().c_str(), 0);
}

bool any_endpoint_live(const IpcPaths& paths) {
    for (const auto& candidates : {paths.agent_candidates(), paths.control_candidates()}) {
        if (std::ranges::any_of(candidates, endpoint_live)) return true;
    }
    return false;
}

}  // namespace msb::state
