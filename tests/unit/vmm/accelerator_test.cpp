// What does not need a machine to boot; the probe itself is in tests/integration/vmm.
#include "vmm/accelerator.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "vmm/cpu_limit.h"
#include "vmm/probe_guest.h"

namespace msb::vmm {
namespace {

using ::testing::HasSubstr;

TEST(AcceleratorChoiceTest, Names) {
    EXPECT_EQ(parse_accelerator_choice("kvm"), AcceleratorChoice::kKvm);
    EXPECT_EQ(parse_accelerator_choice("tcg"), AcceleratorChoice::kTcg);
    EXPECT_EQ(parse_accelerator_choice("auto"), AcceleratorChoice::kAuto);
    EXPECT_EQ(parse_accelerator_choice("KVM"), std::nullopt);
    EXPECT_EQ(parse_accelerator_choice(""), std::nullopt);
}

class AcceleratorVariable : public ::testing::Test {
  protected:
    explicit AcceleratorVariable(const char* value = "") { ::setenv("MSB_ACCEL", value, 1); }
    ~AcceleratorVariable() override { ::unsetenv("MSB_ACCEL"); }
};

TEST_F(AcceleratorVariable, WinsOverTheOption) {
    ::setenv("MSB_ACCEL", "tcg", 1);
    const auto report = choose_accelerator("/no/kernel", {.accelerator = AcceleratorChoice::kKvm});
    EXPECT_EQ(report.accelerator, Accelerator::kTcg);
    EXPECT_TRUE(report.forced);
    EXPECT_EQ(report.reason, "asked for by MSB_ACCEL=tcg");
}

TEST_F(AcceleratorVariable, EmptyCountsAsUnset) {
    const auto report = choose_accelerator("/no/kernel", {.accelerator = AcceleratorChoice::kTcg});
    EXPECT_EQ(report.reason, "asked for by the configuration");
}

TEST_F(AcceleratorVariable, NonsenseIsAnError) {
    ::setenv("MSB_ACCEL", "xen", 1);
    EXPECT_THROW(choose_accelerator("/no/kernel", {}), Error);
    EXPECT_THAT(probe_report("/no/kernel", {}).reason, HasSubstr("expected kvm, tcg or auto"));
}

TEST(ProbeGuest, IsAnArchiveOfAConsoleAndAnInit) {
    const std::string archive = probe_initramfs();
    EXPECT_EQ(archive.substr(0, 6), "070701");
    EXPECT_EQ(archive.size() % 4, 0u);
    EXPECT_THAT(archive, HasSubstr("dev/console"));
    EXPECT_THAT(archive, HasSubstr("\x7f"
                                   "ELF"));
    EXPECT_THAT(archive, HasSubstr(std::string(kProbeMarker)));
    EXPECT_THAT(archive, HasSubstr("TRAILER!!!"));
}

class EngineVersionTest : public ::testing::Test {
  protected:
    EngineVersionTest() {
        char name[] = "/tmp/vmm-version-XXXXXX";
        directory_ = ::mkdtemp(name);
    }
    ~EngineVersionTest() override { std::filesystem::remove_all(directory_); }
    std::filesystem::path engine(const std::string& script) {
        const auto path = directory_ / "engine";
        std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
        ::chmod(path.c_str(), 0755);
        return path;
    }
    std::string error(const std::filesystem::path& path) {
        try {
            engine_version(path);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    std::filesystem::path directory_;
};

TEST_F(EngineVersionTest, IsRead) {
    EXPECT_EQ(engine_version(engine("echo 'QEMU emulator version 10.0.1 (x)'; echo c")), "10.0.1");
    EXPECT_EQ(engine_version(engine("echo 'QEMU emulator version 7.2'")), "7.2");
}

TEST_F(EngineVersionTest, TooOldSaysSo) {
    EXPECT_THAT(error(engine("echo 'QEMU emulator version 6.2.0'")),
                HasSubstr("it is version 6.2.0, and 7.2 or newer is needed"));
}

TEST_F(EngineVersionTest, SomethingElseIsNotAnEngine) {
    EXPECT_THAT(error(engine("yes")), HasSubstr("is not a usable QEMU"));
    EXPECT_THAT(error(directory_ / "missing"), HasSubstr("No such file or directory (os error 2)"));
}

TEST(CpuLimit, PassesOverThreadsOfOthers) {
    cpu_set_t before, after;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    limit_threads(1, {static_cast<std::int64_t>(::gettid()), -1, 0, INT64_MAX}, 1);
    ASSERT_EQ(::sched_getaffinity(0, sizeof after, &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(CpuLimit, LimitsAndRestores) {
    cpu_set_t before, limited, after;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    // The mask that is spread comes from this thread, so limit another one.
    PipeFds stop = make_pipe();
    PipeFds ready = make_pipe();
    const pid_t child = ::fork();
    if (child == 0) {
        char byte = 0;
        stop.write.reset();
        (void)!::write(ready.write.get(), &byte, 1);
        (void)!::read(stop.read.get(), &byte, 1);
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(ready.read.get(), &byte, 1), 1);
    limit_threads(child, {child}, 1);
    ASSERT_EQ(::sched_getaffinity(child, sizeof limited, &limited), 0);
    EXPECT_EQ(CPU_COUNT(&limited), 1);
    limit_threads(child, {child}, 0);
    ASSERT_EQ(::sched_getaffinity(child, sizeof after, &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
    stop.write.reset();
    int status = 0;
    ::waitpid(child, &status, 0);
}

}  // namespace
}  // namespace msb::vmm
