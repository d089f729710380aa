// The control socket: one exchange per connection, connections independent of each other.
#pragma once

#include <map>
#include <memory>

#include "base/fd.h"
#include "runtime/control.h"
#include "runtime/event_loop.h"

namespace msb::runtime {

// Connections served at once; more wait in the listen backlog.
inline constexpr std::size_t kMaxControlConnections = 64;
// A connection that has not finished its exchange by then is closed.
inline constexpr std::chrono::seconds kControlTimeout{30};

class ControlServer {
  public:
    // `listener` as listen_unix() returns it; serves until destroyed.
    ControlServer(EventLoop& loop, UniqueFd listener, ControlTarget& target);
    ~ControlServer();

  private:
    class Connection;
    void accept_some();
    void finished(Connection* connection);

    EventLoop& loop_;
    UniqueFd listener_;
    ControlTarget& target_;
    FdWatch watch_;
    Timer retry_;
    std::map<Connection*, std::shared_ptr<Connection>> connections_;
};

}  // namespace msb::runtime
