#include "runtime/endpoints.h"

#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/log.h"
#include "runtime/relay_server.h"

namespace msb::runtime {
namespace {

constexpr std::string_view kLog = "msb::endpoints";

void unlink_if_there(const std::filesystem::path& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR)
        throw_os_error(errno, path.string());
}

}  // namespace

Endpoints::Endpoints(const contract::LaunchConfig& config, const std::string& name)
    : roots_{contract::effective_run_dir(config), config.sandboxes_dir},
      paths_(state::IpcPaths::of(roots_, name)),
      agent_(config.agent_sock),
      control_(state::control_path_for(config.agent_sock)) {}

UniqueFd Endpoints::bind_agent() {
    if (agent_ == paths_.agent) state::create_socket_directory(paths_);
    return listen_unix(agent_);
}

void Endpoints::publish_agent() {
    if (agent_ == paths_.legacy_agent_link) {  // older launchers name the link itself
        published_ = true;
        return;
    }
    state::publish_link(paths_.run, paths_.legacy_agent_link, agent_);
    published_ = true;
}

std::optional<UniqueFd> Endpoints::bind_control() {
    try {
        UniqueFd listener = listen_unix(control_);
        try {
            if (control_ != paths_.legacy_control_link)
                state::publish_link(paths_.run, paths_.legacy_control_link, control_);
        } catch (const Error& error) {
            log(LogLevel::kWarn, kLog, "legacy control link: {}", error.what());
        }
        return listener;
    } catch (const Error& error) {
        log(LogLevel::kWarn, kLog, "live control is not available: {}", error.what());
        return std::nullopt;
    }
}

// Sockets outside the canonical directory, which state::remove_endpoints() does not know.
void Endpoints::remove_loose_sockets() {
    if (agent_ == paths_.agent) return;
    unlink_if_there(control_);
    unlink_if_there(agent_);
}

void Endpoints::remove() {
    state::remove_endpoints(paths_);
    remove_loose_sockets();
}

void Endpoints::abandon() noexcept {
    try {
        if (published_)
            state::remove_endpoints(paths_);
        else
            state::remove_socket_directory(paths_);
        remove_loose_sockets();
    } catch (const std::exception& error) {
        log(LogLevel::kWarn, kLog, "leftover endpoint: {}", error.what());
    }
}

}  // namespace msb::runtime
