// The inside of Sandbox and SandboxHandle.
#pragma once

#include <microsandbox/sandbox.h>

#include <memory>
#include <mutex>
#include <string>

#include "sdk/agent_client.h"
#include "sdk/launcher.h"
#include "sdk/lifecycle.h"

namespace microsandbox {

struct SandboxHandle::Impl {
    std::shared_ptr<msb::sdk::LocalBackend> backend;
    msb::state::SandboxRow row;
    std::optional<Timestamp> created_at, updated_at;

    msb::sdk::Target target() const { return {backend, row.name, row.id}; }
};

// Thread-safe. Copies of a Sandbox and its fs() objects share it; running commands only refer to it weakly, so that
// they do not keep a sandbox alive. Destroying it closes the watchdog.
struct Sandbox::Impl {
    std::shared_ptr<msb::sdk::LocalBackend> backend;
    std::int64_t id = 0;
    msb::state::SandboxConfig config;
    std::string config_json;
    std::shared_ptr<msb::sdk::ChildProcess> process;  // started by us; else nullptr
    bool init_owns_command = false;

    Impl() = default;
    ~Impl();

    msb::sdk::Target target() const { return {backend, config.name, id}; }

    // A connection nobody else uses: the spare one, else a new one. Throws Error{kSandboxNotRunning} when the sandbox
    // is not running, else the connection error. `suffix` goes to the not-running text.
    std::shared_ptr<msb::sdk::AgentClient> take_client(const msb::sdk::Deadline& deadline,
                                                       const msb::sdk::Cancel& cancel,
                                                       std::string_view suffix = "");
    // Gives a connection without open streams back for the next operation.
    void return_client(std::shared_ptr<msb::sdk::AgentClient> client) noexcept;

    bool owns_lifecycle() const;
    void detach();

    mutable std::mutex mutex;  // everything below
    std::shared_ptr<msb::sdk::AgentClient> spare;
    msb::UniqueFd watchdog;  // open: we own the lifecycle
};

struct SandboxAccess {
    static Sandbox make(const std::shared_ptr<msb::sdk::LocalBackend>& backend,
                        msb::sdk::Launched launched);
    static Sandbox connect(const msb::sdk::Target& target, std::chrono::milliseconds timeout,
                           std::stop_token stop);
    static Sandbox start(const msb::sdk::Target& target, bool detached, std::stop_token stop);
};

struct HandleAccess {
    static SandboxHandle make(const std::shared_ptr<msb::sdk::LocalBackend>& backend,
                              msb::state::SandboxRow row);
};

// Shared by the two classes.
PingResult ping_agent(msb::sdk::AgentClient& client, const std::string& name,
                      const msb::sdk::Cancel& cancel);
TouchResult touch_agent(msb::sdk::AgentClient& client, const std::string& name,
                        const msb::sdk::Cancel& cancel);
StopResult wait_until_stopped(const msb::sdk::Target& target,
                              const std::shared_ptr<msb::sdk::ChildProcess>& process,
                              const msb::sdk::Cancel& cancel);

}  // namespace microsandbox
