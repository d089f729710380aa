// The opportunistic sweep over other sandboxes' rows, beside the event loop (spec/sandbox-process.md section 18).
#pragma once

#include <filesystem>
#include <future>

#include "state/home.h"

namespace msb::runtime {

class Maintenance {
  public:
    // Sweeps on a thread with its own connection; failures are swallowed.
    void start(std::filesystem::path database, state::StateRoots roots);

    // A sweep held up by a locked database must not hold up the end of the sandbox: false when it still runs after a
    // moment. The process must then end without tearing the thread's world down.
    bool finished() const;

  private:
    std::shared_future<void> done_;
};

}  // namespace msb::runtime
