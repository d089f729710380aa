// The agent loop: frames in, services, frames out (spec/guest-agent.md section 8).
//
// One thread runs everything here. fs work and name look-ups happen on worker threads that only touch
// the output queue and post results back to the loop.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "agentd/activity.h"
#include "agentd/config.h"
#include "agentd/event_loop.h"
#include "agentd/exec_service.h"
#include "agentd/fs_service.h"
#include "agentd/input_budget.h"
#include "agentd/output_queue.h"
#include "agentd/tcp_service.h"
#include "agentd/worker_pool.h"
#include "base/fd.h"
#include "protocol/codec.h"

namespace msb::agentd {

class Agent {
  public:
    // `port` is non-blocking; `reader` may hold frames that came behind the boot frames already.
    // Blocks SIGCHLD in the calling thread: create it before any other thread.
    Agent(UniqueFd port, protocol::FrameReader reader, AgentConfig config);
    ~Agent();

    const Activity& activity() const { return activity_; }

    // runtime.flow: pauses (resumes) what one client's sessions produce. Any thread.
    void apply_flow(const protocol::RuntimeFlow& flow);

    // Not counted as activity: it is what starts the counting.
    void send_ready(const protocol::Ready& ready);

    enum class End { kShutdown, kPortClosed };
    // Serves until core.shutdown or, unless handed off, the end of the port. All sessions have got
    // SIGTERM when it returns kShutdown. Throws Error or Failure when the loop cannot go on.
    End run();

  private:
    void on_port_event(std::uint32_t events);
    void on_child_exit();
    void reap();
    void read_port();
    void port_lost();
    void settle();
    bool input_stopped() const { return output_.input_must_stop() || budget_.full(); }
    void process_frames();
    void process(const protocol::FrameView& frame);
    void dispatch(const protocol::FrameView& frame, const protocol::Envelope& envelope);
    void dispatch_core(const protocol::FrameView& frame, const protocol::Envelope& envelope);
    void dispatch_exec(const protocol::FrameView& frame, const protocol::Envelope& envelope);
    void dispatch_fs(const protocol::FrameView& frame, const protocol::Envelope& envelope);
    void dispatch_tcp(const protocol::FrameView& frame, const protocol::Envelope& envelope);
    void begin_shutdown();
    template <class M>
    std::optional<M> decode(const protocol::FrameView& frame, const protocol::Envelope& envelope);
    void reject(const protocol::FrameView& frame, std::uint8_t generation,
                protocol::ErrorMessage error);

    AgentConfig config_;
    UniqueFd port_;
    protocol::FrameReader reader_;
    Activity activity_;
    InputBudget budget_;
    UniqueFd child_signals_;  // signalfd
    EventLoop loop_;
    OutputQueue output_;
    std::unique_ptr<Watch> port_watch_;
    std::unique_ptr<Watch> child_watch_;
    std::unique_ptr<ExecService> exec_;
    std::unique_ptr<FsService> fs_;
    std::unique_ptr<TcpService> tcp_;
    WorkerPool workers_;  // last: its threads use what stands above and are joined first
    bool output_blocked_ = false;
    bool port_lost_ = false;
    std::optional<End> end_;
};

}  // namespace msb::agentd
