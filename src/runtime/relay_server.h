// The agent socket: accepts clients and moves their bytes in and out of the relay.
#pragma once

#include <filesystem>
#include <map>
#include <memory>

#include "base/fd.h"
#include "runtime/event_loop.h"
#include "runtime/relay.h"

namespace msb::runtime {

// Binds and listens; nothing is accepted before RelayServer::start(). Parents are created, a file in the way is removed.
// Throws Error{kIo} ("path must be shorter than SUN_LEN", ...).
UniqueFd listen_unix(const std::filesystem::path& path);

class RelayServer {
  public:
    // `listener` as listen_unix() returns it. Loop and relay must outlive the server.
    RelayServer(EventLoop& loop, Relay& relay, UniqueFd listener);
    ~RelayServer();

    // Accepts what has queued up since the socket was bound, and everything after it. Call when the relay is ready.
    void start();
    // Closes the listener; clients stay.
    void stop_accepting();

  private:
    class Session;
    void accept_some();
    void admit(UniqueFd client);

    EventLoop& loop_;
    Relay& relay_;
    UniqueFd listener_;
    std::unique_ptr<FdWatch> watch_;
    Timer retry_;
    std::map<Session*, std::shared_ptr<Session>> sessions_;
};

// The host end of the guest's `agent` port.
class GuestChannel : public RelayPort {
  public:
    // `on_closed` is called once when the engine's end is gone.
    GuestChannel(EventLoop& loop, UniqueFd socket, std::function<void()> on_closed);
    ~GuestChannel() override;

    // The relay whose guest this is; reading starts.
    void attach(Relay& relay);

    std::optional<std::size_t> write_some(std::span<const std::byte> bytes) override;
    void set_reading(bool on) override;
    void closed() override {}

  private:
    void readable();

    UniqueFd socket_;
    std::function<void()> on_closed_;
    Relay* relay_ = nullptr;
    std::unique_ptr<FdWatch> watch_;
};

}  // namespace msb::runtime
