// The heartbeat, and the port "runtime" beside the agent's: our own extension, see docs/guest-agent.md.
//
// One thread of its own, so that the heartbeat ticks and CPUs are switched while the loop is busy.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "agentd/activity.h"
#include "agentd/cpus.h"
#include "base/fd.h"
#include "protocol/codec.h"

namespace msb::agentd {

// The content of heartbeat.json.
std::string heartbeat_json(const protocol::RuntimeHeartbeat& beat);

class RuntimeChannel {
  public:
    // With an empty `port` the beats go to <directory>/heartbeat.json instead, as upstream does.
    // `activity` must outlive the object.
    // `flow` is called on the channel's thread for every runtime.flow.
    RuntimeChannel(const Activity& activity, UniqueFd port, std::string directory,
                   Cpus cpus = Cpus(), std::function<void(const protocol::RuntimeFlow&)> flow = {});
    ~RuntimeChannel();
    RuntimeChannel(const RuntimeChannel&) = delete;
    RuntimeChannel& operator=(const RuntimeChannel&) = delete;

  private:
    void run();
    void beat();
    void write_file() const;
    void wait_until(std::int64_t deadline_ns);
    void read_port();
    void handle(const protocol::FrameView& frame);
    void flush();

    const Activity& activity_;
    UniqueFd port_;
    std::string directory_;
    Cpus cpus_;
    std::function<void(const protocol::RuntimeFlow&)> flow_;
    UniqueFd stop_;  // eventfd
    std::atomic<bool> stopping_ = false;
    std::uint64_t sequence_ = 0;
    protocol::FrameReader reader_;
    protocol::ByteBuffer pending_;  // what the host has not taken yet
    std::thread thread_;            // last: everything above exists when it starts
};

}  // namespace msb::agentd
