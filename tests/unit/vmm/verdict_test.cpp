#include "vmm/verdict.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "base/fd.h"

namespace msb::vmm {
namespace {

class VerdictTest : public ::testing::Test {
  protected:
    VerdictTest() {
        char name[] = "/tmp/vmm-verdict-XXXXXX";
        directory_ = ::mkdtemp(name);
        file_ = directory_ / "accel.json";
    }
    ~VerdictTest() override { std::filesystem::remove_all(directory_); }

    const VerdictKey key_{.boot_id = "b", .engine = "e", .kernel = "k"};
    std::filesystem::path directory_, file_;
};

TEST_F(VerdictTest, IsReadBack) {
    write_verdict(file_, key_,
                  {.accelerator = Accelerator::kKvm, .reason = "works \"well\"", .probe_ms = 412});
    const auto verdict = read_verdict(file_, key_);
    ASSERT_TRUE(verdict);
    EXPECT_EQ(verdict->accelerator, Accelerator::kKvm);
    EXPECT_EQ(verdict->reason, "works \"well\"");
    EXPECT_EQ(verdict->probe_ms, 412);
}

TEST_F(VerdictTest, IsAboutOneBootOneEngineAndOneKernel) {
    write_verdict(file_, key_, {});
    EXPECT_FALSE(read_verdict(file_, {.boot_id = "x", .engine = "e", .kernel = "k"}));
    EXPECT_FALSE(read_verdict(file_, {.boot_id = "b", .engine = "x", .kernel = "k"}));
    EXPECT_FALSE(read_verdict(file_, {.boot_id = "b", .engine = "e", .kernel = "x"}));
    EXPECT_TRUE(read_verdict(file_, key_));
}

TEST_F(VerdictTest, ADamagedFileIsNoVerdict) {
    EXPECT_FALSE(read_verdict(file_, key_));  // missing
    write_verdict(file_, key_, {.reason = "r"});
    const std::string good = read_file(file_);
    for (std::size_t size = 0; size + 2 < good.size(); size += 7) {
        std::ofstream(file_, std::ios::trunc) << good.substr(0, size);
        EXPECT_FALSE(read_verdict(file_, key_)) << size;
    }
    std::ofstream(file_, std::ios::trunc) << std::string(1 << 20, '[');
    EXPECT_FALSE(read_verdict(file_, key_));
    std::ofstream(file_, std::ios::trunc) << R"({"format":2,"boot_id":"b"})";
    EXPECT_FALSE(read_verdict(file_, key_));
    std::filesystem::remove(file_);
    std::filesystem::create_directory(file_);
    EXPECT_FALSE(read_verdict(file_, key_));
}

TEST_F(VerdictTest, KeyChangesWithTheFile) {
    const auto kernel = directory_ / "vmlinux";
    std::ofstream(kernel) << "one";
    const VerdictKey before = verdict_key("/proc/self/exe", kernel);
    EXPECT_EQ(before, verdict_key("/proc/self/exe", kernel));
    std::ofstream(kernel) << "three";
    EXPECT_NE(before, verdict_key("/proc/self/exe", kernel));
    EXPECT_THROW(verdict_key("/proc/self/exe", directory_ / "missing"), Error);
}

}  // namespace
}  // namespace msb::vmm
