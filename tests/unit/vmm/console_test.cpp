#include "vmm/console.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace msb::vmm {
namespace {

TEST(ConsoleWatcherTest, FindsThePanicAcrossReads) {
    ConsoleWatcher watcher;
    watcher.feed("[    0.500000] Kernel panic - not sy");
    EXPECT_EQ(watcher.panic_line(), "");
    watcher.feed("ncing: sysrq triggered crash\r\n[    0.6] CPU: 0\n");
    EXPECT_EQ(watcher.panic_line(), "Kernel panic - not syncing: sysrq triggered crash");
    EXPECT_FALSE(watcher.halted());
}

TEST(ConsoleWatcherTest, FindsTheHalt) {
    for (const char* line : {"[    1.0] reboot: System halted\r\n",
                             "reboot: Power off not available: System halted instead\n"}) {
        ConsoleWatcher watcher;
        watcher.feed(line);
        EXPECT_TRUE(watcher.halted()) << line;
    }
    ConsoleWatcher watcher;
    watcher.feed("reboot: System halted, he said\nreboot: System halted");
    EXPECT_FALSE(watcher.halted());
}

TEST(ConsoleWatcherTest, AnEndlessLineCostsNothingAndTheNextOneCounts) {
    ConsoleWatcher watcher;
    for (int i = 0; i < 1000; ++i)
        watcher.feed(std::string(10'000, 'x'));
    watcher.feed("Kernel panic - not syncing: too far right\n");
    EXPECT_EQ(watcher.panic_line(), "");
    watcher.feed("Kernel panic - not syncing: \x1b[31mred\n");
    EXPECT_EQ(watcher.panic_line(), "Kernel panic - not syncing: ?[31mred");
}

class ConsoleLogTest : public ::testing::Test {
  protected:
    ConsoleLogTest() {
        char name[] = "/tmp/vmm-console-XXXXXX";
        directory_ = ::mkdtemp(name);
    }
    ~ConsoleLogTest() override { std::filesystem::remove_all(directory_); }
    std::filesystem::path directory_;
};

TEST_F(ConsoleLogTest, TruncatesAtTheStart) {
    const auto path = directory_ / "kernel.log";
    {
        ConsoleLog(path, 100).write("first boot");
    }
    {
        ConsoleLog(path, 100).write("second");
    }
    EXPECT_EQ(read_file(path), "second");
}

TEST_F(ConsoleLogTest, StopsAtTheLimitAndSaysSo) {
    const auto path = directory_ / "kernel.log";
    ConsoleLog log(path, 10);
    log.write("0123456");
    log.write("789ABC");
    log.write("DEF");
    EXPECT_EQ(log.dropped(), 6u);
    EXPECT_EQ(read_file(path),
              "0123456789\n[the rest of the console was dropped: log limit reached]\n");
}

TEST_F(ConsoleLogTest, DoesNotFollowALink) {
    std::filesystem::create_symlink(directory_ / "elsewhere", directory_ / "kernel.log");
    EXPECT_THROW(ConsoleLog(directory_ / "kernel.log", 10), Error);
    EXPECT_FALSE(std::filesystem::exists(directory_ / "elsewhere"));
}

TEST_F(ConsoleLogTest, AFullDiskIsNotFatal) {
    ConsoleLog log("/dev/full", 10);
    log.write("lost");
}

}  // namespace
}  // namespace msb::vmm
