#include "agentd/fs_service.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/error.h"
#include "protocol/codec.h"

namespace msb::agentd {

namespace {

namespace op = protocol::fs;

constexpr std::size_t kMaxHandlesPerClient = 1024;
// The protocol allows 3 MiB. Smaller chunks keep other sessions' frames moving on the shared port.
constexpr std::size_t kReadChunk = 256 * 1024;

// Strands of handles and of clients' path requests must not meet.
constexpr std::uint64_t kPathStrand = std::uint64_t{1} << 63;

template <class... Cases>
struct Overloaded : Cases... {
    using Cases::operator()...;
};

std::string handle_text(std::uint64_t handle) {
    return "handle " + std::to_string(handle);
}

// Sends the content of an open file as frames of `id`. On a worker.
protocol::FsResponse stream_file(const FsOpenHandle& handle, const op::Read& request,
                                 std::uint32_t id, const std::atomic<bool>& cancelled,
                                 OutputQueue& output, Activity& activity) {
    if (request.len == 0u) return fs_success();
    // A FIFO or a terminal has no positions, but it has a beginning.
    int err = fs_seek(handle, request.offset);
    if (err != 0 && !(err == ESPIPE && request.offset == 0)) return fs_failure("seek", err);
    std::uint64_t left = request.len.value_or(UINT64_MAX);
    std::vector<std::byte> chunk(
        static_cast<std::size_t>(std::min<std::uint64_t>(left, kReadChunk)));
    while (left > 0 && output.wait_for_room(id, cancelled)) {
        auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, chunk.size()));
        ssize_t n = ::read(handle.file.get(), chunk.data(), size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fs_failure("read", errno);
        if (n == 0) break;
        auto count = static_cast<std::size_t>(n);
        activity.fs_bytes += count;
        output.send_data(id, protocol::MessageType::kFsData, std::span(chunk).first(count));
        left -= count;
    }
    return fs_success();
}

}  // namespace

std::uint32_t relay_slot(std::uint32_t id) {
    return id == 0 ? kNoSlot : (id - 1) / protocol::kIdRangeStep;
}

// A Write request and the data frames that follow it on its id. `error`, `position` and `written`
// belong to the handle's strand.
struct FsService::WriteStream {
    WriteStream(RequestRef reference, InputBudget& budget)
        : request(std::move(reference)), account(budget) {}

    RequestRef request;
    QueueAccount account;
    std::shared_ptr<FsOpenHandle> handle;
    std::uint64_t strand = 0;
    std::optional<std::uint64_t> expected;
    std::uint64_t position = 0;
    std::uint64_t written = 0;
    std::optional<std::string> error;
    bool reported = false;  // loop thread: the terminal answer is out
    bool ending = false;    // loop thread: the empty frame came

    // On a worker.
    void write(const std::vector<std::byte>& bytes) {
        if (error || request->cancelled) return;
        // Other requests may have moved the file's position since the last chunk. What cannot seek
        // (a FIFO, a terminal) simply takes the bytes.
        if (!handle->append) {
            int err = fs_seek(*handle, position);
            if (err != 0 && err != ESPIPE) {
                error = "seek: " + os_error_text(err);
                return;
            }
        }
        if (int err = write_all(handle->file.get(), std::span(bytes))) {
            error = "write: " + os_error_text(err);
            return;
        }
        position += bytes.size();
        written += bytes.size();
    }
    protocol::FsResponse result() const {
        if (error) return fs_failure(*error);
        if (expected && *expected != written)
            return fs_failure("write length mismatch: expected " + std::to_string(*expected) +
                              ", wrote " + std::to_string(written));
        return fs_success();
    }
};

// --- requests -------------------------------------------------------------------------------------

FsService::RequestRef FsService::begin(std::uint32_t id) {
    auto request = std::make_shared<Request>(id);
    requests_.emplace(request.get(), request);
    return request;
}

void FsService::finish(const RequestRef& request, const protocol::FsResponse& response) {
    requests_.erase(request.get());
    if (!request->cancelled) answer(request->id, response);
}

void FsService::answer(std::uint32_t id, const protocol::FsResponse& response) {
    if (!output_.send(id, response))
        output_.send(id, fs_failure("the answer is too large for one frame"));
}

void FsService::update_stream_count() {
    activity_.fs_streams = static_cast<std::uint32_t>(reads_ + writes_.size());
}

void FsService::request(std::uint32_t id, protocol::FsRequest request) {
    std::visit(Overloaded{
                   [&](op::OpenFile& o) { open(id, "open", std::move(o)); },
                   [&](op::OpenDir& o) { open(id, "opendir", std::move(o)); },
                   [&](op::CloseHandle& o) { close(id, o); },
                   [&](op::Read& o) { read(id, o); },
                   [&](op::Write& o) { write(id, o); },
                   [&](op::ReadDir& o) { handle_operation(id, "readdir", o); },
                   [&](op::FStat& o) { handle_operation(id, "fstat", o); },
                   [&](op::FSetStat& o) { handle_operation(id, "fsetstat", o); },
                   [&](auto& o) { path_operation(id, std::move(o)); },
               },
               request.op);
}

template <class Op>
void FsService::path_operation(std::uint32_t id, Op operation) {
    RequestRef request = begin(id);
    auto response = std::make_shared<protocol::FsResponse>();
    strands_.submit(
        kPathStrand | relay_slot(id),
        [request, response, operation = std::move(operation)] {
            if (!request->cancelled) *response = fs_apply(operation);
        },
        [this, request, response] { finish(request, *response); });
}

template <class Op>
void FsService::handle_operation(std::uint32_t id, std::string_view prefix, Op operation) {
    Need need = std::is_same_v<Op, op::ReadDir>    ? Need::kDirectory
                : std::is_same_v<Op, op::FSetStat> ? Need::kFile
                                                   : Need::kAny;
    auto handle = find(id, operation.handle, need);
    if (!handle) return answer(id, fs_failure(std::string(prefix) + ": " + handle.error()));
    RequestRef request = begin(id);
    auto response = std::make_shared<protocol::FsResponse>();
    strands_.submit(
        operation.handle,
        [request, response, handle = *handle, operation] {
            if (!request->cancelled) *response = fs_apply(operation, *handle);
        },
        [this, request, response] { finish(request, *response); });
}

// --- handles --------------------------------------------------------------------------------------

std::expected<std::shared_ptr<FsOpenHandle>, std::string> FsService::find(std::uint32_t id,
                                                                          std::uint64_t number,
                                                                          Need need) {
    auto entry = handles_.find(number);
    if (entry == handles_.end())
        return std::unexpected("invalid handle: " + std::to_string(number));
    std::uint32_t slot = relay_slot(id);
    if (slot == kNoSlot || slot != entry->second.slot)
        return std::unexpected(handle_text(number) + " is owned by a different relay client");
    const FsOpenHandle& handle = *entry->second.handle;
    bool is_directory = handle.directory != nullptr;
    if (need == Need::kDirectory && !is_directory)
        return std::unexpected(handle_text(number) + " is a file");
    if ((need == Need::kFile || need == Need::kRead || need == Need::kWrite) && is_directory)
        return std::unexpected(handle_text(number) + " is a directory");
    if (need == Need::kRead && !handle.readable)
        return std::unexpected(handle_text(number) + " is not open for reading");
    if (need == Need::kWrite && !handle.writable)
        return std::unexpected(handle_text(number) + " is not open for writing");
    return entry->second.handle;
}

template <class Op>
void FsService::open(std::uint32_t id, std::string_view prefix, Op operation) {
    RequestRef request = begin(id);
    auto result = std::make_shared<FsOpened>(nullptr);
    strands_.submit(
        kPathStrand | relay_slot(id),
        [request, result, operation = std::move(operation)] {
            if (!request->cancelled) *result = fs_open(operation);
        },
        [this, request, prefix, result] { opened(request, prefix, std::move(*result)); });
}

void FsService::opened(const RequestRef& request, std::string_view prefix, FsOpened result) {
    if (!result) return finish(request, fs_failure(std::move(result.error())));
    // A client that left meanwhile gets no handle: the file closes with `result`.
    if (request->cancelled) return finish(request, {});
    std::uint32_t slot = relay_slot(request->id);
    if (handles_of_slot_[slot] >= kMaxHandlesPerClient)
        return finish(request, fs_failure(std::string(prefix) +
                                          ": too many open filesystem handles for relay client: " +
                                          std::to_string(kMaxHandlesPerClient)));
    ++handles_of_slot_[slot];
    std::uint64_t number = next_handle_++;
    handles_.emplace(number, OpenEntry{std::move(*result), slot});
    finish(request, fs_success(protocol::FsHandle{number}));
}

void FsService::close(std::uint32_t id, const op::CloseHandle& operation) {
    auto handle = find(id, operation.handle, Need::kAny);
    if (!handle) return answer(id, fs_failure("close: " + handle.error()));
    handles_.erase(operation.handle);
    --handles_of_slot_[relay_slot(id)];
    RequestRef request = begin(id);
    // Behind everything queued for the handle; the last reference closes the file.
    strands_.submit(
        operation.handle, [last = std::move(*handle)]() mutable { last.reset(); },
        [this, request] { finish(request, fs_success()); });
}

// --- streams --------------------------------------------------------------------------------------

void FsService::read(std::uint32_t id, const op::Read& operation) {
    auto handle = find(id, operation.handle, Need::kRead);
    if (!handle) return answer(id, fs_failure("read: " + handle.error()));
    RequestRef request = begin(id);
    auto response = std::make_shared<protocol::FsResponse>();
    ++reads_;
    update_stream_count();
    strands_.submit(
        operation.handle,
        [this, request, response, handle = *handle, operation] {
            *response = stream_file(*handle, operation, request->id, request->cancelled, output_,
                                    activity_);
        },
        [this, request, response] {
            --reads_;
            update_stream_count();
            finish(request, *response);
        });
}

void FsService::write(std::uint32_t id, const op::Write& operation) {
    auto handle = find(id, operation.handle, Need::kWrite);
    if (!handle) return answer(id, fs_failure("write: " + handle.error()));
    if (!(*handle)->append && operation.offset > INT64_MAX)
        return answer(id, fs_failure("seek", EINVAL));
    auto stream = std::make_shared<WriteStream>(begin(id), budget_);
    stream->handle = *handle;
    stream->strand = operation.handle;
    stream->expected = operation.len;
    stream->position = operation.offset;
    if (auto older = writes_.find(id); older != writes_.end()) end_write(older->second);
    writes_[id] = std::move(stream);
    update_stream_count();
}

// The stream takes no more data; what workers still do for it is harmless.
void FsService::end_write(const std::shared_ptr<WriteStream>& stream) {
    stream->reported = true;
    requests_.erase(stream->request.get());
    auto current = writes_.find(stream->request->id);
    if (current != writes_.end() && current->second == stream) writes_.erase(current);
    update_stream_count();
}

void FsService::data(std::uint32_t id, std::span<const std::byte> bytes) {
    auto refuse = [this, id] {
        answer(id, fs_failure("unknown write session: " + std::to_string(id)));
    };
    auto entry = writes_.find(id);
    if (entry == writes_.end()) return refuse();
    std::shared_ptr<WriteStream> stream = entry->second;
    // Behind the answer the end of the stream is about to get.
    if (stream->ending) return strands_.submit(stream->strand, [] {}, refuse);
    stream->ending = bytes.empty();
    stream->account.add(bytes.size());
    activity_.fs_bytes += bytes.size();
    auto owned = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
    strands_.submit(
        stream->strand, [stream, owned] { stream->write(*owned); },
        [this, id, stream, refuse, last = bytes.empty(), size = bytes.size()] {
            stream->account.remove(size);
            if (stream->request->cancelled) return;
            // A chunk that was on its way when an earlier one failed.
            if (stream->reported) return refuse();
            if (!last && !stream->error) return;
            end_write(stream);
            answer(id, stream->result());
        });
}

void FsService::disconnect(std::uint32_t start, std::uint32_t end) {
    auto owns = [&](std::uint32_t id) { return id >= start && id < end; };
    for (auto& [key, request] : requests_) {
        if (owns(request->id)) request->cancelled = true;
    }
    output_.wake_waiters();
    std::erase_if(writes_, [&](const auto& write) { return owns(write.first); });
    std::erase_if(requests_, [&](const auto& entry) { return entry.second->cancelled.load(); });
    std::erase_if(handles_, [&](const auto& entry) {
        std::uint32_t slot = entry.second.slot;
        // A slot's range starts with the id after the previous slot's last one.
        bool owned = slot != kNoSlot && owns(slot * protocol::kIdRangeStep + 1);
        if (owned) --handles_of_slot_[slot];
        return owned;
    });
    update_stream_count();
}

}  // namespace msb::agentd
