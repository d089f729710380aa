// Memory held by data the host sent and nobody in the guest has taken yet.
//
// Nothing on the wire can slow down one stream, so a consumer that does not read is given a queue; only
// when a queue outgrows its share does the agent stop reading its port, as it would have to without
// queues after 64 KiB. Loop thread only.
#pragma once

#include <sys/sysinfo.h>

#include <algorithm>
#include <cstddef>

namespace msb::agentd {

class InputBudget {
  public:
    // The smaller of a fixed size and a share of the guest's memory.
    static constexpr std::size_t kPerQueue = std::size_t{16} << 20;
    static constexpr std::size_t kTotal = std::size_t{64} << 20;

    InputBudget() {
        struct sysinfo info;
        if (::sysinfo(&info) != 0) return;
        std::size_t memory = std::size_t{info.totalram} * info.mem_unit;
        per_queue_ = std::min(per_queue_, memory / 16);
        total_limit_ = std::min(total_limit_, memory / 4);
    }
    InputBudget(std::size_t per_queue, std::size_t total)
        : per_queue_(per_queue), total_limit_(total) {}

    bool full() const { return queues_over_ > 0 || total_ > total_limit_; }

  private:
    friend class QueueAccount;
    std::size_t per_queue_ = kPerQueue;
    std::size_t total_limit_ = kTotal;
    std::size_t total_ = 0;
    std::size_t queues_over_ = 0;
};

// The share of one queue; gives everything back when destroyed.
class QueueAccount {
  public:
    explicit QueueAccount(InputBudget& budget) : budget_(budget) {}
    ~QueueAccount() { remove(bytes_); }
    QueueAccount(const QueueAccount&) = delete;
    QueueAccount& operator=(const QueueAccount&) = delete;

    void add(std::size_t n) { set(bytes_ + n); }
    void remove(std::size_t n) { set(bytes_ - std::min(n, bytes_)); }
    std::size_t bytes() const { return bytes_; }

  private:
    void set(std::size_t bytes) {
        bool was_over = bytes_ > budget_.per_queue_;
        budget_.total_ = budget_.total_ - bytes_ + bytes;
        bytes_ = bytes;
        bool is_over = bytes_ > budget_.per_queue_;
        if (is_over && !was_over) ++budget_.queues_over_;
        if (!is_over && was_over) --budget_.queues_over_;
    }

    InputBudget& budget_;
    std::size_t bytes_ = 0;
};

}  // namespace msb::agentd
