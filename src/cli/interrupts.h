// Ending by a signal, but not without cleaning up.
#pragma once

#include <signal.h>

#include <atomic>
#include <stop_token>
#include <thread>

#include "base/fd.h"

namespace msb::cli {

// While it lives, SIGINT, SIGTERM and SIGHUP (those not ignored) do not end the process; the first one triggers token(), so
// that what is under way can remove its work files. Make it before any thread that may run long: threads inherit the
// mask it sets. Throws Error{kIo}.
class Interrupts {
  public:
    Interrupts();
    ~Interrupts();
    Interrupts(const Interrupts&) = delete;
    Interrupts& operator=(const Interrupts&) = delete;

    std::stop_token token() const { return source_.get_token(); }
    // Ends the process by the signal that has come; returns when none has.
    void raise_if_any();

  private:
    void wait();

    sigset_t signals_{};
    sigset_t before_{};
    UniqueFd arrivals_;  // signalfd
    UniqueFd finished_;  // eventfd: the object goes
    std::atomic<int> arrived_{0};
    std::stop_source source_;
    std::thread thread_;
};

}  // namespace msb::cli
