// The accelerator probe on this host, whatever it can do.
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "guest.h"
#include "vmm/accelerator.h"

namespace msb::vmm::test {
namespace {

using ::testing::HasSubstr;

class Probe : public ::testing::Test {
  protected:
    Probe() {
        ::unsetenv("MSB_ACCEL");
        options_.engine = engine();
        options_.verdict_file = files_.path() / "made" / "when-needed" / "accel.json";
    }
    TemporaryDirectory files_;
    EngineOptions options_;
};

TEST_F(Probe, VerdictIsFoundOutOnceAndHolds) {
    const AcceleratorReport first = choose_accelerator(kernel(), options_);
    EXPECT_FALSE(first.forced);
    EXPECT_FALSE(first.remembered);
    EXPECT_FALSE(first.reason.empty());
    const bool device = ::access("/dev/kvm", R_OK | W_OK) == 0;
    const AcceleratorReport second = choose_accelerator(kernel(), options_);
    EXPECT_EQ(second.accelerator, first.accelerator);
    EXPECT_EQ(second.remembered, device);
    EXPECT_EQ(second.reason, first.reason);

    // A machine on the chosen accelerator really runs: PID 1 is missing, and the kernel gets as far
    // as to say so.
    MachineConfig config;
    config.kernel = kernel();
    config.memory_mib = config.max_memory_mib = 128;
    config.console_log = files_.path() / "kernel.log";
    const auto machine = start_machine(std::move(config), options_);
    EXPECT_EQ(machine->accelerator(), first.accelerator);
    EXPECT_EQ(machine->accelerator_reason(), first.reason);
    EXPECT_EQ(serve_until_exit(*machine).kind, ExitKind::kGuestPanic);

    // Demanding KVM works exactly where the probe says so.
    options_.accelerator = AcceleratorChoice::kKvm;
    if (first.accelerator == Accelerator::kKvm) {
        EXPECT_EQ(choose_accelerator(kernel(), options_).accelerator, Accelerator::kKvm);
    } else {
        try {
            choose_accelerator(kernel(), options_);
            FAIL();
        } catch (const Error& error) {
            EXPECT_THAT(
                error.what(),
                HasSubstr("KVM is required by the configuration but unusable on this host: "));
            EXPECT_THAT(error.what(), HasSubstr(first.reason));
        }
        EXPECT_THAT(probe_report(kernel(), options_).reason, HasSubstr("KVM is required"));
    }
}

// Plants a verdict and sees it believed: the only way to tell that no probe ran.
TEST_F(Probe, ARememberedVerdictIsBelievedUntilItIsForgotten) {
    const AcceleratorReport truth = choose_accelerator(kernel(), options_);
    std::string text;
    if (std::ifstream file(options_.verdict_file); file)
        text.assign(std::istreambuf_iterator<char>(file), {});
    if (::access("/dev/kvm", R_OK | W_OK) != 0) {
        EXPECT_EQ(text, "");  // nothing to remember: there is no KVM at first sight
        return;
    }
    const std::string mark = "\"reason\": \"";
    ASSERT_THAT(text, HasSubstr(mark));
    text.insert(text.find(mark) + mark.size(), "planted: ");
    std::ofstream(options_.verdict_file, std::ios::trunc) << text;
    EXPECT_EQ(choose_accelerator(kernel(), options_).reason, "planted: " + truth.reason);
    EXPECT_EQ(probe_report(kernel(), options_).remembered, true);

    // Concurrent starts after the verdict is gone: all come to the same one.
    forget_verdict(options_.verdict_file);
    const auto image = kernel();
    std::vector<pid_t> children;
    for (int i = 0; i < 3; ++i) {
        const pid_t child = ::fork();
        if (child == 0) try {
                const AcceleratorReport report = choose_accelerator(image, options_);
                ::_exit(report.accelerator != truth.accelerator ? 2 : report.remembered ? 1 : 0);
            } catch (...) {
                ::_exit(3);
            }
        children.push_back(child);
    }
    int probed = 0;
    for (const pid_t child : children) {
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_LE(WEXITSTATUS(status), 1);
        probed += WEXITSTATUS(status) == 0;
    }
    EXPECT_EQ(probed, 1);
}

TEST_F(Probe, AHomeThatCannotBeWrittenStillRuns) {
    options_.verdict_file = "/proc/nowhere/accel.json";
    options_.accelerator = AcceleratorChoice::kAuto;
    EXPECT_FALSE(choose_accelerator(kernel(), options_).remembered);
}

}  // namespace
}  // namespace msb::vmm::test
