#include "agentd/event_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "base/error.h"
#include "base/time.h"

namespace msb::agentd {

namespace {

constexpr std::size_t kEventsPerWait = 64;
constexpr std::uint64_t kWakeKey = UINT64_MAX;
constexpr std::int64_t kNsPerMs = 1'000'000;

}  // namespace

EventLoop::EventLoop()
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!epoll_ || !wake_) throw_os_error(errno, "create the event loop");
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeKey}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0)
        throw_os_error(errno, "watch the wake-up descriptor");
}

void EventLoop::post(Task task) {
    {
        std::lock_guard lock(posted_mutex_);
        posted_.push_back(std::move(task));
        if (posted_.size() > 1) return;  // the wake-up is already on its way
    }
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

EventLoop::TimerId EventLoop::after(std::int64_t delay_ns, Task task) {
    TimerId id{monotonic_ns() + delay_ns, next_timer_++};
    timers_.emplace(id, std::move(task));
    return id;
}

int EventLoop::timeout_ms() const {
    if (timers_.empty()) return -1;
    std::int64_t left = timers_.begin()->first.first - monotonic_ns();
    if (left <= 0) return 0;
    return static_cast<int>(std::min<std::int64_t>((left + kNsPerMs - 1) / kNsPerMs, INT_MAX));
}

void EventLoop::run_timers() {
    std::int64_t now = monotonic_ns();
    while (!timers_.empty() && timers_.begin()->first.first <= now) {
        auto timer = timers_.extract(timers_.begin());
        timer.mapped()();
    }
}

void EventLoop::run_posted() {
    std::uint64_t count = 0;
    [[maybe_unused]] ssize_t n = ::read(wake_.get(), &count, sizeof count);
    std::vector<Task> tasks;
    {
        std::lock_guard lock(posted_mutex_);
        tasks.swap(posted_);
    }
    for (Task& task : tasks)
        task();
}

void EventLoop::poll_once() {
    std::array<epoll_event, kEventsPerWait> events;
    int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms());
    if (count < 0 && errno != EINTR) throw_os_error(errno, "epoll_wait");
    for (int i = 0; i < count; ++i) {
        std::uint64_t key = events[static_cast<std::size_t>(i)].data.u64;
        if (key == kWakeKey) {
            run_posted();
            continue;
        }
        Slot& slot = slots_[static_cast<std::uint32_t>(key)];
        if (slot.generation != key >> 32 || !slot.handler) continue;
        std::shared_ptr<Handler> handler = slot.handler;
        (*handler)(events[static_cast<std::size_t>(i)].events);
    }
    run_timers();
}

std::uint32_t EventLoop::claim_slot(Handler handler) {
    if (free_slots_.empty()) {
        free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
        slots_.emplace_back();
    }
    std::uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[slot].handler = std::make_shared<Handler>(std::move(handler));
    return slot;
}

void EventLoop::release_slot(std::uint32_t slot) {
    slots_[slot].handler.reset();
    ++slots_[slot].generation;
    free_slots_.push_back(slot);
}

Watch::Watch(EventLoop& loop, int fd, EventLoop::Handler handler)
    : loop_(loop), fd_(fd), slot_(loop.claim_slot(std::move(handler))) {}

Watch::~Watch() {
    want(0);
    loop_.release_slot(slot_);
}

int Watch::want(std::uint32_t events) {
    if (events == events_) return 0;
    int operation = events == 0 ? EPOLL_CTL_DEL : events_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    std::uint64_t key = std::uint64_t{loop_.slots_[slot_].generation} << 32 | slot_;
    epoll_event event{.events = events, .data = {.u64 = key}};
    if (::epoll_ctl(loop_.epoll_.get(), operation, fd_, &event) != 0) return errno;
    events_ = events;
    return 0;
}

}  // namespace msb::agentd
