// Frames on their way to the host.
//
// send() and send_data() may be called from any thread; flush() only from the loop. Answers are always
// accepted; producers of bulk data (pipes, sockets, file reads) look at must_pause() or wait_for_room()
// first, so that a host that does not read costs kHighWater bytes of guest memory, not all of it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "agentd/activity.h"
#include "protocol/codec.h"

namespace msb::agentd {

class OutputQueue {
  public:
    static constexpr std::size_t kHighWater = std::size_t{1} << 20;
    static constexpr std::size_t kLowWater = kHighWater / 4;
    // Beyond this (answers to a flood of requests) the loop stops reading requests as well.
    static constexpr std::size_t kInputStop = std::size_t{8} << 20;

    // `wake` makes the loop call flush(); it is called from the sending thread when the queue was
    // empty.
    OutputQueue(Activity& activity, std::function<void()> wake)
        : activity_(activity), wake_(std::move(wake)) {}

    // False (and nothing is sent) when the frame would be larger than the protocol allows.
    template <class M>
    bool send(std::uint32_t id, const M& message) {
        std::size_t before;
        {
            std::lock_guard lock(mutex_);
            std::size_t start = pending_.size();
            if (!protocol::append_frame(pending_, id, message)) return false;
            before = size_.fetch_add(pending_.size() - start);
        }
        finish(M::kType, before);
        return true;
    }
    // One frame of a DataMessage type.
    void send_data(std::uint32_t id, protocol::MessageType type, std::span<const std::byte> data);

    bool congested() const { return size_ > kHighWater; }
    // Loop thread: whether the producer of this session must stop for now, because the port is
    // congested or its client does not keep up (runtime.flow). In the first case it is owed a resume,
    // which resume_due() asks for exactly once; in the second, set_flow()'s caller resumes it.
    bool must_pause(std::uint32_t id) {
        if (!congested()) return any_paused_ && paused(id);
        resume_owed_ = true;
        return true;
    }
    bool resume_due() { return size_ <= kLowWater && std::exchange(resume_owed_, false); }
    // Stops (lets go on) the producers of a range of ids. Any thread; what was paused has to be
    // resumed by the caller.
    void set_flow(const protocol::RuntimeFlow& flow);
    bool input_must_stop() const { return size_ > kInputStop; }
    bool empty() const { return size_ == 0; }

    // Blocks a worker thread until there is room. False when `abandoned` turned true meanwhile
    // (wake_waiters() makes waiters look again) or when the queue was closed.
    bool wait_for_room(std::uint32_t id, const std::atomic<bool>& abandoned);
    void wake_waiters();
    // The agent is going away: no thread waits any more.
    void close();

    enum class Flush { kDrained, kBlocked, kFailed };
    // Writes as much as the descriptor takes. kFailed leaves the reason in errno.
    Flush flush(int fd);

  private:
    bool paused(std::uint32_t id) const;
    bool paused_locked(std::uint32_t id) const;
    // Counts the message and wakes the loop when the queue had been empty.
    void finish(protocol::MessageType type, std::size_t size_before);

    Activity& activity_;
    std::function<void()> wake_;
    mutable std::mutex mutex_;
    std::condition_variable room_;
    protocol::ByteBuffer pending_;               // guarded by mutex_
    protocol::ByteBuffer writing_;               // loop thread only
    std::size_t written_ = 0;                    // of writing_
    std::atomic<std::size_t> size_ = 0;          // pending_ and the rest of writing_
    bool closed_ = false;                        // guarded by mutex_
    bool resume_owed_ = false;                   // loop thread only
    std::vector<protocol::RuntimeFlow> paused_;  // guarded by mutex_, at most one per client
    std::atomic<bool> any_paused_ = false;       // lets the usual case do without the lock
};

}  // namespace msb::agentd
