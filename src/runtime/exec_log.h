// exec.log: everything the exec sessions of this sandbox print, as JSON lines. A full or failing disk is reported once
// and never disturbs the relay.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/relay.h"
#include "runtime/rotating_file.h"

namespace msb::runtime {

class ExecLog : public ExecTap {
  public:
    explicit ExecLog(const std::filesystem::path& log_dir);

    void output(std::uint64_t session, contract::LogSource source,
                std::span<const std::byte> bytes) override;
    void flush() override;
    // A marker line; written at once.
    void system(std::string_view text);

  private:
    void append(contract::LogSource source, std::string_view text,
                std::optional<std::uint64_t> session);

    RotatingFile file_;
    std::string batch_;  // whole lines not written yet
    bool failing_ = false;
};

}  // namespace msb::runtime
