// Payloads of core.* messages outside the exec, fs and tcp families (spec/protocol.md section 5).
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace detail {

template <>
struct Schema<Ready> {
    static constexpr std::tuple fields{field("boot_time_ns", &Ready::boot_time_ns),
                                       field("init_time_ns", &Ready::init_time_ns),
                                       field("ready_time_ns", &Ready::ready_time_ns),
                                       omitted("agent_version", &Ready::agent_version)};
};

template <>
struct Schema<DefaultUser> {
    static constexpr std::tuple fields{field("uid", &DefaultUser::uid),
                                       field("gid", &DefaultUser::gid)};
};

template <>
struct Schema<InitResolved> {
    static constexpr std::tuple fields{field("default_user", &InitResolved::default_user)};
};

template <>
struct Schema<ClientDisconnected> {
    static constexpr std::tuple fields{
        field("id_start", &ClientDisconnected::id_start),
        field("id_end_exclusive", &ClientDisconnected::id_end_exclusive)};
};

template <>
struct Schema<ClockSync> {
    static constexpr std::tuple fields{field("unix_time_nanos", &ClockSync::unix_time_nanos)};
};

template <>
struct Schema<Touched> {
    static constexpr std::tuple fields{field("activity_seq", &Touched::activity_seq)};
};

template <>
struct EnumNames<ErrorKind> {
    static constexpr std::array<std::string_view, 6> names{
        "malformed_message", "unsupported_message_type", "unsupported_protocol_generation",
        "invalid_flags",     "invalid_payload",          "invalid_session"};
};

template <>
struct Schema<ErrorMessage> {
    static constexpr std::tuple fields{field("kind", &ErrorMessage::kind),
                                       field("message", &ErrorMessage::message),
                                       omitted("offending_type", &ErrorMessage::offending_type)};
};

}  // namespace detail

std::string_view to_string(ErrorKind kind) noexcept {
    return detail::EnumNames<ErrorKind>::names[static_cast<std::size_t>(kind)];
}

MSB_PROTOCOL_INSTANTIATE(Ready)
MSB_PROTOCOL_INSTANTIATE(InitResolved)
MSB_PROTOCOL_INSTANTIATE(InitAck)
MSB_PROTOCOL_INSTANTIATE(Shutdown)
MSB_PROTOCOL_INSTANTIATE(ClientDisconnected)
MSB_PROTOCOL_INSTANTIATE(ClockSync)
MSB_PROTOCOL_INSTANTIATE(Ping)
MSB_PROTOCOL_INSTANTIATE(Pong)
MSB_PROTOCOL_INSTANTIATE(Touch)
MSB_PROTOCOL_INSTANTIATE(Touched)
MSB_PROTOCOL_INSTANTIATE(ErrorMessage)

}  // namespace msb::protocol
