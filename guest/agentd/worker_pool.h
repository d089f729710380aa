// Threads for calls that may block: file systems of the guest (FUSE, FIFOs, slow disks), name look-ups.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agentd/event_loop.h"

namespace msb::agentd {

// Threads are started when all others are busy, up to `limit`, and kept.
class WorkerPool {
  public:
    using Task = std::function<void()>;

    explicit WorkerPool(std::size_t limit) : limit_(limit) {}
    // Waits for running tasks; tasks that have not started are dropped.
    ~WorkerPool();
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    // Any thread. Tasks must not throw.
    void submit(Task task);

  private:
    void run();

    const std::size_t limit_;
    std::mutex mutex_;
    std::condition_variable ready_;
    std::deque<Task> tasks_;  // all below guarded by mutex_
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    bool stopping_ = false;
};

// Jobs of one key run one after the other in the order they came; different keys run in parallel.
// Loop thread only.
class Strands {
  public:
    Strands(EventLoop& loop, WorkerPool& pool) : loop_(loop), pool_(pool) {}

    // `work` runs on a worker, then `done` on the loop, then the key's next job.
    void submit(std::uint64_t key, WorkerPool::Task work, EventLoop::Task done);

  private:
    struct Job {
        WorkerPool::Task work;
        EventLoop::Task done;
    };
    void start(std::uint64_t key);
    void finish(std::uint64_t key);

    EventLoop& loop_;
    WorkerPool& pool_;
    std::unordered_map<std::uint64_t, std::deque<Job>> queues_;  // the first job of each is running
};

}  // namespace msb::agentd
