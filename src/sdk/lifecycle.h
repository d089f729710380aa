// Reading, ending and removing sandboxes by their rows (spec/state.md sections 6 and 7, spec/sdk.md section 5).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/file_lock.h"
#include "sdk/agent_client.h"
#include "sdk/local_backend.h"
#include "sdk/wait.h"
#include "state/sandbox_rows.h"

namespace msb::sdk {

inline constexpr std::chrono::seconds kAgentConnectTimeout{
    10};  // handshake, spec/protocol.md section 0
inline constexpr std::chrono::seconds kStopConnectTimeout{5};
inline constexpr std::chrono::seconds kKillWait{5};

// The sandbox a call is about. With an id the name must still belong to it: Error{kSandboxReplaced},
// Error{kSandboxNotFound}.
struct Target {
    std::shared_ptr<LocalBackend> backend;
    std::string name;
    std::optional<std::int64_t> id;
};

// The reconciled row.
state::SandboxRow read_row(const Target& target);
// The same; nullopt when the row is gone (an ephemeral sandbox removes itself) or belongs to another sandbox.
std::optional<state::SandboxRow> find_row(const Target& target);

// Connects to the agent of a sandbox: canonical path, legacy link, pre-hash fallback (spec/protocol.md section 14).
// Throws Error{kSandboxNotRunning} `sandbox "n" has no agent endpoint (is it running?)` when no path exists, else the last
// connection error.
std::shared_ptr<AgentClient> connect_agent(const LocalBackend& backend, const std::string& name,
                                           const Deadline& deadline, const Cancel& cancel);
// Error{kSandboxNotRunning} "sandbox 'x' is not running (status: Stopped)<suffix>" unless running or draining.
void require_running(const state::SandboxRow& row, std::string_view suffix = "");

void request_stop(const Target& target);
void stop(const Target& target, std::chrono::milliseconds timeout, const Cancel& cancel);
void kill(const Target& target, std::chrono::milliseconds timeout, const Cancel& cancel);
void drain(const Target& target);
void remove(const Target& target, const Cancel& cancel);

// Waits for a terminal status or the row's end. nullopt: the row is gone. `in_time` false: the deadline passed first.
std::optional<state::SandboxRow> wait_terminal(const Target& target, const Deadline& deadline,
                                               const Cancel& cancel, bool& in_time);

// The lock that serialises create, start and remove of a name. Waits without limit, but cancellably.
FileLock lock_creation(const LocalBackend& backend, const std::string& name, const Cancel& cancel);

}  // namespace msb::sdk
