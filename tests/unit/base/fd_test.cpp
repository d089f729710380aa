#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/file_lock.h"

namespace msb {
namespace {

class FdTest : public testing::Test {
  protected:
    FdTest() {
        std::string pattern = "/tmp/msb-fd-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
    }
    ~FdTest() override { std::filesystem::remove_all(directory_); }
    std::filesystem::path directory_;
};

TEST_F(FdTest, PublishReplacesWholeFileAndLeavesNothingElse) {
    publish_file(directory_ / "f", "old");
    publish_file(directory_ / "f", "new", 0600);
    EXPECT_EQ(read_file(directory_ / "f"), "new");
    struct stat st{};
    ASSERT_EQ(::stat((directory_ / "f").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0600U);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(FdTest, PublishIntoAMissingDirectoryFailsWithTheReason) {
    try {
        publish_file(directory_ / "no" / "f", "x");
        FAIL() << "published";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kIo);
        EXPECT_NE(std::string(e.what()).find("No such file or directory (os error 2)"),
                  std::string::npos)
            << e.what();
    }
}

TEST_F(FdTest, ReadFileStopsAtTheLimit) {
    publish_file(directory_ / "f", std::string(100, 'x'));
    EXPECT_EQ(read_file(directory_ / "f", 100).size(), 100U);
    EXPECT_THROW(read_file(directory_ / "f", 99), Error);
}

TEST_F(FdTest, WriteAllWaitsForANonBlockingReader) {
    PipeFds pipe = make_pipe();
    set_nonblocking(pipe.write.get(), true);
    std::string sent(1 << 20, 'x');
    std::string received;
    std::thread reader([&] { received = read_to_end(pipe.read.get()); });
    EXPECT_EQ(write_all(pipe.write.get(), sent), 0);
    pipe.write.reset();
    reader.join();
    EXPECT_EQ(received, sent);
}

TEST_F(FdTest, PwriteAllWritesAtAnOffsetAndNamesTheFailure) {
    std::filesystem::path path = directory_ / "at";
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    std::string_view text = "abc";
    EXPECT_EQ(pwrite_all(fd.get(), std::as_bytes(std::span(text)), 2), 0);
    EXPECT_EQ(pwrite_all(fd.get(), std::as_bytes(std::span(text)), 0), 0);
    EXPECT_EQ(read_file(path), "abcbc");
    UniqueFd reading(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(pwrite_all(reading.get(), std::as_bytes(std::span(text)), 0), EBADF);
}

TEST_F(FdTest, ReadExactlyReportsEarlyEof) {
    PipeFds pipe = make_pipe();
    ASSERT_EQ(write_all(pipe.write.get(), "abc"), 0);
    pipe.write.reset();
    std::array<std::byte, 8> buffer;
    EXPECT_EQ(read_exactly(pipe.read.get(), buffer), 3);
}

TEST_F(FdTest, ALockExcludesOtherDescriptions) {
    auto first = FileLock::acquire(directory_ / "l");
    EXPECT_FALSE(FileLock::try_acquire(directory_ / "l").has_value());
    EXPECT_FALSE(
        FileLock::acquire_within(directory_ / "l", std::chrono::milliseconds(60)).has_value());
    {
        FileLock moved = std::move(first);
    }
    EXPECT_TRUE(FileLock::try_acquire(directory_ / "l", LockMode::kShared).has_value());
}

}  // namespace
}  // namespace msb
