#include "runtime/heartbeat.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "base/fd.h"
#include "base/json.h"
#include "base/time.h"

namespace msb::runtime {
namespace {

constexpr const char* kFile = "heartbeat.json";
constexpr const char* kTemporary = "heartbeat.tmp";

// Guest numbers: beyond the range of our clock type they are shown as the epoch.
std::string stamp(std::uint64_t ns) {
    return rfc3339_nanos(ns > INT64_MAX ? 0 : static_cast<std::int64_t>(ns));
}

}  // namespace

std::string heartbeat_json(const protocol::RuntimeHeartbeat& beat) {
    const json::Value value = {{"heartbeat_seq", beat.heartbeat_seq},
                               {"activity_seq", beat.activity_seq},
                               {"timestamp", stamp(beat.timestamp_ns)},
                               {"last_activity", stamp(beat.last_activity_ns)},
                               {"active_exec_sessions", beat.active_exec_sessions},
                               {"active_fs_streams", beat.active_fs_streams},
                               {"active_tcp_streams", beat.active_tcp_streams},
                               {"activity_counters",
                                {{"host_messages", beat.activity_counters.host_messages},
                                 {"guest_messages", beat.activity_counters.guest_messages},
                                 {"exec_output_bytes", beat.activity_counters.exec_output_bytes},
                                 {"fs_bytes", beat.activity_counters.fs_bytes},
                                 {"tcp_bytes", beat.activity_counters.tcp_bytes}}}};
    return json::dump(value);
}

// No fsync: the content is worthless after a host crash, and this happens every second.
void write_heartbeat(const std::filesystem::path& runtime_dir,
                     const protocol::RuntimeHeartbeat& beat) noexcept {
    try {
        const std::string temporary = runtime_dir / kTemporary;
        UniqueFd fd(
            ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
        if (!fd || write_all(fd.get(), heartbeat_json(beat)) != 0) return;
        (void)::rename(temporary.c_str(), (runtime_dir / kFile).c_str());
    } catch (const std::exception&) {
        // out of memory: the next beat tries again
    }
}

void remove_heartbeat(const std::filesystem::path& runtime_dir) noexcept {
    std::error_code ignored;
    std::filesystem::remove(runtime_dir / kFile, ignored);
    std::filesystem::remove(runtime_dir / kTemporary, ignored);
}

void IdleTracker::observe(std::uint64_t activity_seq, std::uint32_t active_exec_sessions,
                          Clock::time_point now) {
    if (activity_seq_ != activity_seq) changed_ = now;
    activity_seq_ = activity_seq;
    active_execs_ = active_exec_sessions;
}

bool IdleTracker::idle(Clock::time_point now) const {
    const auto when = deadline();
    return when && now >= *when;
}

std::optional<IdleTracker::Clock::time_point> IdleTracker::deadline() const {
    if (!timeout_ || !activity_seq_ || active_execs_ > 0) return std::nullopt;
    // A timeout of many years must not overflow the clock.
    constexpr std::chrono::hours kForever{24 * 365 * 100};
    return changed_ + std::min<std::chrono::seconds>(*timeout_, kForever);
}

}  // namespace msb::runtime
