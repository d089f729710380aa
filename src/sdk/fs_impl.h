// One connection doing file operations.
#pragma once

#include <microsandbox/fs.h>

#include <memory>
#include <string_view>

#include "sdk/agent_client.h"
#include "sdk/sandbox_impl.h"

namespace microsandbox {

// A connection taken from the sandbox for one operation or one open file; goes back when destroyed in good order.
class FsConnection {
  public:
    FsConnection(std::shared_ptr<Sandbox::Impl> sandbox, const msb::sdk::Cancel& cancel);
    FsConnection(const FsConnection&) = delete;
    FsConnection& operator=(const FsConnection&) = delete;
    ~FsConnection();

    msb::sdk::AgentClient& client() { return *client_; }
    // Frames of an unfinished stream may still come: the connection is closed instead of given back.
    void spoil() noexcept { spoiled_ = true; }

    // One request, one response. Throws Error{kSandboxFsOps} with the agent's text.
    msb::protocol::FsResponse call(msb::protocol::FsOp op, const msb::sdk::Cancel& cancel);
    std::uint64_t open_file(const std::string& path, const FsOpenOptions& options,
                            const msb::sdk::Cancel& cancel);
    void close_handle(std::uint64_t handle, const msb::sdk::Cancel& cancel);

  private:
    std::shared_ptr<Sandbox::Impl> sandbox_;
    std::shared_ptr<msb::sdk::AgentClient> client_;
    bool spoiled_ = false;
};

struct SandboxFs::Impl {
    std::shared_ptr<Sandbox::Impl> sandbox;

    // One request over a connection of its own.
    msb::protocol::FsResponse call(msb::protocol::FsOp op, std::stop_token stop) const;
};

// A transfer over a connection, which it either shares with an FsFile or owns together with the handle.
struct FsReadStream::Impl {
    std::shared_ptr<FsConnection> connection;
    msb::sdk::AgentClient::Stream stream;
    std::optional<std::uint64_t> owned_handle;  // closed at the end
    bool finished = false;

    Impl(std::shared_ptr<FsConnection> over, std::uint64_t handle, std::uint64_t offset,
         std::optional<std::uint64_t> length, const msb::sdk::Cancel& cancel);
    ~Impl();
    std::optional<std::string> next(const msb::sdk::Cancel& cancel);
};

struct FsWriteStream::Impl {
    std::shared_ptr<FsConnection> connection;
    msb::sdk::AgentClient::Stream stream;
    std::optional<std::uint64_t> owned_handle;
    bool closed = false;

    Impl(std::shared_ptr<FsConnection> over, std::uint64_t handle, std::uint64_t offset,
         const msb::sdk::Cancel& cancel);
    ~Impl();
    void write(std::string_view data, const msb::sdk::Cancel& cancel);
    void close(const msb::sdk::Cancel& cancel);
};

struct FsFile::Impl {
    std::shared_ptr<FsConnection> connection;
    std::uint64_t handle = 0;
    bool closed = false;

    ~Impl();
    // Throws Error{kSandboxFsOps} once closed.
    FsConnection& open();
};

struct FsDir::Impl {
    std::shared_ptr<FsConnection> connection;
    std::uint64_t handle = 0;
    bool closed = false;

    ~Impl();
    FsConnection& open();
};

// Conversions between the wire and the public types.
FsEntry public_entry(msb::protocol::FsEntry entry);
FsMetadata public_metadata(const msb::protocol::FsEntry& entry);
msb::protocol::FsAttrs wire_attributes(const FsSetAttributes& attributes);
// The typed content of a response. Throws Error{kSandboxFsOps} "unexpected response data for <what>".
msb::protocol::FsEntry expect_stat(msb::protocol::FsResponse response, std::string_view what);
std::vector<FsEntry> expect_list(msb::protocol::FsResponse response);
std::uint64_t expect_handle(const msb::protocol::FsResponse& response, std::string_view what);
std::string expect_path(msb::protocol::FsResponse response, std::string_view what);

}  // namespace microsandbox
