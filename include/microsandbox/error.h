// The one exception type of the SDK.
//
// Every function of the SDK that fails throws `microsandbox::Error` or a class derived from it. Texts are stable:
// programs may match them, but should prefer `code()`.
#pragma once

#include <microsandbox/export.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace microsandbox {

// Upstream's error kinds (spec/sdk.md section 2.1). New kinds are only ever added at the end.
enum class ErrorCode : std::uint8_t {
    kIo,
    kHttp,
    kDatabase,
    kJson,
    kProtocol,
    kNix,
    kLibkrunfwNotFound,
    kInvalidConfig,
    kNoDefaultCommand,
    kSandboxNotFound,
    kSandboxAlreadyExists,
    kSandboxStillRunning,
    kSandboxNotRunning,
    kSandboxReplaced,  // the name now belongs to another sandbox than the one the handle was made for
    kRuntime,
    kBootStart,             // always a BootStartError when the SDK throws it
    kAgentClient,           // the connection to the guest agent failed
    kUnsupportedOperation,  // the guest speaks an older protocol generation
    kExecTimeout,           // always an ExecTimeoutError when the SDK throws it
    kExecFailed,            // always an ExecFailedError when the SDK throws it
    kTerminal,
    kSandboxFsOps,
    kImageNotFound,
    kImageInUse,
    kImage,
    kVolumeNotFound,
    kVolumeAlreadyExists,
    kNetworkBuilder,
    kPatchFailed,
    kSnapshotNotFound,
    kMetricsDisabled,
    kMetricsUnavailable,
    kMissedRotation,
    kInvalidCursor,
    kUnsupported,
    kCustom,
    kCloudHttp,
    kSnapshotAlreadyExists,
    kSnapshotSandboxRunning,
    kSnapshotImageMissing,
    kSnapshotIntegrity,
    kSnapshotMigration,
    kCancelled,  // the caller's std::stop_token was triggered; ours, upstream cancels by dropping futures
};

// The text put before the detail when an error of this kind is displayed, e.g. "invalid config: "; "" where the detail
// is the whole text.
MICROSANDBOX_API std::string_view error_prefix(ErrorCode code) noexcept;

// The stable camelCase name of a kind, e.g. "sandboxNotFound" (what upstream's Node SDK calls `code`).
MICROSANDBOX_API std::string_view to_string(ErrorCode code) noexcept;

// what() is the whole text a user reads: prefix + detail.
class MICROSANDBOX_API Error : public std::runtime_error {
  public:
    Error(ErrorCode code, const std::string& detail);
    ~Error() override;
    Error(const Error&);
    Error& operator=(const Error&);

    ErrorCode code() const noexcept { return code_; }
    const std::string& detail() const noexcept { return detail_; }

  private:
    ErrorCode code_;
    std::string detail_;
};

// Why the guest could not run a command. `kind` is one of not_found, permission_denied, not_executable, bad_cwd,
// bad_args, resource_limit, user_setup_failed, out_of_memory, pty_setup_failed, other (spec/protocol.md section 9).
struct ExecFailure {
    std::string kind;
    std::optional<std::int32_t> errno_value;
    std::optional<std::string> errno_name;
    std::string message;  // e.g. spawn "nosuch": No such file or directory (os error 2)
    std::optional<std::string> stage;
};

// "exec failed: <message>": the command never started.
class MICROSANDBOX_API ExecFailedError : public Error {
  public:
    explicit ExecFailedError(ExecFailure failure);
    ~ExecFailedError() override;
    ExecFailedError(const ExecFailedError&);

    const ExecFailure& failure() const noexcept { return failure_; }

  private:
    ExecFailure failure_;
};

// "exec timed out after <d>"; output collected so far is discarded.
class MICROSANDBOX_API ExecTimeoutError : public Error {
  public:
    explicit ExecTimeoutError(std::int64_t timeout_ms);
    ~ExecTimeoutError() override;
    ExecTimeoutError(const ExecTimeoutError&);

    std::int64_t timeout_ms() const noexcept { return timeout_ms_; }

  private:
    std::int64_t timeout_ms_;
};

// The record a sandbox process leaves when it cannot boot (boot-error.json, spec/sandbox-process.md section 11).
struct BootError {
    std::string time;   // RFC 3339
    std::string stage;  // mount, build_vm, config, network, image, other
    std::optional<std::int32_t> errno_value;
    std::string message;
};

// `failed to start "<name>": <message>`.
class MICROSANDBOX_API BootStartError : public Error {
  public:
    BootStartError(std::string sandbox_name, BootError error);
    ~BootStartError() override;
    BootStartError(const BootStartError&);

    const std::string& sandbox_name() const noexcept { return sandbox_name_; }
    const BootError& boot_error() const noexcept { return boot_error_; }

  private:
    std::string sandbox_name_;
    BootError boot_error_;
};

}  // namespace microsandbox
