// Payloads of core.exec.* messages (spec/protocol.md section 5).
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace detail {

template <>
struct Schema<ExecRequest> {
    static constexpr std::tuple fields{field("cmd", &ExecRequest::cmd),
                                       defaulted("args", &ExecRequest::args),
                                       defaulted("env", &ExecRequest::env),
                                       field("cwd", &ExecRequest::cwd),
                                       field("user", &ExecRequest::user),
                                       defaulted("tty", &ExecRequest::tty),
                                       defaulted("rows", &ExecRequest::rows),
                                       defaulted("cols", &ExecRequest::cols),
                                       defaulted("rlimits", &ExecRequest::rlimits)};
};

template <>
struct Schema<ExecStarted> {
    static constexpr std::tuple fields{field("pid", &ExecStarted::pid)};
};

template <>
struct Schema<ExecStdinError> {
    static constexpr std::tuple fields{field("errno", &ExecStdinError::errno_value),
                                       field("errno_name", &ExecStdinError::errno_name),
                                       field("message", &ExecStdinError::message)};
};

template <>
struct Schema<ExecExited> {
    static constexpr std::tuple fields{field("code", &ExecExited::code)};
};

template <>
struct EnumNames<ExecFailedKind> {
    static constexpr std::array<std::string_view, 10> names{
        "not_found",      "permission_denied", "not_executable", "bad_cwd",          "bad_args",
        "resource_limit", "user_setup_failed", "out_of_memory",  "pty_setup_failed", "other"};
};

template <>
struct Schema<ExecFailed> {
    static constexpr std::tuple fields{
        field("kind", &ExecFailed::kind), field("errno", &ExecFailed::errno_value),
        field("errno_name", &ExecFailed::errno_name), field("message", &ExecFailed::message),
        field("stage", &ExecFailed::stage)};
};

template <>
struct Schema<ExecResize> {
    static constexpr std::tuple fields{field("rows", &ExecResize::rows),
                                       field("cols", &ExecResize::cols)};
};

template <>
struct Schema<ExecSignal> {
    static constexpr std::tuple fields{field("signal", &ExecSignal::signal)};
};

}  // namespace detail

std::string_view to_string(ExecFailedKind kind) noexcept {
    return detail::EnumNames<ExecFailedKind>::names[static_cast<std::size_t>(kind)];
}

MSB_PROTOCOL_INSTANTIATE(ExecRequest)
MSB_PROTOCOL_INSTANTIATE(ExecStarted)
MSB_PROTOCOL_INSTANTIATE(ExecStdin)
MSB_PROTOCOL_INSTANTIATE(ExecStdinError)
MSB_PROTOCOL_INSTANTIATE(ExecStdout)
MSB_PROTOCOL_INSTANTIATE(ExecStderr)
MSB_PROTOCOL_INSTANTIATE(ExecExited)
MSB_PROTOCOL_INSTANTIATE(ExecFailed)
MSB_PROTOCOL_INSTANTIATE(ExecResize)
MSB_PROTOCOL_INSTANTIATE(ExecSignal)

}  // namespace msb::protocol
