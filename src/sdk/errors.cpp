#include <microsandbox/error.h>

#include "base/text.h"
#include "base/time.h"

namespace microsandbox {

ExecFailedError::ExecFailedError(ExecFailure failure)
    : Error(ErrorCode::kExecFailed, failure.message), failure_(std::move(failure)) {}
ExecFailedError::~ExecFailedError() = default;
ExecFailedError::ExecFailedError(const ExecFailedError&) = default;

ExecTimeoutError::ExecTimeoutError(std::int64_t timeout_ms)
    : Error(ErrorCode::kExecTimeout, msb::display_duration(timeout_ms * 1'000'000)),
      timeout_ms_(timeout_ms) {}
ExecTimeoutError::~ExecTimeoutError() = default;
ExecTimeoutError::ExecTimeoutError(const ExecTimeoutError&) = default;

BootStartError::BootStartError(std::string sandbox_name, BootError error)
    : Error(ErrorCode::kBootStart, msb::quoted(sandbox_name) + ": " + error.message),
      sandbox_name_(std::move(sandbox_name)),
      boot_error_(std::move(error)) {}
BootStartError::~BootStartError() = default;
BootStartError::BootStartError(const BootStartError&) = default;

}  // namespace microsandbox
