// core.exec.*: starting processes, routing their input and reaping them
// (spec/guest-agent.md sections 9 and 16). Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "agentd/config.h"
#include "agentd/exec_session.h"

namespace msb::agentd {

class ExecService {
  public:
    ExecService(const ExecSession::Context& context, const AgentConfig& config)
        : context_(context), config_(config) {}

    void request(std::uint32_t id, const protocol::ExecRequest& request);
    void write_stdin(std::uint32_t id, std::span<const std::byte> data);
    void resize(std::uint32_t id, const protocol::ExecResize& size);
    void signal(std::uint32_t id, int number);

    void signal_all(int number);
    void resume_output();
    // Reaps exited children, ours and adopted ones. False when there may be more: the caller lets
    // other work run first. Throws Error{kIo} when waiting itself fails.
    bool reap();

  private:
    using Key = std::uint64_t;  // an id may name two sessions, the older one displaced

    // Throws Failure or Error; the session is then not started.
    void start(std::uint32_t id, const protocol::ExecRequest& request);
    void adopt(std::uint32_t id, pid_t pid, SessionStreams streams);
    void finish(Key key);
    ExecSession* find(std::uint32_t id);

    ExecSession::Context context_;
    const AgentConfig& config_;
    std::unordered_map<Key, std::unique_ptr<ExecSession>> sessions_;
    std::unordered_map<std::uint32_t, Key> by_id_;
    std::unordered_map<pid_t, Key> by_pid_;
    Key next_key_ = 0;
};

}  // namespace msb::agentd
