// The agent and control sockets of one sandbox on disk: bound, published through the legacy links, removed
// (spec/sandbox-process.md section 7).
#pragma once

#include <optional>
#include <string>

#include "base/fd.h"
#include "contract/launch_config.h"
#include "state/ipc_paths.h"

namespace msb::runtime {

class Endpoints {
  public:
    Endpoints(const contract::LaunchConfig& config, const std::string& name);

    // Creates the canonical directory when the socket belongs there, binds and listens. Throws Error{kIo}.
    UniqueFd bind_agent();
    // Throws Error{kIo} "legacy runtime endpoint already exists at P"; what was bound is removed then, the entry in the
    // way stays.
    void publish_agent();
    // Binds, listens and publishes. nullopt (logged): live control is then simply absent.
    std::optional<UniqueFd> bind_control();
    // Everything this sandbox put on disk. Throws Error{kIo}.
    void remove();
    // After a failed boot: nothing may be left, nothing foreign may be touched.
    void abandon() noexcept;

    const state::StateRoots& roots() const noexcept { return roots_; }

  private:
    void remove_loose_sockets();

    state::StateRoots roots_;
    state::IpcPaths paths_;
    std::filesystem::path agent_;
    std::filesystem::path control_;
    bool published_ = false;
};

}  // namespace msb::runtime
