// Log files and their rotation: spec/sandbox-process.md section 12, conformance checks 14 and 15.
#include "runtime/exec_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/fd.h"
#include "runtime/runtime_log.h"

namespace msb::runtime {
namespace {

namespace fs = std::filesystem;

class LogDirectory : public ::testing::Test {
  protected:
    void SetUp() override {
        char pattern[] = "/tmp/runtime-log-XXXXXX";
        directory_ = ::mkdtemp(pattern);
    }
    void TearDown() override { fs::remove_all(directory_); }
    void put(const std::string& name, const std::string& content) {
        std::ofstream(directory_ / name) << content;
    }
    std::string get(const std::string& name) { return read_file(directory_ / name); }
    bool has(const std::string& name) { return fs::exists(directory_ / name); }
    fs::path directory_;
};

constexpr std::size_t kMarkerBytes = 78;

TEST_F(LogDirectory, ExactlyFullStillFits) {
    put("exec.log", std::string(contract::kLogRotateBytes - kMarkerBytes, 'x'));
    ExecLog(directory_).system(contract::kStoppedMarker);
    EXPECT_EQ(fs::file_size(directory_ / "exec.log"), contract::kLogRotateBytes);
    EXPECT_FALSE(has("exec.log.1"));
}

TEST_F(LogDirectory, RotationShiftsFourFiles) {
    put("exec.log", std::string(contract::kLogRotateBytes + 1, 'x'));
    for (const char* n : {"1", "2", "3", "4", "5"})
        put(std::string("exec.log.") + n, n);
    ExecLog(directory_).system(contract::kStoppedMarker);
    EXPECT_EQ(fs::file_size(directory_ / "exec.log"), kMarkerBytes);
    EXPECT_EQ(fs::file_size(directory_ / "exec.log.1"), contract::kLogRotateBytes + 1);
    EXPECT_EQ(get("exec.log.2"), "1");
    EXPECT_EQ(get("exec.log.4"), "3");
    EXPECT_EQ(get("exec.log.5"), "5");
}

TEST_F(LogDirectory, OutputIsOneLinePerChunk) {
    ExecLog log(directory_);
    log.output(1, contract::LogSource::kStdout, std::as_bytes(std::span("\xff\xfehi", 4)));
    log.flush();
    const std::string line = get("exec.log");
    EXPECT_EQ(line.substr(line.find("\"s\"")),
              "\"s\":\"stdout\",\"d\":\"\xef\xbf\xbd\xef\xbf\xbdhi\",\"id\":1}\n");
}

TEST_F(LogDirectory, MissingDirectoryDisturbsNobody) {
    ExecLog log(directory_ / "missing");
    log.output(1, contract::LogSource::kStdout, {});
    log.flush();
    log.system("x\n");
}

// The limit on the file size stands for a full disk: writes fail, the file keeps whole lines, later lines come again.
TEST_F(LogDirectory, FullDiskLosesLinesAndNothingElse) {
    RotatingFile file(directory_ / "f");
    ASSERT_EQ(file.open(), 0);
    ASSERT_EQ(file.write("first\n"), 0);
    rlimit old{}, small{};
    ::getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 10;
    auto* const handler = ::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &small);
    const int error = file.write("does not fit\n");
    ::setrlimit(RLIMIT_FSIZE, &old);
    ::signal(SIGXFSZ, handler);
    EXPECT_EQ(error, EFBIG);
    EXPECT_EQ(file.write("second\n"), 0);
    EXPECT_EQ(get("f"), "first\nsecond\n");
}

TEST_F(LogDirectory, RuntimeLogTakesStandardErrorAndGivesItBack) {
    const UniqueFd before = duplicate(STDERR_FILENO);
    PipeFds outer = make_pipe();
    ::dup2(outer.write.get(), STDERR_FILENO);
    {
        RuntimeLog log(directory_, true);
        ASSERT_EQ(write_all(STDERR_FILENO, "ours\n"), 0);
        const UniqueFd child = log.writer();
        ASSERT_EQ(write_all(child.get(), "engine\n"), 0);
    }
    ASSERT_EQ(write_all(STDERR_FILENO, "afterwards\n"), 0);
    ::dup2(before.get(), STDERR_FILENO);
    outer.write.reset();
    EXPECT_EQ(get("runtime.log"), "ours\nengine\n");
    EXPECT_EQ(read_to_end(outer.read.get()), "ours\nengine\nafterwards\n") << "--forward copies";
}

TEST_F(LogDirectory, RuntimeLogDoesNotWaitForChildrenThatKeepItsPipe) {
    const UniqueFd before = duplicate(STDERR_FILENO);
    UniqueFd kept;
    {
        RuntimeLog log(directory_, false);
        kept = log.writer();
        ASSERT_EQ(write_all(kept.get(), "last\n"), 0);
    }
    ::dup2(before.get(), STDERR_FILENO);
    EXPECT_EQ(get("runtime.log"), "last\n");
}

}  // namespace
}  // namespace msb::runtime
