// spec/sandbox-process.md sections 8 to 10.
#include "runtime/lifecycle.h"

#include <gtest/gtest.h>

#include "runtime/exit_observer.h"
#include "runtime/watchdog.h"

namespace msb::runtime {
namespace {

using namespace std::chrono_literals;
using state::TerminationReason;

struct Fixture {
    explicit Fixture(std::chrono::milliseconds window = 1ms)
        : lifecycle(loop, window,
                    {.ask_guest = [this] { ++asked; },
                     .end_machine =
                         [this] {
                             ++ended;
                             loop.stop();
                         }}) {}
    EventLoop loop;
    int asked = 0, ended = 0;
    Lifecycle lifecycle;
};

TEST(Lifecycle, DrainAsksOnceAndEndsAfterTheWindow) {
    Fixture f;
    f.lifecycle.drain(Cause::kIdle);
    f.lifecycle.drain(Cause::kParentExit);
    EXPECT_EQ(f.asked, 1);
    EXPECT_EQ(f.ended, 0);
    f.loop.run();
    EXPECT_EQ(f.ended, 1);
    EXPECT_EQ(f.lifecycle.cause(), Cause::kParentExit) << "the last writer wins";
}

TEST(Lifecycle, ClientShutdownIsNotAskedAgain) {
    Fixture f;
    f.lifecycle.drain_by_client();
    f.loop.run();
    EXPECT_EQ(f.asked, 0);
    EXPECT_EQ(f.lifecycle.cause(), Cause::kShutdownRequested);
}

TEST(Lifecycle, SignalStoresNoCause) {
    Fixture f;
    f.lifecycle.end_now(std::nullopt);
    EXPECT_EQ(f.ended, 1);
    EXPECT_EQ(termination_reason(f.lifecycle.cause(), 0), TerminationReason::kCompleted);
    EXPECT_EQ(termination_reason(f.lifecycle.cause(), 1), TerminationReason::kFailed);
}

TEST(Lifecycle, Reasons) {
    EXPECT_EQ(termination_reason(Cause::kIdle, 0), TerminationReason::kIdleTimeout);
    EXPECT_EQ(termination_reason(Cause::kMaxDuration, 0), TerminationReason::kMaxDurationExceeded);
    EXPECT_EQ(termination_reason(Cause::kSignal, 0), TerminationReason::kSignal);
    EXPECT_EQ(termination_reason(Cause::kParentExit, 0), TerminationReason::kSignal);
    EXPECT_EQ(termination_reason(Cause::kAgentUnresponsive, 0),
              TerminationReason::kAgentUnresponsive);
    EXPECT_EQ(termination_reason(Cause::kShutdownRequested, 1),
              TerminationReason::kShutdownRequested);
    EXPECT_EQ(termination_reason(Cause::kStartupFailed, 0), TerminationReason::kFailed);
}

TEST(FlushWindow, OverrideAndDefaults) {
    EXPECT_EQ(flush_window(nullptr, false), 2s);
    EXPECT_EQ(flush_window(nullptr, true), 8s);
    EXPECT_EQ(flush_window("500", true), 500ms);
    EXPECT_EQ(flush_window("0", false), 0ms);
    for (const char* bad : {"bogus", "", "-1", "1.5", "99999999999999999999"})
        EXPECT_EQ(flush_window(bad, false), 2s) << bad;
    EXPECT_EQ(flush_window("18446744073709551615", false), 24h);
}

TEST(Watchdog, OtherBytesAreIgnoredAndDetachIsFinal) {
    EventLoop loop;
    PipeFds pipe = make_pipe();
    int gone = 0;
    Watchdog watchdog(loop, std::move(pipe.read),
                      {.parent_gone = [&] { ++gone; }, .failed = [] {}});
    ASSERT_EQ(write_all(pipe.write.get(), std::string_view("\x05\x00\x01", 3)), 0);
    pipe.write.reset();
    Timer timer(loop, [&] { loop.stop(); });
    timer.start_after(20ms);  // only bounds how long a wrong second event could take to show
    loop.run();
    EXPECT_EQ(gone, 0);
}

TEST(Watchdog, EndOfThePipeIsTheCreatorsEnd) {
    EventLoop loop;
    PipeFds pipe = make_pipe();
    int gone = 0;
    Watchdog watchdog(loop, std::move(pipe.read),
                      {.parent_gone =
                           [&] {
                               ++gone;
                               loop.stop();
                           },
                       .failed = [] {}});
    ASSERT_EQ(write_all(pipe.write.get(), "x"), 0);
    pipe.write.reset();
    loop.run();
    EXPECT_EQ(gone, 1);
}

TEST(ExitSteps, RunInOrderAndKeepRowsWhenEndpointsCannotBeRemoved) {
    std::string order;
    const auto step = [&](char name, bool fails = false) {
        return [&order, name, fails] {
            order += name;
            if (fails) throw std::runtime_error("no");
        };
    };
    run_exit_steps(
        {step('w', true), step('c'), step('e'), step('r'), step('x'), step('l'), step('m')});
    EXPECT_EQ(order, "wcerxlm");
    order.clear();
    run_exit_steps(
        {step('w'), step('c'), step('e', true), step('r'), step('x'), step('l'), step('m')});
    EXPECT_EQ(order, "wcelm");
    order.clear();
    run_exit_steps(
        {step('w'), step('c'), step('e'), step('r', true), step('x'), step('l'), step('m')});
    EXPECT_EQ(order, "wcerlm") << "no self-clean of a row that still says Running";
}

}  // namespace
}  // namespace msb::runtime
