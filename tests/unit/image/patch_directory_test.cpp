// Patches of directory roots: links resolve inside the root, and nothing outside it is ever touched (spec/images.md section
// 14, "Bind roots").
#include "image/patch_directory.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>

#include "base/fd.h"
#include "disk_fixture.h"
#include "image/patch.h"

namespace msb::image {
namespace {

namespace fs = std::filesystem;

class PatchDirectoryTest : public DiskTest {
  protected:
    PatchDirectoryTest() {
        fs::create_directories(root_ / "etc");
        fs::create_directory(outside_);
        std::ofstream(outside_ / "secret") << "secret";
        write("etc/passwd", "root\n");
    }
    ~PatchDirectoryTest() override {
        EXPECT_EQ(read_file(outside_ / "secret"), "secret");
        EXPECT_EQ(entries(outside_), 1U);
    }

    static std::size_t entries(const fs::path& path) {
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(path), fs::directory_iterator()));
    }
    void write(const std::string& path, const std::string& text) {
        std::ofstream(root_ / path) << text;
    }
    std::string read(const std::string& path) { return read_file(root_ / path); }
    static unsigned mode(const fs::path& path) {
        struct stat st{};
        EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
        return st.st_mode & 07777;
    }
    void apply(const std::vector<Patch>& patches) { patch_directory(root_, false, patches); }
    std::string error(const std::vector<Patch>& patches) {
        return error_of([&] { apply(patches); });
    }

    fs::path root_ = directory_ / "root";
    fs::path outside_ = directory_ / "outside";
};

TEST_F(PatchDirectoryTest, FilesDirectoriesAndLinks) {
    apply({WriteFilePatch{"/a/b/file", "text", {}, false},
           WriteFilePatch{"/tool", "x", 04755, false}, MkdirPatch{"/dir", 01777},
           MkdirPatch{"/dir/deep/er", {}}, SymlinkPatch{"/anything", "/link", false},
           AppendPatch{"/etc/passwd", "user\n"}, RemovePatch{"/etc/absent/x"}});
    EXPECT_EQ(read("a/b/file"), "text");
    EXPECT_EQ(mode(root_ / "tool"), 04755U);
    EXPECT_EQ(mode(root_ / "dir"), 01777U);
    EXPECT_TRUE(fs::is_directory(root_ / "dir/deep/er"));
    EXPECT_EQ(fs::read_symlink(root_ / "link"), "/anything");
    EXPECT_EQ(read("etc/passwd"), "root\nuser\n");
    EXPECT_FALSE(fs::exists(root_ / "etc/absent"));
}

TEST_F(PatchDirectoryTest, WholeBatchIsCheckedFirst) {
    for (const auto& [path, why] : std::vector<std::pair<std::string, std::string>>{
             {"x", "patch path must be absolute: 'x'"},
             {"/", "patch path must not be '/'"},
             {"/x/", "patch path must not have a trailing slash: '/x/'"},
             {"/x//y", "patch path must be canonical: '/x//y'"},
             {"/./y", "patch path must be canonical: '/./y'"},
             {"/x/../y", "patch path must not contain '..': '/x/../y'"}}) {
        EXPECT_EQ(error({WriteFilePatch{"/first", "", {}, false}, RemovePatch{path}}),
                  "patch failed: " + why);
    }
    EXPECT_EQ(error({WriteFilePatch{"/first", "", {}, false}, SymlinkPatch{"", "/l", false}}),
              "patch failed: symlink patch target must be non-empty and contain no null bytes");
    EXPECT_FALSE(fs::exists(root_ / "first"));
}

TEST_F(PatchDirectoryTest, WithoutReplaceCreationIsExclusive) {
    fs::create_symlink("nowhere", root_ / "dangling");
    for (const char* path : {"/etc/passwd", "/etc", "/dangling"}) {
        std::string text = std::string("patch failed: path already exists in rootfs: '") + path +
                           "' (set replace to allow)";
        EXPECT_EQ(error({WriteFilePatch{path, "x", {}, false}}), text);
        EXPECT_EQ(error({SymlinkPatch{"x", path, false}}), text);
        EXPECT_EQ(error({CopyDirPatch{outside_, path, false}}), text);
    }
    EXPECT_EQ(read("etc/passwd"), "root\n");
}

TEST_F(PatchDirectoryTest, LinksResolveAsInAChroot) {
    fs::create_directories(root_ / "a/b");
    fs::create_directory_symlink("/etc", root_ / "a/b/abs");
    fs::create_directory_symlink("../../../../etc", root_ / "climb");
    fs::create_directory_symlink(outside_, root_ / "away");
    apply({WriteFilePatch{"/a/b/abs/one", "1", {}, false},
           WriteFilePatch{"/climb/two", "2", {}, false},
           WriteFilePatch{"/away/three", "3", {}, false}});
    EXPECT_EQ(read("etc/one"), "1");
    EXPECT_EQ(read("etc/two"), "2");
    // The link's target exists outside; inside the root it is made.
    EXPECT_EQ(read_file(fs::path(root_.native() + (outside_ / "three").native())), "3");
}

TEST_F(PatchDirectoryTest, FinalLinksAreFollowedForReplaceMkdirAndAppend) {
    fs::create_symlink("/etc/passwd", root_ / "file");
    fs::create_symlink((outside_ / "secret").native(), root_ / "away");
    fs::create_symlink("/made", root_ / "dangling");
    fs::create_symlink("/etc", root_ / "dir");
    apply({WriteFilePatch{"/file", "new\n", {}, true}, AppendPatch{"/file", "more\n"},
           WriteFilePatch{"/away", "inside", {}, true}, MkdirPatch{"/dangling", 0700},
           MkdirPatch{"/dir", {}}});
    EXPECT_EQ(read("etc/passwd"), "new\nmore\n");
    EXPECT_TRUE(fs::is_symlink(root_ / "file"));
    EXPECT_EQ(read_file(fs::path(root_.native() + (outside_ / "secret").native())), "inside");
    EXPECT_EQ(mode(root_ / "made"), 0700U);
    EXPECT_EQ(error({AppendPatch{"/none", "x"}}),
              "patch failed: cannot append to '/none': file not found in rootfs");
    EXPECT_EQ(error({AppendPatch{"/dir", "x"}}),
              "patch failed: cannot append to '/dir': target is not a regular file (directory)");
    EXPECT_EQ(error({MkdirPatch{"/file", {}}}),
              "patch failed: cannot create directory at '/file': path exists and is not a "
              "directory");
    EXPECT_EQ(error({WriteFilePatch{"/dir", "x", {}, true}}),
              "patch failed: entry already exists: \"dir\"");
}

TEST_F(PatchDirectoryTest, FinalLinksStayForSymlinkAndRemove) {
    fs::create_symlink((outside_ / "secret").native(), root_ / "a");
    fs::create_directory_symlink(outside_.native(), root_ / "b");
    apply({SymlinkPatch{"x", "/a", true}, RemovePatch{"/b"}});
    EXPECT_EQ(fs::read_symlink(root_ / "a"), "x");
    EXPECT_FALSE(fs::is_symlink(root_ / "b"));
    EXPECT_EQ(error({SymlinkPatch{"x", "/etc", true}}),
              "patch failed: entry already exists: \"etc\"");
}

TEST_F(PatchDirectoryTest, LinkLoopsEnd) {
    fs::create_symlink("loop", root_ / "loop");
    EXPECT_EQ(error({WriteFilePatch{"/loop/x", "", {}, false}}),
              "patch failed: too many symlinks while resolving patch path: '/loop/x'");
    // Forty are followed, forty-one are not.
    fs::create_directory(root_ / "l0");
    for (int i = 1; i <= 41; ++i)
        fs::create_directory_symlink("l" + std::to_string(i - 1),
                                     root_ / ("l" + std::to_string(i)));
    apply({WriteFilePatch{"/l40/x", "", {}, false}});
    EXPECT_EQ(error({WriteFilePatch{"/l41/y", "", {}, false}}),
              "patch failed: too many symlinks while resolving patch path: '/l41/y'");
}

TEST_F(PatchDirectoryTest, ParentsMustBeDirectories) {
    EXPECT_EQ(error({WriteFilePatch{"/etc/passwd/x", "", {}, true}}),
              "patch failed: patch path parent is not a directory: '/etc/passwd' (regular file)");
}

TEST_F(PatchDirectoryTest, ReplacingAFifoDoesNotWriteIntoIt) {
    ASSERT_EQ(::mkfifo((root_ / "fifo").c_str(), 0600), 0);
    EXPECT_EQ(error({AppendPatch{"/fifo", "x"}}),
              "patch failed: cannot append to '/fifo': target is not a regular file (fifo)");
    apply({WriteFilePatch{"/fifo", "plain", {}, true}});
    EXPECT_EQ(read("fifo"), "plain");
}

TEST_F(PatchDirectoryTest, RemoveIsRecursiveAndStaysInside) {
    fs::path deep = root_ / "deep";
    fs::create_directory(deep);
    fs::create_directory_symlink(outside_, deep / "away");
    // Deeper than a path or a table of descriptors could be.
    UniqueFd at(::open(deep.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; i < 1200; ++i) {
        UniqueFd file(::openat(at.get(), "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
        at.reset(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    at.reset();
    apply({RemovePatch{"/deep"}});
    EXPECT_FALSE(fs::exists(deep));
}

TEST_F(PatchDirectoryTest, CopyDirMergesWithReplace) {
    fs::path source = directory_ / "src";
    fs::create_directories(source / "sub");
    std::ofstream(source / "sub/f") << "new";
    std::ofstream(source / "top") << "top";
    ::chmod((source / "top").c_str(), 0750);
    ::chmod((source / "sub").c_str(), 0500);
    fs::create_symlink("etc/passwd", source / "link");
    fs::create_directories(root_ / "dst/sub");
    write("dst/sub/f", "old");
    write("dst/kept", "kept");
    fs::create_symlink("/etc/passwd", root_ / "dst/link");
    apply({CopyDirPatch{source, "/dst", true}, CopyDirPatch{source, "/fresh/copy", false}});
    EXPECT_EQ(read("dst/sub/f"), "new");
    EXPECT_EQ(read("dst/kept"), "kept");
    EXPECT_EQ(fs::read_symlink(root_ / "dst/link"), "etc/passwd");  // the link itself
    EXPECT_EQ(read("etc/passwd"), "root\n");
    EXPECT_EQ(mode(root_ / "fresh/copy/top"), 0750U);
    EXPECT_EQ(mode(root_ / "fresh/copy/sub"), 0500U);
    ::chmod((source / "sub").c_str(), 0700);
    ::chmod((root_ / "fresh/copy/sub").c_str(), 0700);
    ::chmod((root_ / "dst/sub").c_str(), 0700);
    fs::remove_all(source);
}

TEST_F(PatchDirectoryTest, CopyDirIntoItselfIsRefused) {
    EXPECT_EQ(
        error({CopyDirPatch{(root_ / "etc").string(), "/etc/copy", false}}),
        "patch failed: CopyDir source contains its own destination: " + (root_ / "etc").string());
}

TEST_F(PatchDirectoryTest, LinkedRootsNeedPermission) {
    fs::path linked = directory_ / "linked";
    fs::create_directory_symlink(root_, linked);
    std::vector<Patch> patches{WriteFilePatch{"/x", "", {}, true}};
    EXPECT_EQ(error_of([&] { patch_directory(linked / "etc", false, patches); }),
              "patch failed: bind root " + (linked / "etc").string() +
                  " contains a linked component: " + linked.string() +
                  "; set follow_root_symlinks to allow linked root components");
    patch_directory(linked / "etc", true, patches);
    EXPECT_TRUE(fs::exists(root_ / "etc/x"));
    EXPECT_EQ(
        error_of([&] { patch_directory(root_ / "none", false, patches); }),
        "patch failed: " + (root_ / "none").string() + ": No such file or directory (os error 2)");
    EXPECT_EQ(
        error_of([&] { patch_directory(root_ / "etc/passwd", true, patches); }),
        "patch failed: " + (root_ / "etc/passwd").string() + ": Not a directory (os error 20)");
}

}  // namespace
}  // namespace msb::image
