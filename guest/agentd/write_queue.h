// Bytes waiting for a descriptor that takes them when it likes: a child's stdin, a socket.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "agentd/input_budget.h"

namespace msb::agentd {

class WriteQueue {
  public:
    explicit WriteQueue(InputBudget& budget) : account_(budget) {}

    // What one frame brought, kept whole: errors are reported per frame.
    void push(std::span<const std::byte> frame);
    bool empty() const { return frames_.empty(); }
    void clear();

    enum class Result { kDrained, kBlocked, kFailed };
    // Writes until the descriptor blocks. On kFailed `error` has the errno and the frame it hit is
    // gone; call again for the next one.
    Result write_to(int fd, int& error);

  private:
    void pop();

    std::deque<std::vector<std::byte>> frames_;
    std::size_t offset_ = 0;  // into the first frame
    QueueAccount account_;
};

}  // namespace msb::agentd
