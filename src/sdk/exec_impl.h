// The inside of running commands.
#pragma once

#include <microsandbox/exec.h>
#include <microsandbox/sandbox.h>

#include <atomic>
#include <memory>
#include <thread>

#include "sdk/agent_client.h"
#include "sdk/sandbox_impl.h"

namespace microsandbox {

// What handle, stdin and controls share. `client` outlives the session; the handle closes it to end the session.
struct ExecControl::Impl {
    std::shared_ptr<msb::sdk::AgentClient> client;
    std::uint32_t id = 0;
    bool tty = false;
    std::atomic<bool> ended{false};

    void signal(int number);
    void resize(std::uint16_t rows, std::uint16_t cols);
    // Sends all of `data` in frames of at most 3 MiB; nothing once the session ended.
    void write_stdin(std::string_view data, const msb::sdk::Cancel& cancel);
    void close_stdin(const msb::sdk::Cancel& cancel);
};

struct ExecStdin::Impl {
    std::shared_ptr<ExecControl::Impl> session;
    bool closed = false;
};

struct ExecHandle::Impl {
    std::shared_ptr<ExecControl::Impl> session;
    msb::sdk::AgentClient::Stream stream;
    std::weak_ptr<Sandbox::Impl> sandbox;  // gets the connection back
    bool stdin_pipe = false;
    bool finished = false;      // the last event was taken
    std::jthread stdin_writer;  // StdinMode::kBytes with more than a socket buffer holds

    ~Impl();
    // nullopt: the end, or `timed_out`.
    std::optional<ExecEvent> next(const msb::sdk::Deadline& deadline,
                                  const msb::sdk::Cancel& cancel, bool& timed_out);
    // Takes events until the last one, output into `output` (nullptr discards it). nullopt: the deadline passed first.
    // Throws ExecFailedError.
    std::optional<ExitStatus> run_to_end(ExecOutput* output, const msb::sdk::Deadline& deadline,
                                         const msb::sdk::Cancel& cancel);
    void finish();
};

struct ExecAccess {
    static ExecHandle start(const std::shared_ptr<Sandbox::Impl>& sandbox,
                            const std::string& command, const std::vector<std::string>& args,
                            const ExecOptions& options, const msb::sdk::Cancel& cancel);
    static ExecHandle::Impl& impl(ExecHandle& handle) { return *handle.impl_; }
};

}  // namespace microsandbox
