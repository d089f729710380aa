// Copying trees: nothing leaves the destination, whatever the source says (spec/cli.md section 7).
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/fd.h"
#include "cli/commands/copy_host.h"
#include "cli/commands/copy_tree.h"
#include "value_error.h"

namespace msb::cli {
namespace {

namespace fs = std::filesystem;

// A source that says whatever the test wants, as a hostile guest would.
class FakeSource : public TreeSource {
  public:
    struct Node {
        NodeInfo info;
        std::vector<std::string> names;
        std::string text;  // contents or link target
    };
    std::map<std::string, Node> nodes;

    NodeInfo info(const std::string& path) override { return nodes.at(path).info; }
    std::vector<std::string> names(const std::string& path) override {
        return nodes.at(path).names;
    }
    std::string link_target(const std::string& path) override { return nodes.at(path).text; }
    void read(const std::string& path, const ChunkSink& sink) override {
        sink(nodes.at(path).text);
    }

    void file(const std::string& path, const std::string& text, std::uint32_t mode = 0644) {
        nodes[path] = {{NodeKind::kFile, mode}, {}, text};
    }
    void directory(const std::string& path, std::vector<std::string> names,
                   std::uint32_t mode = 0755) {
        nodes[path] = {{NodeKind::kDirectory, mode}, std::move(names), ""};
    }
    void link(const std::string& path, const std::string& target) {
        nodes[path] = {{NodeKind::kLink, 0777}, {}, target};
    }
};

class CopyToHost : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string path = "/tmp/cli-copy-XXXXXX";
        root_ = ::mkdtemp(path.data());
        fs::create_directory(root_ / "out");
        fs::create_directory(root_ / "secret");
    }
    void TearDown() override { fs::remove_all(root_); }
    void copy(const std::string& from, const std::string& name) {
        HostSink sink(out().string());
        copy_tree(source, from, sink, name);
    }
    fs::path out() const { return root_ / "out"; }
    bool no_temporaries() const {
        for (const auto& entry : fs::recursive_directory_iterator(root_))
            if (entry.path().filename().string().starts_with(".msb-copy-")) return false;
        return true;
    }
    FakeSource source;
    fs::path root_;
};

TEST_F(CopyToHost, KeepsContentsModesAndLinks) {
    source.directory("/t", {"a", "sub", "l", "abs"}, 0710);
    source.file("/t/a", "hello", 04755);
    source.directory("/t/sub", {"b"}, 0500);
    source.file("/t/sub/b", "x", 0000);
    source.link("/t/l", "sub/b");
    source.link("/t/abs", "/sub/b");
    copy("/t", "t");
    EXPECT_EQ(read_file(out() / "t/a"), "hello");
    struct stat status{};
    ASSERT_EQ(::stat((out() / "t/a").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 04755u);
    ASSERT_EQ(::stat((out() / "t").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0710u);
    ASSERT_EQ(::stat((out() / "t/sub").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0500u) << "set after the contents were written";
    EXPECT_EQ(fs::read_symlink(out() / "t/l"), "sub/b");
    EXPECT_EQ(fs::read_symlink(out() / "t/abs"), "sub/b")
        << "absolute targets are taken from the copy's root";
    EXPECT_TRUE(no_temporaries());
}

TEST_F(CopyToHost, LinksInThePlaceOfDirectoriesAndFilesAreReplacedNotFollowed) {
    fs::create_directory(out() / "t");
    fs::create_symlink(root_ / "secret", out() / "t/sub");
    fs::create_symlink(root_ / "secret/file", out() / "t/f");
    source.directory("/t", {"sub", "f"});
    source.directory("/t/sub", {"x"});
    source.file("/t/sub/x", "1");
    source.file("/t/f", "2");
    copy("/t", "t");
    EXPECT_TRUE(fs::is_empty(root_ / "secret"));
    EXPECT_TRUE(fs::is_directory(fs::symlink_status(out() / "t/sub")));
    EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(out() / "t/f")));
}

// A link made by the copy itself must not redirect what follows it.
TEST_F(CopyToHost, ATreeThatListsALinkAndThenADirectoryOfTheSameNameStaysInside) {
    source.directory("/t", {"d", "d"});
    source.link("/t/d", "..");
    EXPECT_EQ(error_of([&] { return copy("/t", "t"), 0; }),
              "refusing to create symlink d -> ..: target escapes the copy destination");
}

TEST_F(CopyToHost, HostileNamesAreRefused) {
    for (const std::string& name :
         std::vector<std::string>{"..", ".", "", "a/b", "../x", "/etc/x", std::string("a\0b", 3)}) {
        source.nodes.clear();
        source.directory("/t", {name});
        EXPECT_TRUE(error_of([&] { return copy("/t", "t"), 0; }).starts_with("refusing to create "))
            << name;
    }
    EXPECT_TRUE(fs::is_empty(root_ / "secret"));
}

TEST_F(CopyToHost, AFailureLeavesNoTemporaryFile) {
    source.file("/f", "x");
    HostSink sink(out().string());
    EXPECT_THROW(sink.file("f", 0644,
                           [](const ChunkSink& chunk) {
                               chunk("half");
                               throw Error(ErrorCode::kCustom, "connection lost");
                           }),
                 Error);
    EXPECT_TRUE(fs::is_empty(out()));
}

TEST_F(CopyToHost, SpecialFilesEndTheCopy) {
    source.nodes["/dev/null"] = {{NodeKind::kOther, 0666}, {}, ""};
    EXPECT_EQ(error_of([&] { return copy("/dev/null", "n"), 0; }),
              "unsupported file type: /dev/null");
}

// No recursion on a depth the guest chose.
TEST_F(CopyToHost, DepthIsBounded) {
    std::string path = "/t";
    for (std::size_t i = 0; i <= kMaxCopyDepth; ++i) {
        source.directory(path, {"d"});
        path += "/d";
    }
    EXPECT_TRUE(error_of([&] {
                    class NullSink : public TreeSink {
                      public:
                        void enter(const std::string&, std::uint32_t) override {}
                        void leave() override {}
                        void link(const std::string&, const std::string&) override {}
                        void file(const std::string&, std::uint32_t,
                                  const std::function<void(const ChunkSink&)>&) override {}
                    } sink;
                    copy_tree(source, "/t", sink, "t");
                    return 0;
                }).starts_with("directory tree is too deep: "));
}

TEST(LinkTargets, StayInsideTheCopy) {
    EXPECT_EQ(contained_link_target("l", "a/b", 0), "a/b");
    EXPECT_EQ(contained_link_target("l", "../a", 1), "../a");
    EXPECT_EQ(contained_link_target("l", "./../../a", 2), "./../../a");
    EXPECT_EQ(contained_link_target("l", "/etc/x", 2), "../../etc/x");
    EXPECT_EQ(contained_link_target("l", "/", 1), "..");
    EXPECT_EQ(contained_link_target("l", "//etc/./x", 0), "etc/x");
    const std::string escapes = ": target escapes the copy destination";
    for (const std::string target : {"..", "../a", "/../etc", "a/../b", "/a/../../b"})
        EXPECT_EQ(error_of([&] { return contained_link_target("A", target, 0); }),
                  "refusing to create symlink A -> " + target + escapes);
    EXPECT_NE(error_of([] { return contained_link_target("A", "", 0); }), "");
    EXPECT_NE(error_of([] { return contained_link_target("A", std::string(4097, 'x'), 0); }), "");
    EXPECT_NE(error_of([] { return contained_link_target("A", std::string("a\0b", 3), 0); }), "");
}

TEST(Names, OfPathsGivenByTheUser) {
    EXPECT_EQ(base_name("/a/b"), "b");
    EXPECT_EQ(base_name("b/"), "b");
    EXPECT_EQ(base_name("b"), "b");
    for (const std::string path : {"/", ".", "..", "a/.."})
        EXPECT_NE(error_of([&] { return base_name(path); }), "") << path;
}

}  // namespace
}  // namespace msb::cli
