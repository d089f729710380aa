#include "runtime/event_loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

namespace msb::runtime {

namespace asio = boost::asio;
using boost::system::error_code;

struct EventLoop::Impl {
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;
void EventLoop::run() {
    impl_->context.run();
}
void EventLoop::stop() {
    impl_->context.stop();
}
void EventLoop::post(std::function<void()> work) {
    asio::post(impl_->context, std::move(work));
}

// --- descriptors ------------------------------------------------------------------------------------------------

// Shared with the handlers in flight, so that they outlive a watch destroyed by its own callback.
struct FdWatch::State : std::enable_shared_from_this<FdWatch::State> {
    struct Direction {
        asio::posix::descriptor_base::wait_type type;
        std::function<void()> callback;
        bool wanted = false;
        bool armed = false;
    };

    State(EventLoop& loop, int fd, std::function<void()> readable, std::function<void()> writable)
        : descriptor(loop.impl().context, fd),
          read{asio::posix::descriptor_base::wait_read, std::move(readable)},
          write{asio::posix::descriptor_base::wait_write, std::move(writable)} {}

    void want(Direction& direction, bool on) {
        direction.wanted = on;
        arm(direction);
    }

    void arm(Direction& direction) {
        if (!direction.wanted || direction.armed || dead) return;
        direction.armed = true;
        descriptor.async_wait(direction.type,
                              [self = shared_from_this(), &direction](error_code error) {
                                  direction.armed = false;
                                  if (error || self->dead || !direction.wanted) return;
                                  direction.callback();
                                  self->arm(direction);
                              });
    }

    asio::posix::stream_descriptor descriptor;
    Direction read;
    Direction write;
    bool dead = false;
};

FdWatch::FdWatch(EventLoop& loop, int fd, std::function<void()> readable,
                 std::function<void()> writable)
    : state_(std::make_shared<State>(loop, fd, std::move(readable), std::move(writable))) {}

FdWatch::~FdWatch() {
    state_->dead = true;
    state_->descriptor.release();  // cancels; the descriptor stays open
}

void FdWatch::want_read(bool on) {
    state_->want(state_->read, on);
}
void FdWatch::want_write(bool on) {
    state_->want(state_->write, on);
}

// --- timers -----------------------------------------------------------------------------------------------------

struct Timer::State {
    State(EventLoop& loop, std::function<void()> callback)
        : timer(loop.impl().context), expired(std::move(callback)) {}
    asio::steady_timer timer;
    std::function<void()> expired;
    std::uint64_t epoch = 0;  // a handler already queued when the timer is restarted must not fire
};

Timer::Timer(EventLoop& loop, std::function<void()> expired)
    : state_(std::make_shared<State>(loop, std::move(expired))) {}

Timer::~Timer() {
    cancel();
}

void Timer::start_after(std::chrono::nanoseconds delay) {
    const std::uint64_t epoch = ++state_->epoch;
    state_->timer.expires_after(delay);
    state_->timer.async_wait([state = state_, epoch](error_code error) {
        if (!error && state->epoch == epoch) state->expired();
    });
}

void Timer::cancel() {
    ++state_->epoch;
    state_->timer.cancel();
}

// --- signals ----------------------------------------------------------------------------------------------------

struct SignalWatch::State : std::enable_shared_from_this<SignalWatch::State> {
    State(EventLoop& loop, std::function<void(int)> callback)
        : signals(loop.impl().context), received(std::move(callback)) {}

    void arm() {
        signals.async_wait([self = shared_from_this()](error_code error, int signal) {
            if (error || self->dead) return;
            self->received(signal);
            if (!self->dead) self->arm();
        });
    }

    asio::signal_set signals;
    std::function<void(int)> received;
    bool dead = false;
};

SignalWatch::SignalWatch(EventLoop& loop, std::initializer_list<int> signals,
                         std::function<void(int)> received)
    : state_(std::make_shared<State>(loop, std::move(received))) {
    for (int signal : signals)
        state_->signals.add(signal);
    state_->arm();
}

SignalWatch::~SignalWatch() {
    state_->dead = true;
    error_code ignored;
    state_->signals.cancel(ignored);
    state_->signals.clear(ignored);
}

}  // namespace msb::runtime
