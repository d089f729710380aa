// runtime.log: takes over standard error (ours and, through engine_end(), the engine's) and writes it with rotation.
#pragma once

#include <filesystem>
#include <thread>

#include "base/fd.h"
#include "runtime/rotating_file.h"

namespace msb::runtime {

// A thread of its own moves the bytes: writers never wait for the event loop, and a full disk never blocks them.
class RuntimeLog {
  public:
    // Redirects descriptor 2. With `forward`, everything is copied to the old descriptor 2 as well. Throws Error{kIo}
    // when the file cannot be opened; descriptor 2 is untouched then.
    RuntimeLog(const std::filesystem::path& log_dir, bool forward);
    // Puts the old descriptor 2 back after everything written so far has reached the file.
    ~RuntimeLog();
    RuntimeLog(const RuntimeLog&) = delete;
    RuntimeLog& operator=(const RuntimeLog&) = delete;

    // A write end for a child process (owned by the caller).
    UniqueFd writer() const { return duplicate(kStandardError); }

  private:
    static constexpr int kStandardError = 2;
    void pump();

    RotatingFile file_;
    UniqueFd original_;
    UniqueFd read_end_;
    UniqueFd stop_read_, stop_write_;
    bool forward_;
    std::thread thread_;
};

}  // namespace msb::runtime
