#include <microsandbox/sandbox.h>
#include <sys/stat.h>

#include <fstream>

#include "sdk_fixture.h"

namespace msb::test {
namespace {

using namespace microsandbox;

class FsTest : public FakeSandboxTest {
  protected:
    void SetUp() override {
        FakeSandboxTest::SetUp();
        box_.emplace(Sandbox::connect("box"));
    }
    SandboxFs fs() const { return box_->fs(); }
    void TearDown() override {
        box_.reset();
        FakeSandboxTest::TearDown();
    }
    std::string content(const std::filesystem::path& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    std::optional<Sandbox> box_;
};

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        text[i] = static_cast<char>(i * 7 + i / 251);
    return text;
}

TEST_F(FsTest, WholeFilesOfEverySize) {
    for (std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{100'000}, std::size_t{7'000'000}}) {
        fs().write("/srv/f", pattern(size));
        EXPECT_EQ(agent_.files["/srv/f"], pattern(size));
        EXPECT_EQ(fs().read("/srv/f"), pattern(size));
    }
    EXPECT_EQ(agent_.connections, 1) << "operations that end well share a connection";
}

TEST_F(FsTest, ErrorsCarryTheAgentsText) {
    const Error error = error_of([&] { fs().read("/no"); });
    EXPECT_EQ(error.code(), ErrorCode::kSandboxFsOps);
    EXPECT_STREQ(error.what(), "sandbox fs error: open: No such file or directory (os error 2)");
    EXPECT_EQ(text_of([&] { fs().stat("/no"); }),
              "sandbox fs error: stat: No such file or directory (os error 2)");
    EXPECT_EQ(text_of([&] { fs().copy("/a", "/b"); }), "sandbox fs error: unknown error");
    EXPECT_EQ(text_of([&] { fs().read_link("/odd"); }),
              "sandbox fs error: unexpected response data for readlink");
    EXPECT_EQ(text_of([&] { fs().write("/full", "x"); }),
              "sandbox fs error: write: No space left on device (os error 28)");
    EXPECT_EQ(text_of([&] { fs().remove_empty_dir("/srv"); }),
              "sandbox fs error: remove_dir: Directory not empty (os error 39)");
    agent_.files["/bad"] = "\xff";
    EXPECT_EQ(text_of([&] { fs().read_to_string("/bad"); }),
              "sandbox fs error: invalid utf-8: /bad");
}

TEST_F(FsTest, MetadataAndListing) {
    agent_.files["/srv/f"] = "12345";
    FsMetadata info = fs().stat("/srv/f");
    EXPECT_EQ(info.kind, FileKind::kFile);
    EXPECT_EQ(info.size, 5u);
    EXPECT_EQ(info.mode, 0100444u);
    EXPECT_EQ(info.uid, 1000u);
    EXPECT_EQ(info.gid, 2000u);
    EXPECT_TRUE(info.readonly);
    EXPECT_EQ(info.modified->time_since_epoch().count(), 1700000000);
    EXPECT_FALSE(info.created);
    EXPECT_EQ(fs().stat("/srv").kind, FileKind::kDirectory);
    EXPECT_FALSE(fs().stat("/srv").readonly);
    std::vector<FsEntry> entries = fs().list("/srv");
    ASSERT_EQ(entries.size(), 1u);
    EXPECT_EQ(entries[0].path, "/srv/f");
    EXPECT_EQ(to_string(entries[0].kind), "file");
}

TEST_F(FsTest, ExistsIsFalseForFsErrorsOnly) {
    agent_.files["/f"] = "";
    EXPECT_TRUE(fs().exists("/f"));
    EXPECT_FALSE(fs().exists("/g"));
    server_.reset();
    std::filesystem::remove(state::IpcPaths::of(backend().roots, "box").agent);
    EXPECT_THROW(fs().exists("/f"), Error);
}

TEST_F(FsTest, NamesChange) {
    agent_.files["/a"] = "x";
    fs().rename("/a", "/b");
    EXPECT_TRUE(agent_.files.contains("/b"));
    fs().remove("/b");
    EXPECT_FALSE(agent_.files.contains("/b"));
    fs().mkdir("/new/dir");
    EXPECT_TRUE(agent_.directories.contains("/new/dir"));
    EXPECT_EQ(fs().read_link("/l"), "/target");
}

TEST_F(FsTest, StreamsAndOpenFiles) {
    FsWriteStream out = fs().write_stream("/f");
    out.write("abc");
    out.write("");
    out.write("def");
    out.close();
    out.close();
    EXPECT_EQ(agent_.files["/f"], "abcdef");
    FsFile file = fs().open_file("/f", {.read = true});
    EXPECT_EQ(file.read(2, 3), "cde");
    EXPECT_EQ(file.read(4, 100), "ef");
    EXPECT_EQ(file.read(100, 1), "");
    file.close();
    EXPECT_EQ(text_of([&] { file.read(0, 1); }), "sandbox fs error: file is closed");
    EXPECT_EQ(text_of([&] { fs().open_file("/no", {.read = true}); }),
              "sandbox fs error: open: No such file or directory (os error 2)");
}

TEST_F(FsTest, AnAbandonedTransferDoesNotDisturbTheNextOne) {
    agent_.files["/big"] = pattern(3'000'000);
    {
        FsReadStream stream = fs().read_stream("/big");
        ASSERT_TRUE(stream.recv());
    }
    {
        FsWriteStream stream = fs().write_stream("/half");
        stream.write("x");
    }
    EXPECT_EQ(fs().read("/big").size(), 3'000'000u);
}

TEST_F(FsTest, CopiesBetweenHostAndGuest) {
    const auto source = write("src", pattern(2'500'000));
    ::chmod(source.c_str(), 0640);
    fs().copy_from_host(source, "/f");
    EXPECT_EQ(agent_.files["/f"], pattern(2'500'000));
    fs().copy_to_host("/f", home_ / "dst");
    EXPECT_EQ(content(home_ / "dst"), pattern(2'500'000));
    struct stat info{};
    ASSERT_EQ(::stat((home_ / "dst").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0444u);
}

TEST_F(FsTest, AFailedCopyLeavesNothingBehind) {
    EXPECT_EQ(error_of([&] { fs().copy_to_host("/no", home_ / "dst"); }).code(),
              ErrorCode::kSandboxFsOps);
    EXPECT_EQ(error_of([&] { fs().copy_to_host("/srv", home_ / "dst"); }).code(),
              ErrorCode::kSandboxFsOps);
    EXPECT_EQ(error_of([&] { fs().copy_from_host(home_ / "none", "/f"); }).code(), ErrorCode::kIo);
    EXPECT_EQ(error_of([&] { fs().copy_from_host(home_, "/f"); }).code(), ErrorCode::kIo);
    agent_.files["/f"] = "new";
    std::filesystem::create_directory(home_ / "busy");
    write("busy/x", "");
    EXPECT_EQ(error_of([&] { fs().copy_to_host("/f", home_ / "busy"); }).code(), ErrorCode::kIo);
    for (const auto& entry : std::filesystem::directory_iterator(home_))
        EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path();
}

TEST_F(FsTest, CopyToHostReplacesLinksInsteadOfFollowingThem) {
    const auto victim = write("victim", "keep");
    std::filesystem::create_symlink(victim, home_ / "link");
    agent_.files["/f"] = "guest";
    fs().copy_to_host("/f", home_ / "link");
    EXPECT_EQ(content(victim), "keep");
    EXPECT_EQ(content(home_ / "link"), "guest");
    EXPECT_FALSE(std::filesystem::is_symlink(home_ / "link"));
}

}  // namespace
}  // namespace msb::test
