// Payloads of our own runtime.* messages (docs/protocol.md). Both ends ship together, so every key is required.
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace detail {

template <>
struct Schema<ActivityCounters> {
    static constexpr std::tuple fields{
        field("host_messages", &ActivityCounters::host_messages),
        field("guest_messages", &ActivityCounters::guest_messages),
        field("exec_output_bytes", &ActivityCounters::exec_output_bytes),
        field("fs_bytes", &ActivityCounters::fs_bytes),
        field("tcp_bytes", &ActivityCounters::tcp_bytes)};
};

template <>
struct Schema<RuntimeHeartbeat> {
    static constexpr std::tuple fields{
        field("heartbeat_seq", &RuntimeHeartbeat::heartbeat_seq),
        field("activity_seq", &RuntimeHeartbeat::activity_seq),
        field("timestamp_ns", &RuntimeHeartbeat::timestamp_ns),
        field("last_activity_ns", &RuntimeHeartbeat::last_activity_ns),
        field("active_exec_sessions", &RuntimeHeartbeat::active_exec_sessions),
        field("active_fs_streams", &RuntimeHeartbeat::active_fs_streams),
        field("active_tcp_streams", &RuntimeHeartbeat::active_tcp_streams),
        field("activity_counters", &RuntimeHeartbeat::activity_counters)};
};

template <>
struct Schema<RuntimeCpuTarget> {
    static constexpr std::tuple fields{field("online", &RuntimeCpuTarget::online)};
};

template <>
struct Schema<RuntimeCpuState> {
    static constexpr std::tuple fields{field("online", &RuntimeCpuState::online)};
};

template <>
struct Schema<RuntimeFlow> {
    static constexpr std::tuple fields{field("id_start", &RuntimeFlow::id_start),
                                       field("id_end_exclusive", &RuntimeFlow::id_end_exclusive),
                                       field("paused", &RuntimeFlow::paused)};
};

}  // namespace detail

MSB_PROTOCOL_INSTANTIATE(RuntimeHeartbeat)
MSB_PROTOCOL_INSTANTIATE(RuntimeCpuTarget)
MSB_PROTOCOL_INSTANTIATE(RuntimeCpuState)
MSB_PROTOCOL_INSTANTIATE(RuntimeFlow)

}  // namespace msb::protocol
