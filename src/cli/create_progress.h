// What `run` and `create` show while the SDK pulls the image and boots: a spinner, and the pull display in the middle of it
// when there is something to pull (spec/cli.md section 1.6).
#pragma once

#include <microsandbox/image.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "cli/live_region.h"
#include "cli/pull_view.h"

namespace msb::cli {

class CreateProgress {
  public:
    // "Starting" or "Creating"; the sandbox; its image as the user gave it. Draws nothing when standard error is no
    // terminal or `quiet` is true.
    CreateProgress(std::string_view label, std::string_view sandbox, std::string_view image,
                   bool quiet);

    // For the SDK, which may call it from any thread but not after this is gone.
    microsandbox::PullProgress sink();

  private:
    std::mutex mutex_;
    PullView view_;         // guarded by mutex_
    bool pulling_ = false;  // guarded by mutex_
    std::unique_ptr<LiveRegion> region_;
};

}  // namespace msb::cli
