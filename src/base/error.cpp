#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace msb {

std::string_view error_prefix(ErrorCode code) {
    switch (code) {
        case ErrorCode::kIo:
            return "io error: ";
        case ErrorCode::kHttp:
            return "http error: ";
        case ErrorCode::kDatabase:
            return "database error: ";
        case ErrorCode::kJson:
            return "json error: ";
        case ErrorCode::kProtocol:
            return "protocol error: ";
        case ErrorCode::kNix:
            return "nix error: ";
        case ErrorCode::kLibkrunfwNotFound:
            return "libkrunfw not found: ";
        case ErrorCode::kInvalidConfig:
            return "invalid config: ";
        case ErrorCode::kSandboxNotFound:
            return "sandbox not found: ";
        case ErrorCode::kSandboxAlreadyExists:
            return "sandbox already exists: ";
        case ErrorCode::kSandboxStillRunning:
            return "sandbox still running: ";
        case ErrorCode::kSandboxNotRunning:
            return "sandbox ";
        case ErrorCode::kRuntime:
            return "runtime error: ";
        case ErrorCode::kBootStart:
            return "failed to start ";
        case ErrorCode::kAgentClient:
            return "agent client error: ";
        case ErrorCode::kExecTimeout:
            return "exec timed out after ";
        case ErrorCode::kExecFailed:
            return "exec failed: ";
        case ErrorCode::kTerminal:
            return "terminal error: ";
        case ErrorCode::kSandboxFsOps:
            return "sandbox fs error: ";
        case ErrorCode::kImageNotFound:
            return "image not found: ";
        case ErrorCode::kImageInUse:
            return "image in use by sandbox(es): ";
        case ErrorCode::kImage:
            return "image error: ";
        case ErrorCode::kVolumeNotFound:
            return "volume not found: ";
        case ErrorCode::kVolumeAlreadyExists:
            return "volume already exists: ";
        case ErrorCode::kNetworkBuilder:
            return "network builder: ";
        case ErrorCode::kPatchFailed:
            return "patch failed: ";
        case ErrorCode::kSnapshotNotFound:
            return "snapshot not found: ";
        case ErrorCode::kMetricsDisabled:
            return "metrics disabled for sandbox: ";
        case ErrorCode::kMetricsUnavailable:
            return "metrics unavailable for sandbox: ";
        case ErrorCode::kInvalidCursor:
            return "invalid cursor: ";
        case ErrorCode::kNoDefaultCommand:
        case ErrorCode::kSandboxReplaced:
        case ErrorCode::kUnsupportedOperation:
        case ErrorCode::kMissedRotation:
        case ErrorCode::kUnsupported:
        case ErrorCode::kCustom:
            return "";
    }
    return "";
}

std::string os_error_text(int err) {
    char buffer[128];
    // The GNU strerror_r returns the text, which need not be in the buffer.
    return std::string(strerror_r(err, buffer, sizeof buffer)) + " (os error " +
           std::to_string(err) + ")";
}

std::string_view errno_name(int err) {
    const char* name = strerrorname_np(err);
    return name == nullptr ? std::string_view{} : std::string_view{name};
}

void throw_os_error(int err, std::string_view context) {
    if (context.empty()) throw Error(ErrorCode::kIo, os_error_text(err));
    throw Error(ErrorCode::kIo, std::string(context) + ": " + os_error_text(err));
}

}  // namespace msb
