// Kills a child at a chosen change to the file system, so that "SIGKILL at any moment" is a loop over every moment that
// matters and not a guess about time.
#pragma once

#include <cstddef>
#include <functional>

namespace msb::test {

// Runs `body` in a forked child and kills it with SIGKILL just before its n-th (from 1) system call that changes a file
// system: a write, truncation, allocation, rename, link, unlink, mkdir, rmdir, mode change, or an open that may create.
// True when it was killed there, false when it made fewer changes and ended by itself. Throws std::runtime_error when
// the body threw or the child cannot be traced. The body must not start threads: they would not be counted.
bool killed_before_change(std::size_t n, const std::function<void()>& body);

}  // namespace msb::test
