#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace microsandbox {

std::string_view error_prefix(ErrorCode code) noexcept {
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
        case ErrorCode::kCancelled:
        case ErrorCode::kCustom:
            return "";
        case ErrorCode::kCloudHttp:
            return "cloud HTTP ";
        case ErrorCode::kSnapshotAlreadyExists:
            return "snapshot already exists: ";
        case ErrorCode::kSnapshotSandboxRunning:
            return "snapshot source sandbox ";
        case ErrorCode::kSnapshotImageMissing:
            return "snapshot image missing from cache: ";
        case ErrorCode::kSnapshotIntegrity:
            return "snapshot integrity check failed: ";
        case ErrorCode::kSnapshotMigration:
            return "snapshot artifact migration failed for ";
    }
    return "";
}

std::string_view to_string(ErrorCode code) noexcept {
    switch (code) {
        case ErrorCode::kIo:
            return "io";
        case ErrorCode::kHttp:
            return "http";
        case ErrorCode::kDatabase:
            return "database";
        case ErrorCode::kJson:
            return "json";
        case ErrorCode::kProtocol:
            return "protocol";
        case ErrorCode::kNix:
            return "nix";
        case ErrorCode::kLibkrunfwNotFound:
            return "libkrunfwNotFound";
        case ErrorCode::kInvalidConfig:
            return "invalidConfig";
        case ErrorCode::kNoDefaultCommand:
            return "noDefaultCommand";
        case ErrorCode::kSandboxNotFound:
            return "sandboxNotFound";
        case ErrorCode::kSandboxAlreadyExists:
            return "sandboxAlreadyExists";
        case ErrorCode::kSandboxStillRunning:
            return "sandboxStillRunning";
        case ErrorCode::kSandboxNotRunning:
            return "sandboxNotRunning";
        case ErrorCode::kSandboxReplaced:
            return "sandboxReplaced";
        case ErrorCode::kRuntime:
            return "runtime";
        case ErrorCode::kBootStart:
            return "bootStart";
        case ErrorCode::kAgentClient:
            return "agentClient";
        case ErrorCode::kUnsupportedOperation:
            return "unsupportedOperation";
        case ErrorCode::kExecTimeout:
            return "execTimeout";
        case ErrorCode::kExecFailed:
            return "execFailed";
        case ErrorCode::kTerminal:
            return "terminal";
        case ErrorCode::kSandboxFsOps:
            return "sandboxFsOps";
        case ErrorCode::kImageNotFound:
            return "imageNotFound";
        case ErrorCode::kImageInUse:
            return "imageInUse";
        case ErrorCode::kImage:
            return "image";
        case ErrorCode::kVolumeNotFound:
            return "volumeNotFound";
        case ErrorCode::kVolumeAlreadyExists:
            return "volumeAlreadyExists";
        case ErrorCode::kNetworkBuilder:
            return "networkBuilder";
        case ErrorCode::kPatchFailed:
            return "patchFailed";
        case ErrorCode::kSnapshotNotFound:
            return "snapshotNotFound";
        case ErrorCode::kMetricsDisabled:
            return "metricsDisabled";
        case ErrorCode::kMetricsUnavailable:
            return "metricsUnavailable";
        case ErrorCode::kMissedRotation:
            return "missedRotation";
        case ErrorCode::kInvalidCursor:
            return "invalidCursor";
        case ErrorCode::kUnsupported:
            return "unsupported";
        case ErrorCode::kCustom:
            return "custom";
        case ErrorCode::kCloudHttp:
            return "cloudHttp";
        case ErrorCode::kSnapshotAlreadyExists:
            return "snapshotAlreadyExists";
        case ErrorCode::kSnapshotSandboxRunning:
            return "snapshotSandboxRunning";
        case ErrorCode::kSnapshotImageMissing:
            return "snapshotImageMissing";
        case ErrorCode::kSnapshotIntegrity:
            return "snapshotIntegrity";
        case ErrorCode::kSnapshotMigration:
            return "snapshotMigration";
        case ErrorCode::kCancelled:
            return "cancelled";
    }
    return "custom";
}

Error::Error(ErrorCode code, const std::string& detail)
    : std::runtime_error(std::string(error_prefix(code)) + detail), code_(code), detail_(detail) {}
Error::~Error() = default;
Error::Error(const Error&) = default;
Error& Error::operator=(const Error&) = default;

}  // namespace microsandbox

namespace msb {

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
