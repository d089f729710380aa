// core.fs.*: requests, handles and streams of the fs service (spec/guest-agent.md section 11).
//
// Loop thread only; file system calls happen on workers. Requests on one handle keep their order, and
// so do path requests of one relay client; nothing else waits for them.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>

#include "agentd/activity.h"
#include "agentd/fs_ops.h"
#include "agentd/input_budget.h"
#include "agentd/output_queue.h"
#include "agentd/worker_pool.h"

namespace msb::agentd {

// The relay slot that an id belongs to; id 0 belongs to none.
inline constexpr std::uint32_t kNoSlot = UINT32_MAX;
std::uint32_t relay_slot(std::uint32_t id);

class FsService {
  public:
    FsService(EventLoop& loop, WorkerPool& pool, OutputQueue& output, Activity& activity,
              InputBudget& budget)
        : strands_(loop, pool), output_(output), activity_(activity), budget_(budget) {}

    void request(std::uint32_t id, protocol::FsRequest request);
    void data(std::uint32_t id, std::span<const std::byte> bytes);
    // Everything that belongs to ids in [start, end) goes away without an answer.
    void disconnect(std::uint32_t start, std::uint32_t end);

  private:
    struct OpenEntry {
        std::shared_ptr<FsOpenHandle> handle;
        std::uint32_t slot;
    };
    // One request until its answer; `cancelled` is read by workers.
    struct Request {
        std::uint32_t id;
        std::atomic<bool> cancelled = false;
    };
    using RequestRef = std::shared_ptr<Request>;
    struct WriteStream;

    RequestRef begin(std::uint32_t id);
    void finish(const RequestRef& request, const protocol::FsResponse& response);
    void answer(std::uint32_t id, const protocol::FsResponse& response);
    void update_stream_count();

    template <class Op>
    void path_operation(std::uint32_t id, Op op);
    template <class Op>
    void handle_operation(std::uint32_t id, std::string_view prefix, Op op);
    template <class Op>
    void open(std::uint32_t id, std::string_view prefix, Op op);
    void close(std::uint32_t id, const protocol::fs::CloseHandle& op);
    void read(std::uint32_t id, const protocol::fs::Read& op);
    void write(std::uint32_t id, const protocol::fs::Write& op);
    void end_write(const std::shared_ptr<WriteStream>& stream);

    // The handle, if this id may use it for that; else the text behind "<prefix>: ".
    enum class Need { kAny, kRead, kWrite, kDirectory, kFile };
    std::expected<std::shared_ptr<FsOpenHandle>, std::string> find(std::uint32_t id,
                                                                   std::uint64_t handle, Need need);
    void opened(const RequestRef& request, std::string_view prefix, FsOpened result);

    Strands strands_;
    OutputQueue& output_;
    Activity& activity_;
    InputBudget& budget_;
    std::map<std::uint64_t, OpenEntry> handles_;
    std::unordered_map<std::uint32_t, std::size_t> handles_of_slot_;
    std::unordered_map<const Request*, RequestRef> requests_;
    std::unordered_map<std::uint32_t, std::shared_ptr<WriteStream>> writes_;
    std::size_t reads_ = 0;
    std::uint64_t next_handle_ = 1;
};

}  // namespace msb::agentd
