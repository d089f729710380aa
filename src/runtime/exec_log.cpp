#include "runtime/exec_log.h"

#include "base/error.h"
#include "base/log.h"
#include "base/time.h"

namespace msb::runtime {
namespace {

// Lines are written together up to this size; rotation happens between batches, which keeps every file at most this
// much below the limit and never above it.
constexpr std::size_t kBatchBytes = 256 * 1024;
constexpr std::string_view kLog = "msb::exec_log";

}  // namespace

ExecLog::ExecLog(const std::filesystem::path& log_dir) : file_(log_dir / contract::kExecLogFile) {
    if (const int error = file_.open(); error != 0)
        log(LogLevel::kWarn, kLog, "exec.log cannot be opened, output is not recorded: {}",
            os_error_text(error));
}

void ExecLog::output(std::uint64_t session, contract::LogSource source,
                     std::span<const std::byte> bytes) {
    append(source, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, session);
}

void ExecLog::append(contract::LogSource source, std::string_view text,
                     std::optional<std::uint64_t> session) {
    if (!file_.is_open()) return;
    contract::append_exec_log_line(batch_, wall_clock_ns(), source, text, session);
    if (batch_.size() >= kBatchBytes) flush();
}

void ExecLog::flush() {
    if (batch_.empty()) return;
    const int error = file_.write(batch_);
    if (error != 0 && !failing_)
        log(LogLevel::kWarn, kLog, "exec.log cannot be written, output is lost: {}",
            os_error_text(error));
    failing_ = error != 0;
    batch_.clear();
}

void ExecLog::system(std::string_view text) {
    append(contract::LogSource::kSystem, text, std::nullopt);
    flush();
}

}  // namespace msb::runtime
