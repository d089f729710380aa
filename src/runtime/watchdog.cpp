#include "runtime/watchdog.h"

#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "contract/process_args.h"

namespace msb::runtime {

Watchdog::Watchdog(EventLoop& loop, UniqueFd pipe, Handlers handlers)
    : pipe_(std::move(pipe)),
      handlers_(std::move(handlers)),
      watch_(loop, pipe_.get(), [this] { readable(); }) {
    watch_.want_read(true);
}

// One byte at a time, and only when the pipe is readable: the description may be shared with processes that do not
// expect it to become non-blocking.
void Watchdog::readable() {
    char byte = 0;
    const ssize_t count = ::read(pipe_.get(), &byte, 1);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count == 1 && byte != contract::kWatchdogDetach) return;
    watch_.want_read(false);
    if (count == 1) {
        log(LogLevel::kInfo, "msb::watchdog", "detached from the creator");
    } else if (count == 0) {
        log(LogLevel::kInfo, "msb::watchdog", "the creator is gone");
        handlers_.parent_gone();
    } else {
        handlers_.failed();
    }
}

}  // namespace msb::runtime
