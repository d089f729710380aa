// One process tree started for the host and the streams that belong to it
// (spec/guest-agent.md section 9).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "agentd/activity.h"
#include "agentd/event_loop.h"
#include "agentd/output_queue.h"
#include "agentd/write_queue.h"
#include "base/fd.h"

namespace msb::agentd {

// The agent's ends of a child's stdio. With a terminal `output` is its master and also takes input;
// `input` and `errors` are empty then.
struct SessionStreams {
    bool tty = false;
    UniqueFd input;
    UniqueFd output;
    UniqueFd errors;
};

class ExecSession {
  public:
    struct Context {
        EventLoop& loop;
        OutputQueue& output;
        Activity& activity;
        InputBudget& budget;
    };

    // `finished` is called (perhaps from within a member function, as the last thing it does) once the
    // process is reaped and its output is drained; it may destroy the session.
    ExecSession(const Context& context, std::uint32_t id, pid_t pid, SessionStreams streams,
                std::function<void()> finished);

    std::uint32_t id() const { return id_; }
    pid_t pid() const { return pid_; }

    void start();
    void write_stdin(std::span<const std::byte> data);
    void resize(std::uint16_t rows, std::uint16_t cols);
    // To the process group, also when its leader is gone but members are left.
    void signal(int number);
    void reaped(int wait_status);
    // Output may flow again.
    void resume();
    // Another session took over the id: the spec has its exit reported as -1.
    void displace() { displaced_ = true; }
    std::int32_t exit_code() const { return displaced_ ? -1 : exit_code_; }

  private:
    struct Stream {
        UniqueFd fd;
        std::unique_ptr<Watch> watch;  // destroyed before fd
        protocol::MessageType type{};
        bool paused = false;
        bool ended = true;  // false from start() to the end of the output
    };

    void watch_stream(Stream& stream);
    void on_output_event(Stream& stream, std::uint32_t events);
    void read_stream(Stream& stream);
    void end_stream(Stream& stream);
    void update_interest(Stream& stream);
    void flush_stdin();
    void close_stdin();
    void finish_if_done();
    int stdin_fd() const { return tty_ ? output_.fd.get() : input_.get(); }

    Context context_;
    std::uint32_t id_;
    pid_t pid_;
    UniqueFd pidfd_;
    bool tty_;
    Stream output_;
    Stream errors_;
    UniqueFd input_;
    std::unique_ptr<Watch> input_watch_;  // destroyed before input_
    WriteQueue stdin_queue_;
    bool stdin_blocked_ = false;
    bool stdin_closing_ = false;
    bool reaped_ = false;
    bool displaced_ = false;
    bool done_ = false;
    std::int32_t exit_code_ = -1;
    std::function<void()> finished_;
};

}  // namespace msb::agentd
