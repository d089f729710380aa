// Creating and starting sandboxes: rows, directories, locks, the process and its handshake (spec/state.md section 6,
// spec/sandbox-process.md sections 2 to 6).
#pragma once

#include <microsandbox/image.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "contract/process_args.h"
#include "sdk/agent_client.h"
#include "sdk/child_process.h"
#include "sdk/local_backend.h"
#include "sdk/wait.h"
#include "state/sandbox_config.h"

namespace msb::sdk {

struct LaunchOptions {
    bool detached = false;
    std::filesystem::path runtime_path;  // empty: find_runtime_binary()
    bool startup = false;                // run the default command as a background workload
    // The command an attached caller is going to run, unset: the default one. Only used when the image brings an init
    // that runs commands itself (spec/images.md section 15).
    bool foreground = false;
    std::optional<std::vector<std::string>> foreground_command;
    bool replace = false;
    std::chrono::milliseconds replace_grace{10'000};
    microsandbox::RegistryOptions registry;  // for pulling the image
    microsandbox::PullProgress pull_progress;
    std::chrono::milliseconds startup_line_timeout{1000 * contract::kStartupLineTimeoutSecs};
};

// A sandbox whose agent has answered.
struct Launched {
    std::int64_t id = 0;
    state::SandboxConfig config;
    std::shared_ptr<ChildProcess> process;
    UniqueFd
        watchdog;  // write end; closing it without the detach byte stops the sandbox. Unset when detached.
    std::shared_ptr<AgentClient> client;
    bool init_owns_command =
        false;  // the image's init runs the workload; nobody else needs to start one
};

// `config` has been validated by the builder. Throws what SandboxBuilder::create documents.
Launched create_sandbox(const std::shared_ptr<LocalBackend>& backend, state::SandboxConfig config,
                        const LaunchOptions& options, const Cancel& cancel);
// `expected_id`: the identity a handle remembers.
Launched start_sandbox(const std::shared_ptr<LocalBackend>& backend, const std::string& name,
                       std::optional<std::int64_t> expected_id, const LaunchOptions& options,
                       const Cancel& cancel);

}  // namespace msb::sdk
