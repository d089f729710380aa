// The agent's single epoll loop: descriptors, one-shot timers, and work posted by other threads.
//
// Everything runs on the thread that calls poll_once(), except post(), which any thread may call.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/fd.h"

namespace msb::agentd {

class EventLoop {
  public:
    using Handler = std::function<void(std::uint32_t events)>;
    using Task = std::function<void()>;
    using TimerId = std::pair<std::int64_t, std::uint64_t>;  // deadline (monotonic ns), sequence

    // Throws Error{kIo}.
    EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    // Runs `task` on the loop's thread, soon.
    void post(Task task);

    TimerId after(std::int64_t delay_ns, Task task);
    void cancel(const TimerId& timer) { timers_.erase(timer); }

    // Waits for something to happen and handles everything that did.
    void poll_once();

  private:
    friend class Watch;
    struct Slot {
        std::uint32_t generation = 0;
        std::shared_ptr<Handler> handler;  // shared: a handler may destroy its own Watch
    };

    std::uint32_t claim_slot(Handler handler);
    void release_slot(std::uint32_t slot);
    int timeout_ms() const;
    void run_timers();
    void run_posted();

    UniqueFd epoll_;
    UniqueFd wake_;
    std::vector<Slot> slots_;
    std::vector<std::uint32_t> free_slots_;
    std::map<TimerId, Task> timers_;
    std::uint64_t next_timer_ = 0;
    std::mutex posted_mutex_;
    std::vector<Task> posted_;  // guarded by posted_mutex_
};

// One watched descriptor (not owned). No event is delivered after destruction, not even one already
// fetched from the kernel.
class Watch {
  public:
    Watch(EventLoop& loop, int fd, EventLoop::Handler handler);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    // The events waited for. 0 takes the descriptor out of the set altogether: the kernel would
    // otherwise report a hang-up again and again. Returns 0 or the errno (EPERM: a regular file).
    int want(std::uint32_t events);
    std::uint32_t wanted() const { return events_; }

  private:
    EventLoop& loop_;
    int fd_;
    std::uint32_t slot_;
    std::uint32_t events_ = 0;
};

}  // namespace msb::agentd
