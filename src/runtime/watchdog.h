// Descriptor 97: ends the sandbox when its creator is gone, unless the creator said goodbye first
// (spec/sandbox-process.md section 3).
#pragma once

#include <functional>

#include "base/fd.h"
#include "runtime/event_loop.h"

namespace msb::runtime {

class Watchdog {
  public:
    struct Handlers {
        std::function<void()> parent_gone;
        std::function<void()> failed;  // the pipe cannot be read
    };
    Watchdog(EventLoop& loop, UniqueFd pipe, Handlers handlers);

  private:
    void readable();

    UniqueFd pipe_;
    Handlers handlers_;
    FdWatch watch_;
};

}  // namespace msb::runtime
