// Socket directories, sockets and legacy links of one sandbox: names, creation, publication and careful removal
// (spec/protocol.md section 14, spec/sandbox-process.md section 7). Used by the launcher, the runtime and reconcilers.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "state/home.h"

namespace msb::state {

struct IpcPaths {
    std::filesystem::path run;                  // root every removal walks from
    std::filesystem::path directory;            // <run>/sandboxes/<h24>, mode 0700
    std::filesystem::path agent;                // <directory>/agent.sock
    std::filesystem::path control;              // <directory>/control.sock
    std::filesystem::path legacy_agent_link;    // <run>/agent/<h32>.sock
    std::filesystem::path legacy_control_link;  // <run>/agent/<h32>.control.sock
    std::filesystem::path
        fallback_agent;  // <sandboxes>/<name>/runtime/agent.sock (pre-0.5, lookup only)
    std::filesystem::path fallback_control;  // <sandboxes>/<name>/runtime/agent.control.sock

    static IpcPaths of(const StateRoots& roots, std::string_view name);

    // Where a client looks for the agent (control) socket, in order.
    std::vector<std::filesystem::path> agent_candidates() const;
    std::vector<std::filesystem::path> control_candidates() const;
};

// True for ".../sandboxes/<24 lowercase hex>/agent.sock".
bool is_canonical_agent_path(const std::filesystem::path& agent);
// The control socket that belongs to an agent socket: sibling control.sock when canonical, else x.sock -> x.control.sock.
std::filesystem::path control_path_for(const std::filesystem::path& agent);

// Creates <run>/sandboxes/<h24> and forces mode 0700, also when it exists already.
// Throws Error{kIo} "canonical socket path is not a directory: P" for a symlink or another kind of file there.
void create_socket_directory(const IpcPaths& paths);

// What publish_link() puts into a legacy link: relative ("../sandboxes/<h24>/agent.sock") for a socket under `run`,
// else the absolute path.
std::filesystem::path link_target(const std::filesystem::path& run,
                                  const std::filesystem::path& link,
                                  const std::filesystem::path& socket);
// Publishes `link` -> `socket`. An identical symlink is success; nothing is ever replaced.
// Throws Error{kIo} "legacy runtime endpoint already exists at P".
void publish_link(const std::filesystem::path& run, const std::filesystem::path& link,
                  const std::filesystem::path& socket);

// Removes the legacy links, control.sock, agent.sock and the canonical directory, in this order. Missing files are
// success. Directories are opened without following symlinks. A hash entry that is itself a symlink or file is unlinked.
// Throws Error{kIo} "runtime IPC directory is not an owned directory: P" (nothing touched) when run/agent or
// run/sandboxes is not a real directory; Error{kIo} when an entry cannot be removed.
// The caller holds the sandbox's lifecycle lock.
void remove_endpoints(const IpcPaths& paths);
// Only control.sock, agent.sock and the canonical directory: clean-up after a failed publication.
void remove_socket_directory(const IpcPaths& paths);
// remove_endpoints() and the pre-0.5 sockets in the sandbox directory (best effort there): launcher and reconcilers.
void remove_endpoints_and_fallback(const IpcPaths& paths);

// True when any endpoint of the name accepts a connection ("an untracked runtime endpoint is still live").
bool any_endpoint_live(const IpcPaths& paths);

}  // namespace msb::state
