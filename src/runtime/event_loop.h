// The single-threaded event loop of the sandbox process: descriptors, timers, signals. A thin cover over Boost.Asio that
// keeps its headers in event_loop.cpp. Everything runs on the thread that calls run(); callbacks may destroy the object
// that called them.
#pragma once

#include <chrono>
#include <functional>
#include <initializer_list>
#include <memory>

namespace msb::runtime {

class EventLoop {
  public:
    EventLoop();
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    void run();  // until stop()
    void stop();
    // Runs `work` after the current callback has returned.
    void post(std::function<void()> work);

    struct Impl;
    Impl& impl() noexcept { return *impl_; }

  private:
    std::unique_ptr<Impl> impl_;
};

// Calls back while a descriptor is ready and the readiness is wanted (level-triggered). Does not own the descriptor,
// which must be pollable and stay open as long as the watch lives.
class FdWatch {
  public:
    FdWatch(EventLoop& loop, int fd, std::function<void()> readable,
            std::function<void()> writable = {});
    ~FdWatch();
    FdWatch(const FdWatch&) = delete;
    FdWatch& operator=(const FdWatch&) = delete;

    void want_read(bool on);
    void want_write(bool on);

  private:
    struct State;
    std::shared_ptr<State> state_;
};

class Timer {
  public:
    Timer(EventLoop& loop, std::function<void()> expired);
    ~Timer();
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    // Replaces what was running before.
    void start_after(std::chrono::nanoseconds delay);
    void cancel();

  private:
    struct State;
    std::shared_ptr<State> state_;
};

// Takes the signals over from their present disposition for the life of the object.
class SignalWatch {
  public:
    SignalWatch(EventLoop& loop, std::initializer_list<int> signals,
                std::function<void(int)> received);
    ~SignalWatch();
    SignalWatch(const SignalWatch&) = delete;
    SignalWatch& operator=(const SignalWatch&) = delete;

  private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace msb::runtime
