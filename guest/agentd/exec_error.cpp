#include "agentd/exec_error.h"

#include <array>
#include <cerrno>

#include "base/error.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

using protocol::ExecFailedKind;

// The names upstream fills in; every other errno has none.
std::optional<std::string> spawn_errno_name(int err) {
    static constexpr std::array kNamed = {
        E2BIG,        EACCES, EAGAIN, EBUSY,   EFAULT, EINVAL, EIO,     EISDIR, ELOOP, EMFILE,
        ENAMETOOLONG, ENFILE, ENOENT, ENOEXEC, ENOMEM, ENOSYS, ENOTDIR, ENXIO,  EPERM, ETXTBSY};
    for (int named : kNamed) {
        if (named == err) return std::string(errno_name(err));
    }
    return std::nullopt;
}

std::optional<std::string> stdin_errno_name(int err) {
    static constexpr std::array kNamed = {EPIPE, EBADF, EINVAL, EIO, ENOSPC, EFBIG};
    for (int named : kNamed) {
        if (named == err) return std::string(errno_name(err));
    }
    return std::nullopt;
}

}  // namespace

ExecFailedKind exec_failed_kind(int err) {
    switch (err) {
        case ENOENT:
            return ExecFailedKind::kNotFound;
        case ENOTDIR:
            return ExecFailedKind::kBadCwd;
        case EACCES:
        case EPERM:
            return ExecFailedKind::kPermissionDenied;
        case ENOEXEC:
        case EISDIR:
        case ETXTBSY:
            return ExecFailedKind::kNotExecutable;
        case E2BIG:
        case ELOOP:
        case ENAMETOOLONG:
        case EFAULT:
            return ExecFailedKind::kBadArgs;
        case EMFILE:
        case ENFILE:
        case EAGAIN:
            return ExecFailedKind::kResourceLimit;
        case ENOMEM:
            return ExecFailedKind::kOutOfMemory;
        default:
            return ExecFailedKind::kOther;
    }
}

protocol::ExecFailed spawn_failure(int err, std::string_view command, std::string_view stage) {
    return {.kind = exec_failed_kind(err),
            .errno_value = err,
            .errno_name = spawn_errno_name(err),
            .message = "spawn " + quoted(command) + ": " + os_error_text(err),
            .stage = std::string(stage)};
}

protocol::ExecFailed other_failure(std::string message) {
    return {.kind = ExecFailedKind::kOther,
            .errno_value = std::nullopt,
            .errno_name = std::nullopt,
            .message = std::move(message),
            .stage = std::nullopt};
}

protocol::ExecStdinError stdin_failure(int err) {
    return {.errno_value = err,
            .errno_name = stdin_errno_name(err),
            .message = "io error: " + os_error_text(err)};
}

}  // namespace msb::agentd
