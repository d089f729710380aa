// Error blocks (spec/cli.md sections 1.4, 1.6 and 12.8).
#include "cli/report.h"

#include <gtest/gtest.h>

namespace msb::cli {
namespace {

template <class Call>
std::string stderr_of(Call&& call) {
    ::testing::internal::CaptureStderr();
    call();
    return ::testing::internal::GetCapturedStderr();
}

TEST(BootFailure, NamesTheStageAHintAndWhereToLook) {
    EXPECT_EQ(stderr_of([] { print_boot_failure("X", {"t", "mount", 2, "m"}); }),
              "error: failed to start \"X\"\n  → mount: m\n  → the host path for one of the mounts "
              "does not exist\n"
              "  → run `msb logs --source system X` for full diagnostics\n");
    EXPECT_NE(stderr_of([] {
                  print_boot_failure("X", {"t", "network", 98, "m"});
              }).find("a port is already bound"),
              std::string::npos);
    EXPECT_EQ(stderr_of([] { print_boot_failure("X", {"t", "other", std::nullopt, "m"}); }),
              "error: failed to start \"X\"\n  → other: m\n  → run `msb logs --source system X` "
              "for full diagnostics\n");
}

TEST(ExecFailure, MapsKindsToExitCodes) {
    int code = 0;
    const auto text = stderr_of([&] {
        code = print_exec_failure({"not_found",
                                   2,
                                   "ENOENT",
                                   "spawn \"nope\": No such file or directory (os error 2)",
                                   {}});
    });
    EXPECT_EQ(code, 127);
    EXPECT_EQ(text,
              "error: failed to exec \"nope\"\n"
              "  → not found: spawn \"nope\": No such file or directory (os error 2) (ENOENT)\n"
              "  → is `nope` on PATH inside the sandbox? Try `msb exec ... -- which nope`\n");
    const std::pair<std::string, int> kinds[] = {{"permission_denied", 126},
                                                 {"not_executable", 126},
                                                 {"bad_cwd", 1},
                                                 {"pty_setup_failed", 1},
                                                 {"other", 1},
                                                 {"unheard_of", 1}};
    for (const auto& [kind, expected] : kinds) {
        (void)stderr_of([&] { code = print_exec_failure({kind, {}, {}, "m", {}}); });
        EXPECT_EQ(code, expected) << kind;
    }
    EXPECT_EQ(stderr_of([] { (void)print_exec_failure({"other", 5, {}, "m", {}}); }),
              "error: failed to exec \"<unknown>\"\n  → exec: m (errno 5)\n");
}

TEST(ExecFailure, AHostileAgentCannotDriveTheTerminal) {
    const auto text = stderr_of([] {
        (void)print_exec_failure({"other", {}, "\x1b]0;x\x07", "spawn \"\x1b[2J\": x", {}});
    });
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(ExitCodes, KeepTheLowEightBits) {
    EXPECT_EQ(guest_exit_code(7), 7);
    EXPECT_EQ(guest_exit_code(-1), 255);
    EXPECT_EQ(guest_exit_code(256), 0);
}

TEST(Exceptions, OneLineEach) {
    const auto report = [](const auto& error) {
        return stderr_of([&] {
            try {
                throw error;
            } catch (...) {
                EXPECT_EQ(report_current_exception(), 1);
            }
        });
    };
    EXPECT_EQ(report(microsandbox::Error(microsandbox::ErrorCode::kSandboxNotFound, "x")),
              "error: sandbox not found: x\n");
    EXPECT_EQ(report(microsandbox::Error(microsandbox::ErrorCode::kUnsupportedOperation, "x")),
              "error: this sandbox's runtime is too old for the requested feature\n"
              "  → the sandbox was started by an older microsandbox runtime\n  → exec and shell "
              "still work\n"
              "  → restart the sandbox to update its runtime, then retry\n");
}

}  // namespace
}  // namespace msb::cli
