#include "agentd/worker_pool.h"

#include <utility>

namespace msb::agentd {

WorkerPool::~WorkerPool() {
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
        tasks_.clear();
    }
    ready_.notify_all();
    for (std::thread& thread : threads_)
        thread.join();
}

void WorkerPool::submit(Task task) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ < tasks_.size() && threads_.size() < limit_) threads_.emplace_back([this] { run(); });
    ready_.notify_one();
}

void WorkerPool::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        ++idle_;
        ready_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        --idle_;
        if (stopping_) return;
        Task task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        task = nullptr;  // what it owns is released outside the lock
        lock.lock();
    }
}

void Strands::submit(std::uint64_t key, WorkerPool::Task work, EventLoop::Task done) {
    std::deque<Job>& queue = queues_[key];
    queue.push_back({std::move(work), std::move(done)});
    if (queue.size() == 1) start(key);
}

void Strands::start(std::uint64_t key) {
    // The job stays here, where its queue keeps it in place: what it owns must be released on the loop.
    pool_.submit([this, key, job = &queues_.at(key).front()] {
        job->work();
        loop_.post([this, key] { finish(key); });
    });
}

void Strands::finish(std::uint64_t key) {
    // The finished job keeps its place while `done` runs: the next one must not start before what it
    // shares with this one was looked at.
    EventLoop::Task done = std::move(queues_.at(key).front().done);
    done();
    std::deque<Job>& queue = queues_.at(key);
    queue.pop_front();
    if (queue.empty())
        queues_.erase(key);
    else
        start(key);
}

}  // namespace msb::agentd
