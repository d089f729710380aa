#include "vmm/exit_status.h"

#include <gtest/gtest.h>

namespace msb::vmm {
namespace {

constexpr int kExited0 = 0, kExited1 = 1 << 8, kSigkill = 9;

TEST(ExitStatus, GuestResetIsAShutdown) {
    const MachineExit exit =
        classify_exit({.guest_ended = true, .engine_started = true, .wait_status = kExited0});
    EXPECT_EQ(exit.kind, ExitKind::kGuestShutdown);
    EXPECT_EQ(exit.exit_code, 0);
}

TEST(ExitStatus, GuestResetAfterAPanicIsAPanic) {
    const MachineExit exit = classify_exit({.guest_ended = true,
                                            .engine_started = true,
                                            .panic_line = "Kernel panic - not syncing: x",
                                            .wait_status = kExited0});
    EXPECT_EQ(exit.kind, ExitKind::kGuestPanic);
    EXPECT_EQ(exit.exit_code, 1);
    EXPECT_EQ(exit.detail, "Kernel panic - not syncing: x");
}

TEST(ExitStatus, AnEngineTakenDownAfterTheGuestEndedIsStillAShutdown) {
    EXPECT_EQ(
        classify_exit({.kill_requested = true, .guest_ended = true, .wait_status = kSigkill}).kind,
        ExitKind::kGuestShutdown);
}

TEST(ExitStatus, OurKillIsARequest) {
    const MachineExit exit = classify_exit({.kill_requested = true, .wait_status = kSigkill});
    EXPECT_EQ(exit.kind, ExitKind::kHostRequest);
    EXPECT_EQ(exit.exit_code, 0);
}

TEST(ExitStatus, SomebodyElsesKillIsNamed) {
    const MachineExit exit = classify_exit(
        {.engine_started = true, .engine_output = " last words\n", .wait_status = kSigkill});
    EXPECT_EQ(exit.kind, ExitKind::kEngineKilled);
    EXPECT_EQ(exit.detail, "the engine was killed (signal: 9 (SIGKILL)): last words");
    EXPECT_EQ(
        classify_exit({.host_signal = true, .engine_started = true, .wait_status = kExited0}).kind,
        ExitKind::kEngineKilled);
}

TEST(ExitStatus, RefusalToStartKeepsTheReason) {
    const MachineExit exit =
        classify_exit({.engine_output = "qemu: no such device\n", .wait_status = kExited1});
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_EQ(exit.detail, "the engine did not start (exit status: 1): qemu: no such device");
}

TEST(ExitStatus, AcceleratorAndProtocolFailuresWinOverTheSignalThatEndedThem) {
    EXPECT_EQ(classify_exit({.internal_error = true, .wait_status = kSigkill}).kind,
              ExitKind::kAcceleratorError);
    const MachineExit exit = classify_exit({.violation = "nonsense", .wait_status = kSigkill});
    EXPECT_EQ(exit.kind, ExitKind::kEngineError);
    EXPECT_EQ(exit.detail, "nonsense");
}

}  // namespace
}  // namespace msb::vmm
