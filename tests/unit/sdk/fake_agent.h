// A scripted guest agent behind a relay's socket: enough of both to test the SDK without a machine.
#pragma once

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "protocol/codec.h"

namespace msb::test {

// What the agent does is decided by the command of an exec request:
//   echo A..      "A ..\n" on stdout, exit 0        | fail N      "err\n" on stderr, exit N
//   cat           stdin to stdout until EOF, exit 0 | env         its environment, one per line
//   hang          waits for signal 9, then exit -1  | pwd         cwd and user
//   flood N       N stdout frames of 4 KiB          | missing     core.exec.failed not_found
//   junk          undecodable frames, then exit 0   | badkind     a failure kind this SDK does not know
//   drop          closes the connection             | size        answers each resize with "RxC\n", ends at stdin
//   early         exec.stdin.error, then exit 0     | refuse      core.error
// Files live in `files`; operations the fixture does not know answer "unsupported".
class FakeAgent {
  public:
    std::uint8_t generation = protocol::kGeneration;  // `v` of core.ready
    std::map<std::string, std::string> files;
    std::map<std::string, bool> directories{{"/", true}, {"/srv", true}};
    std::function<void()> on_shutdown = [] {};

    // Serves one connection until it closes. Thread-safe: several may be served at once.
    void serve(UniqueFd socket, std::uint32_t slot);

    std::atomic<int> connections{0};     // accepted so far
    std::atomic<int> disconnections{0};  // closed by the client
    std::atomic<int> killed{0};          // signal 9 received for a running exec
    std::atomic<int> execs{0};

  private:
    struct Session;
    std::mutex mutex_;
    std::map<std::uint64_t, std::string> handles_;
    std::uint64_t next_handle_ = 1;
    std::uint64_t activity_ = 0;

    void frame(Session& session, const protocol::FrameView& view);
    void exec(Session& session, std::uint32_t id, const protocol::ExecRequest& request);
    void fs(Session& session, std::uint32_t id, const protocol::FsRequest& request);
    protocol::FsResponse fs_reply(Session& session, std::uint32_t id,
                                  const protocol::FsRequest& request);
};

// The relay's handshake of that slot with a ready frame of that generation.
std::string handshake_bytes(std::uint32_t slot, std::uint8_t generation = protocol::kGeneration);

// Accepts connections on a Unix socket and hands each to a function in its own thread. The destructor closes and joins.
class SocketServer {
  public:
    using Handler = std::function<void(UniqueFd socket, int number)>;
    SocketServer(const std::filesystem::path& path, Handler handler);
    ~SocketServer();
    SocketServer(const SocketServer&) = delete;
    SocketServer& operator=(const SocketServer&) = delete;

  private:
    void run();
    UniqueFd listener_;
    UniqueFd stop_;
    Handler handler_;
    std::mutex mutex_;
    std::vector<int> open_;  // shut down at the end, so that handlers return
    std::vector<std::jthread> threads_;
    std::jthread acceptor_;
};

}  // namespace msb::test
