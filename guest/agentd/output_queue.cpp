#include "agentd/output_queue.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace msb::agentd {

namespace {

// What one write(2) to a virtio-serial port can take (drivers/char/virtio_console.c copies at most
// 32 KiB); larger writes only cost a larger retry.
constexpr std::size_t kWriteSize = 32 * 1024;

}  // namespace

void OutputQueue::send_data(std::uint32_t id, protocol::MessageType type,
                            std::span<const std::byte> data) {
    std::size_t before;
    {
        std::lock_guard lock(mutex_);
        std::size_t start = pending_.size();
        if (!protocol::append_data_frame_head(pending_, id, type, data.size())) return;
        pending_.insert(pending_.end(), data.begin(), data.end());
        before = size_.fetch_add(pending_.size() - start);
    }
    finish(type, before);
}

void OutputQueue::finish(protocol::MessageType type, std::size_t size_before) {
    using enum protocol::MessageType;
    if (type != kPong && type != kTouched && type != kError) activity_.count_guest_message();
    if (size_before == 0) wake_();
}

void OutputQueue::set_flow(const protocol::RuntimeFlow& flow) {
    std::lock_guard lock(mutex_);
    std::erase_if(paused_, [&](const auto& known) { return known.id_start == flow.id_start; });
    if (flow.paused && paused_.size() < protocol::kMaxClients) paused_.push_back(flow);
    any_paused_ = !paused_.empty();
    room_.notify_all();
}

bool OutputQueue::paused_locked(std::uint32_t id) const {
    return std::ranges::any_of(paused_, [&](const auto& flow) {
        return id >= flow.id_start && id < flow.id_end_exclusive;
    });
}

bool OutputQueue::paused(std::uint32_t id) const {
    std::lock_guard lock(mutex_);
    return paused_locked(id);
}

bool OutputQueue::wait_for_room(std::uint32_t id, const std::atomic<bool>& abandoned) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return (!congested() && !paused_locked(id)) || abandoned || closed_; });
    return !abandoned && !closed_;
}

void OutputQueue::wake_waiters() {
    std::lock_guard lock(mutex_);
    room_.notify_all();
}

void OutputQueue::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    room_.notify_all();
}

OutputQueue::Flush OutputQueue::flush(int fd) {
    for (;;) {
        if (written_ == writing_.size()) {
            writing_.clear();
            written_ = 0;
            std::lock_guard lock(mutex_);
            if (pending_.empty()) return Flush::kDrained;
            writing_.swap(pending_);
        }
        std::size_t size = std::min(writing_.size() - written_, kWriteSize);
        ssize_t n = ::write(fd, writing_.data() + written_, size);
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno == EAGAIN ? Flush::kBlocked : Flush::kFailed;
        }
        written_ += static_cast<std::size_t>(n);
        std::size_t before = size_.fetch_sub(static_cast<std::size_t>(n));
        if (before > kHighWater && !congested()) wake_waiters();
    }
}

}  // namespace msb::agentd
