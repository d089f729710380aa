// The one exception type of the product and the errno helpers around it.
//
// `msb::Error` is thrown at API level and caught at process and thread boundaries. Data-path code
// (devices, packets, parsers of guest input) does not throw: it returns a value, a status or an
// errno.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace msb {

// Upstream's error kinds (spec/sdk.md section 2.1). The order is ours; the names are stable.
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
    kSandboxReplaced,
    kRuntime,
    kBootStart,
    kAgentClient,
    kUnsupportedOperation,  // AgentClient/UnsupportedOperation: the guest speaks an older protocol
                            // generation
    kExecTimeout,
    kExecFailed,
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
};

// The text put before the detail when an error of this kind is displayed, e.g. "invalid config: ";
// "" where the detail is the whole text.
std::string_view error_prefix(ErrorCode code);

// what() is the whole text a user reads: prefix + detail.
class Error : public std::runtime_error {
  public:
    Error(ErrorCode code, const std::string& detail)
        : std::runtime_error(std::string(error_prefix(code)) + detail),
          code_(code),
          detail_(detail) {}

    ErrorCode code() const noexcept { return code_; }
    const std::string& detail() const noexcept { return detail_; }

  private:
    ErrorCode code_;
    std::string detail_;
};

// "No such file or directory (os error 2)": the form every OS error takes in messages clients match
// on.
std::string os_error_text(int err);

// "ENOENT" for the errno values upstream names; "" for others.
std::string_view errno_name(int err);

// Throws Error{kIo} "<context>: <os_error_text(err)>" ("<os_error_text>" alone when the context is
// empty).
[[noreturn]] void throw_os_error(int err, std::string_view context = {});

}  // namespace msb
