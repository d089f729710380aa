// The pull display on a terminal's standard error, 10 times a second, erased at the end (spec/cli.md section 1.6).
#pragma once

#include <microsandbox/image.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "cli/live_region.h"
#include "cli/pull_view.h"

namespace msb::cli {

class PullDisplay {
  public:
    // Draws nothing when standard error is no terminal or `quiet` is true.
    PullDisplay(std::string_view verb, std::string_view target, bool quiet);
    ~PullDisplay();  // erases
    PullDisplay(const PullDisplay&) = delete;
    PullDisplay& operator=(const PullDisplay&) = delete;

    // For the SDK, which may call it from any thread but not after the display is gone.
    microsandbox::PullProgress sink();
    // An event has come: the work itself has begun.
    bool began() const { return began_; }
    void apply(const microsandbox::PullEvent& event);
    void erase();

  private:
    std::atomic<bool> began_{false};
    std::mutex mutex_;
    PullView view_;  // guarded by mutex_
    std::unique_ptr<LiveRegion> region_;
};

}  // namespace msb::cli
