// Connections, reads and writes of guest files (spec/protocol.md section 10).
#include "base/error.h"
#include "base/log.h"
#include "sdk/fs_impl.h"

namespace microsandbox {

namespace protocol = msb::protocol;
namespace sdk = msb::sdk;

namespace {

[[noreturn]] void fail(const std::string& text) {
    throw Error(ErrorCode::kSandboxFsOps, text);
}

void check(const protocol::FsResponse& response) {
    if (!response.ok) fail(response.error.value_or("unknown error"));
}

std::chrono::sys_seconds seconds(std::int64_t unix_seconds) {
    return std::chrono::sys_seconds(std::chrono::seconds(unix_seconds));
}

std::optional<std::chrono::sys_seconds> seconds(const std::optional<std::int64_t>& unix_seconds) {
    if (!unix_seconds) return std::nullopt;
    return seconds(*unix_seconds);
}

FileKind kind_of(protocol::FsEntryKind kind) {
    switch (kind) {
        case protocol::FsEntryKind::kFile:
            return FileKind::kFile;
        case protocol::FsEntryKind::kDir:
            return FileKind::kDirectory;
        case protocol::FsEntryKind::kSymlink:
            return FileKind::kSymlink;
        case protocol::FsEntryKind::kOther:
            return FileKind::kOther;
    }
    return FileKind::kOther;
}

// Frames until the response. A core.error ends the stream like one.
protocol::FsResponse response_of(const sdk::AgentFrame& frame) {
    auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope)
        throw Error(ErrorCode::kAgentClient,
                    "protocol: cbor decode error: " + envelope.error().message);
    if (envelope->type == protocol::MessageType::kError) {
        auto error = protocol::decode_payload<protocol::ErrorMessage>(envelope->payload.span());
        if (error) sdk::throw_agent_error(*error);
    }
    if (envelope->type != protocol::MessageType::kFsResponse)
        throw Error(ErrorCode::kAgentClient,
                    "protocol: unexpected response type " + std::string(envelope->type_name));
    auto response = protocol::decode_payload<protocol::FsResponse>(envelope->payload.span());
    if (!response)
        throw Error(ErrorCode::kAgentClient,
                    "protocol: cbor decode error: " + response.error().message);
    return std::move(*response);
}

}  // namespace

// --- conversions ------------------------------------------------------------------------------------------------

std::string_view to_string(FileKind kind) noexcept {
    switch (kind) {
        case FileKind::kFile:
            return "file";
        case FileKind::kDirectory:
            return "directory";
        case FileKind::kSymlink:
            return "symlink";
        case FileKind::kOther:
            return "other";
    }
    return "other";
}

FsEntry public_entry(protocol::FsEntry entry) {
    return {std::move(entry.path), kind_of(entry.kind), entry.size, entry.mode,
            seconds(entry.modified)};
}

FsMetadata public_metadata(const protocol::FsEntry& entry) {
    FsMetadata result;
    result.kind = kind_of(entry.kind);
    result.size = entry.size;
    result.mode = entry.mode;
    result.uid = entry.uid;
    result.gid = entry.gid;
    result.readonly = (entry.mode & 0222) == 0;
    result.accessed = seconds(entry.atime);
    result.modified = seconds(entry.mtime);
    return result;
}

protocol::FsAttrs wire_attributes(const FsSetAttributes& attributes) {
    auto unix_seconds =
        [](const std::optional<std::chrono::sys_seconds>& time) -> std::optional<std::int64_t> {
        if (!time) return std::nullopt;
        return time->time_since_epoch().count();
    };
    return {attributes.mode,
            attributes.uid,
            attributes.gid,
            attributes.size,
            unix_seconds(attributes.accessed),
            unix_seconds(attributes.modified)};
}

protocol::FsEntry expect_stat(protocol::FsResponse response, std::string_view what) {
    if (response.data) {
        if (auto* entry = std::get_if<protocol::FsEntry>(&*response.data)) return std::move(*entry);
    }
    fail("unexpected response data for " + std::string(what));
}

std::vector<FsEntry> expect_list(protocol::FsResponse response) {
    std::vector<FsEntry> result;
    if (!response.data) return result;
    auto* entries = std::get_if<std::vector<protocol::FsEntry>>(&*response.data);
    if (entries == nullptr) fail("unexpected response data for list");
    for (protocol::FsEntry& entry : *entries)
        result.push_back(public_entry(std::move(entry)));
    return result;
}

std::uint64_t expect_handle(const protocol::FsResponse& response, std::string_view what) {
    if (response.data) {
        if (const auto* handle = std::get_if<protocol::FsHandle>(&*response.data))
            return handle->handle;
    }
    fail("unexpected response data for " + std::string(what));
}

std::string expect_path(protocol::FsResponse response, std::string_view what) {
    if (response.data) {
        if (auto* path = std::get_if<protocol::FsPath>(&*response.data))
            return std::move(path->path);
    }
    fail("unexpected response data for " + std::string(what));
}

// --- connection -------------------------------------------------------------------------------------------------

FsConnection::FsConnection(std::shared_ptr<Sandbox::Impl> sandbox, const sdk::Cancel& cancel)
    : sandbox_(std::move(sandbox)),
      client_(sandbox_->take_client(sdk::deadline_in(sdk::kAgentConnectTimeout), cancel)) {}

FsConnection::~FsConnection() {
    if (spoiled_)
        client_->close();
    else
        sandbox_->return_client(std::move(client_));
}

protocol::FsResponse FsConnection::call(protocol::FsOp op, const sdk::Cancel& cancel) {
    try {
        auto response =
            client_->request<protocol::FsResponse>(protocol::FsRequest{std::move(op)}, {}, cancel);
        check(response);
        return response;
    } catch (const Error& error) {
        if (error.code() != ErrorCode::kSandboxFsOps) spoil();  // the answer may still come
        throw;
    }
}

std::uint64_t FsConnection::open_file(const std::string& path, const FsOpenOptions& options,
                                      const sdk::Cancel& cancel) {
    protocol::FsOpenOptions wire{options.read,   options.write,    options.append,
                                 options.create, options.truncate, options.create_new,
                                 options.mode};
    return expect_handle(call(protocol::fs::OpenFile{path, wire}, cancel), "open");
}

void FsConnection::close_handle(std::uint64_t handle, const sdk::Cancel& cancel) {
    call(protocol::fs::CloseHandle{handle}, cancel);
}

// --- reading ----------------------------------------------------------------------------------------------------

FsReadStream::Impl::Impl(std::shared_ptr<FsConnection> over, std::uint64_t handle,
                         std::uint64_t offset, std::optional<std::uint64_t> length,
                         const sdk::Cancel& cancel)
    : connection(std::move(over)), stream(connection->client().open()) {
    connection->client().send(
        stream.id(), protocol::FsRequest{protocol::fs::Read{handle, offset, length}}, cancel);
}

FsReadStream::Impl::~Impl() {
    if (owned_handle) connection->spoil();  // still open in the guest, and nobody left to close it
    if (finished) return;
    // The rest of the file is on its way; nobody will take it.
    stream = {};
    connection->spoil();
    connection->client().close();
}

std::optional<std::string> FsReadStream::Impl::next(const sdk::Cancel& cancel) {
    while (!finished) {
        sdk::AgentFrame frame;
        if (stream.recv(frame, std::nullopt, cancel) != sdk::AgentClient::Stream::Result::kFrame) {
            connection->spoil();
            finished = true;
            fail("channel closed before response");
        }
        if (frame.terminal()) {
            finished = true;
            stream = {};
            check(response_of(frame));
            if (owned_handle)
                connection->close_handle(*std::exchange(owned_handle, std::nullopt), cancel);
            return std::nullopt;
        }
        std::optional<sdk::TypedFrame> typed = sdk::decode_frame(frame);
        if (!typed || typed->type != protocol::MessageType::kFsData) continue;
        auto data = protocol::decode_payload<protocol::FsData>(typed->payload.span());
        if (!data)
            throw Error(ErrorCode::kAgentClient,
                        "protocol: cbor decode error: " + data.error().message);
        if (!data->data.empty()) return std::string(data->data.text());
    }
    return std::nullopt;
}

FsReadStream::FsReadStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FsReadStream::FsReadStream(FsReadStream&&) noexcept = default;
FsReadStream& FsReadStream::operator=(FsReadStream&&) noexcept = default;
FsReadStream::~FsReadStream() = default;

std::optional<std::string> FsReadStream::recv(std::stop_token stop) {
    return impl_->next(sdk::Cancel(std::move(stop)));
}

std::string FsReadStream::collect(std::stop_token stop) {
    sdk::Cancel cancel(std::move(stop));
    std::string all;
    while (auto chunk = impl_->next(cancel)) {
        if (all.empty())
            all = std::move(*chunk);
        else
            all += *chunk;
    }
    return all;
}

// --- writing ----------------------------------------------------------------------------------------------------

FsWriteStream::Impl::Impl(std::shared_ptr<FsConnection> over, std::uint64_t handle,
                          std::uint64_t offset, const sdk::Cancel& cancel)
    : connection(std::move(over)), stream(connection->client().open()) {
    connection->client().send(
        stream.id(), protocol::FsRequest{protocol::fs::Write{handle, offset, std::nullopt}},
        cancel);
}

FsWriteStream::Impl::~Impl() {
    if (owned_handle) connection->spoil();
    if (closed) return;
    stream = {};
    connection->spoil();
    connection->client().close();
}

void FsWriteStream::Impl::write(std::string_view data, const sdk::Cancel& cancel) {
    if (closed) fail("write stream is closed");
    auto bytes = std::as_bytes(std::span(data.data(), data.size()));
    while (!bytes.empty()) {  // an empty chunk would mean the end
        auto chunk = bytes.first(std::min(bytes.size(), sdk::AgentClient::kMaxDataBytes));
        connection->client().send_data(stream.id(), protocol::MessageType::kFsData, chunk, cancel);
        bytes = bytes.subspan(chunk.size());
    }
}

void FsWriteStream::Impl::close(const sdk::Cancel& cancel) {
    if (std::exchange(closed, true)) return;
    try {
        connection->client().send_data(stream.id(), protocol::MessageType::kFsData, {}, cancel);
        for (;;) {
            sdk::AgentFrame frame;
            if (stream.recv(frame, std::nullopt, cancel) !=
                sdk::AgentClient::Stream::Result::kFrame)
                fail("channel closed before response");
            if (!frame.terminal()) continue;
            stream = {};
            protocol::FsResponse response = response_of(frame);
            // Close first: a failed write must not leave the file open.
            if (owned_handle)
                connection->close_handle(*std::exchange(owned_handle, std::nullopt), cancel);
            check(response);
            return;
        }
    } catch (const Error&) {
        if (stream || owned_handle) connection->spoil();
        throw;
    }
}

FsWriteStream::FsWriteStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FsWriteStream::FsWriteStream(FsWriteStream&&) noexcept = default;
FsWriteStream& FsWriteStream::operator=(FsWriteStream&&) noexcept = default;
FsWriteStream::~FsWriteStream() = default;

void FsWriteStream::write(std::string_view data, std::stop_token stop) {
    impl_->write(data, sdk::Cancel(std::move(stop)));
}
void FsWriteStream::close(std::stop_token stop) {
    impl_->close(sdk::Cancel(std::move(stop)));
}

// --- open files and directories ---------------------------------------------------------------------------------

FsFile::Impl::~Impl() {
    // Handles belong to the connection: closing it closes them, without an answer to wait for.
    if (!closed) connection->spoil();
}
FsConnection& FsFile::Impl::open() {
    if (closed) fail("file is closed");
    return *connection;
}

FsFile::FsFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FsFile::FsFile(FsFile&&) noexcept = default;
FsFile& FsFile::operator=(FsFile&&) noexcept = default;
FsFile::~FsFile() = default;

std::uint64_t FsFile::handle() const noexcept {
    return impl_->handle;
}
std::string FsFile::read(std::uint64_t offset, std::uint64_t length, std::stop_token stop) {
    return read_stream(offset, length, stop).collect(stop);
}
FsReadStream FsFile::read_stream(std::uint64_t offset, std::optional<std::uint64_t> length,
                                 std::stop_token stop) {
    impl_->open();
    return FsReadStream(std::make_unique<FsReadStream::Impl>(
        impl_->connection, impl_->handle, offset, length, sdk::Cancel(std::move(stop))));
}
void FsFile::write(std::uint64_t offset, std::string_view data, std::stop_token stop) {
    FsWriteStream stream = write_stream(offset, stop);
    stream.write(data, stop);
    stream.close(stop);
}
FsWriteStream FsFile::write_stream(std::uint64_t offset, std::stop_token stop) {
    impl_->open();
    return FsWriteStream(std::make_unique<FsWriteStream::Impl>(
        impl_->connection, impl_->handle, offset, sdk::Cancel(std::move(stop))));
}
FsMetadata FsFile::stat(std::stop_token stop) {
    return public_metadata(expect_stat(
        impl_->open().call(protocol::fs::FStat{impl_->handle}, sdk::Cancel(std::move(stop))),
        "stat handle"));
}
void FsFile::set_stat(const FsSetAttributes& attributes, std::stop_token stop) {
    impl_->open().call(protocol::fs::FSetStat{impl_->handle, wire_attributes(attributes)},
                       sdk::Cancel(std::move(stop)));
}
void FsFile::close(std::stop_token stop) {
    if (impl_->closed) return;
    impl_->connection->close_handle(impl_->handle, sdk::Cancel(std::move(stop)));
    impl_->closed = true;
}

FsDir::Impl::~Impl() {
    if (!closed) connection->spoil();
}
FsConnection& FsDir::Impl::open() {
    if (closed) fail("directory is closed");
    return *connection;
}

FsDir::FsDir(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FsDir::FsDir(FsDir&&) noexcept = default;
FsDir& FsDir::operator=(FsDir&&) noexcept = default;
FsDir::~FsDir() = default;

std::uint64_t FsDir::handle() const noexcept {
    return impl_->handle;
}
std::vector<FsEntry> FsDir::read(std::optional<std::uint32_t> limit, std::stop_token stop) {
    return expect_list(impl_->open().call(protocol::fs::ReadDir{impl_->handle, limit},
                                          sdk::Cancel(std::move(stop))));
}
FsMetadata FsDir::stat(std::stop_token stop) {
    return public_metadata(expect_stat(
        impl_->open().call(protocol::fs::FStat{impl_->handle}, sdk::Cancel(std::move(stop))),
        "stat handle"));
}
void FsDir::close(std::stop_token stop) {
    if (impl_->closed) return;
    impl_->connection->close_handle(impl_->handle, sdk::Cancel(std::move(stop)));
    impl_->closed = true;
}

}  // namespace microsandbox
