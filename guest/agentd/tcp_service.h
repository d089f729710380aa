// core.tcp.*: connections from inside the guest (spec/guest-agent.md section 12).
// Loop thread only; name look-ups happen on workers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "agentd/activity.h"
#include "agentd/event_loop.h"
#include "agentd/output_queue.h"
#include "agentd/resolver.h"
#include "agentd/worker_pool.h"
#include "agentd/write_queue.h"
#include "base/fd.h"

namespace msb::agentd {

// One stream, from its connect request to its end.
class TcpSession {
  public:
    struct Context {
        EventLoop& loop;
        OutputQueue& output;
        Activity& activity;
        InputBudget& budget;
    };

    // `ended` is called as the last thing a member function does, after the terminal message; it
    // destroys the session.
    TcpSession(const Context& context, std::uint32_t id, const protocol::TcpConnect& target,
               std::function<void()> ended);
    ~TcpSession();

    // The addresses to try, or why there are none.
    void resolved(std::expected<std::vector<SocketAddress>, std::string> addresses);
    void send(std::span<const std::byte> data);
    void send_eof();
    void resume();

  private:
    void try_next_address();
    void attempt_failed(int err);
    void on_connect_event();
    void connected();
    void on_stream_event(std::uint32_t events);
    void read_stream();
    bool flush();
    void update_interest();
    void fail(const std::string& text);

    Context context_;
    std::uint32_t id_;
    std::string label_;  // "HOST:PORT"
    std::function<void()> ended_;
    EventLoop::TimerId deadline_;
    std::vector<SocketAddress> addresses_;
    std::size_t next_address_ = 0;
    int last_error_ = 0;
    UniqueFd socket_;
    std::unique_ptr<Watch> watch_;  // destroyed before socket_
    WriteQueue queue_;
    bool connected_ = false;
    bool blocked_ = false;  // the socket takes no more for now
    bool paused_ = false;   // the host takes no more for now
    bool read_ended_ = false;
    bool eof_wanted_ = false;
    bool write_ended_ = false;
};

class TcpService {
  public:
    TcpService(const TcpSession::Context& context, WorkerPool& pool)
        : context_(context), pool_(pool) {}

    void connect(std::uint32_t id, const protocol::TcpConnect& target);
    void data(std::uint32_t id, std::span<const std::byte> bytes);
    void eof(std::uint32_t id);
    void close(std::uint32_t id);
    void disconnect(std::uint32_t start, std::uint32_t end);
    void resume_output();

  private:
    struct Entry {
        std::uint64_t key;
        std::unique_ptr<TcpSession> session;
    };
    void remove(std::uint32_t id, std::uint64_t key);
    void update_count();

    TcpSession::Context context_;
    WorkerPool& pool_;
    std::unordered_map<std::uint32_t, Entry> sessions_;
    std::uint64_t next_key_ = 0;  // tells a session from an earlier one of the same id
};

}  // namespace msb::agentd
