#include "runtime/event_loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <vector>

#include "base/fd.h"

namespace msb::runtime {
namespace {

using namespace std::chrono_literals;

TEST(EventLoop, ReadableIsRepeatedUntilDrainedOrUnwanted) {
    EventLoop loop;
    PipeFds pipe = make_pipe();
    ASSERT_EQ(write_all(pipe.write.get(), "abc"), 0);
    std::string seen;
    std::unique_ptr<FdWatch> watch;
    watch = std::make_unique<FdWatch>(loop, pipe.read.get(), [&] {
        char byte = 0;
        ASSERT_EQ(::read(pipe.read.get(), &byte, 1), 1);
        seen += byte;
        if (seen == "ab") {
            watch->want_read(false);
            loop.post([&] { watch->want_read(true); });
        }
        if (seen == "abc") loop.stop();
    });
    watch->want_read(true);
    loop.run();
    EXPECT_EQ(seen, "abc");
}

TEST(EventLoop, WatchMayDestroyItselfAndLeavesTheDescriptorOpen) {
    EventLoop loop;
    PipeFds pipe = make_pipe();
    ASSERT_EQ(write_all(pipe.write.get(), "x"), 0);
    std::unique_ptr<FdWatch> watch;
    watch = std::make_unique<FdWatch>(loop, pipe.read.get(), [&] {
        watch.reset();
        loop.post([&] { loop.stop(); });
    });
    watch->want_read(true);
    loop.run();
    char byte = 0;
    EXPECT_EQ(::read(pipe.read.get(), &byte, 1), 1);
}

TEST(EventLoop, TimerRestartedOrCancelledDoesNotFireForTheOldDelay) {
    EventLoop loop;
    int fired = 0, cancelled = 0;
    Timer timer(loop, [&] {
        ++fired;
        loop.stop();
    });
    Timer dead(loop, [&] { ++cancelled; });
    dead.start_after(0ns);
    dead.cancel();
    timer.start_after(0ns);
    timer.start_after(1ms);
    loop.run();
    EXPECT_EQ(fired, 1);
    EXPECT_EQ(cancelled, 0);
}

TEST(EventLoop, SignalsArriveOnTheLoop) {
    EventLoop loop;
    std::vector<int> seen;
    SignalWatch watch(loop, {SIGUSR1, SIGTERM}, [&](int signal) {
        seen.push_back(signal);
        if (seen.size() == 2) loop.stop();
    });
    ::raise(SIGUSR1);
    ::raise(SIGTERM);
    loop.run();
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, (std::vector<int>{SIGUSR1, SIGTERM}));
}

}  // namespace
}  // namespace msb::runtime
