#include "agentd/write_queue.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace msb::agentd {

void WriteQueue::push(std::span<const std::byte> frame) {
    frames_.emplace_back(frame.begin(), frame.end());
    account_.add(frame.size());
}

void WriteQueue::pop() {
    account_.remove(frames_.front().size());
    frames_.pop_front();
    offset_ = 0;
}

void WriteQueue::clear() {
    frames_.clear();
    offset_ = 0;
    account_.remove(account_.bytes());
}

WriteQueue::Result WriteQueue::write_to(int fd, int& error) {
    while (!frames_.empty()) {
        const std::vector<std::byte>& frame = frames_.front();
        ssize_t n = ::write(fd, frame.data() + offset_, frame.size() - offset_);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return Result::kBlocked;
        if (n < 0) {
            error = errno;
            pop();
            return Result::kFailed;
        }
        offset_ += static_cast<std::size_t>(n);
        if (offset_ == frame.size()) pop();
    }
    return Result::kDrained;
}

}  // namespace msb::agentd
