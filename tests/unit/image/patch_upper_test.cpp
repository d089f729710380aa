// Patches of OCI roots: check 17 and the table of spec/images.md section 14, read back from the formatted upper.
#include <fstream>

#include "base/fd.h"
#include "disk_fixture.h"
#include "image/patch.h"
#include "image/upper_disk.h"
#include "layer_cache.h"

namespace msb::image {
namespace {

class PatchUpperTest : public DiskTest {
  protected:
    PatchUpperTest() {
        layer(TarBuilder()
                  .directory("usr")
                  .directory("usr/lib64")
                  .symlink("lib64", "usr/lib64")
                  .directory("etc", 0700)
                  .add("etc/passwd", "root\n", {.mode = 0600, .uid = 7})
                  .file("etc/gone", "x")
                  .directory("opq")
                  .file("opq/old", "x")
                  .add("dev-null", "", {.type = '3', .major = 1, .minor = 3})
                  .add("pipe", "", {.type = '6'})
                  .finish());
        layer(TarBuilder()
                  .file("etc/.wh.gone", "")
                  .directory("opq")
                  .file("opq/.wh..wh..opq", "")
                  .file("opq/new", "x")
                  .file("file-over", "x")
                  .finish());
        ::mkdir((directory_ / "src").c_str(), 0755);
    }

    void layer(const std::string& tar) {
        layers_.push_back(cache_.layer_image(add_layer(cache_, tar)));
    }
    void apply(const std::vector<Patch>& patches) {
        create_upper(disk_, 68, patch_upper(patches, layers_, directory_));
        expect_clean(disk_);
    }
    std::string error(const std::vector<Patch>& patches) {
        return error_of([&] { patch_upper(patches, layers_, directory_); });
    }
    // "100644 0 0 5" for mode, owner, group and size of a path below upper/; "" when it is not there.
    std::string stat(const std::string& path) {
        std::string parent = std::filesystem::path("/upper" + path).parent_path();
        std::string name = std::filesystem::path(path).filename();
        std::string list = debugfs(disk_, "ls -p " + parent);
        std::size_t at = list.find("/" + name + "/");
        if (at == std::string::npos) return "";
        std::size_t start = list.rfind('\n', at) + 1;
        std::string line = list.substr(start, list.find('\n', start) - start);
        // /inode/mode/uid/gid/name/size/
        std::string mode = line.substr(line.find('/', 1) + 1);
        std::string size = line.substr(line.find("/" + name + "/") + name.size() + 2);
        return mode.substr(0, 6) + " " + size.substr(0, size.find('/'));
    }
    std::string content(const std::string& path) {
        std::filesystem::path out = directory_ / "out";
        std::filesystem::remove(out);
        run("debugfs -R 'dump /upper" + path + " " + out.string() + "' " + disk_.string());
        return read_file(out);
    }
    std::string host_file(const std::string& name, const std::string& text, unsigned mode = 0644) {
        std::ofstream(directory_ / "src" / name) << text;
        ::chmod((directory_ / "src" / name).c_str(), mode);
        return (directory_ / "src" / name).string();
    }

    Cache cache_{directory_ / "cache"};
    std::vector<std::filesystem::path> layers_;
    std::filesystem::path disk_ = directory_ / "upper.ext4";
};

TEST_F(PatchUpperTest, Check17) {
    std::string source = host_file("x", "x");
    EXPECT_EQ(error({CopyFilePatch{source, "/lib64/x", {}, false}}),
              "patch failed: patch path parent is not a directory: '/lib64' (symlink)");
    EXPECT_EQ(error({CopyFilePatch{source, "/etc/passwd", {}, false}}),
              "patch failed: path exists in image layer: '/etc/passwd' (set replace to allow)");
    EXPECT_EQ(error({RemovePatch{"/etc/passwd"}, CopyFilePatch{source, "/etc/passwd", {}, false}}),
              "patch failed: path exists in image layer: '/etc/passwd' (set replace to allow)");
}

TEST_F(PatchUpperTest, NoPatchesIsTheSkeleton) {
    std::filesystem::remove_all(cache_.directory());
    create_upper(disk_, 68, patch_upper({}, layers_, directory_));
    EXPECT_NE(debugfs(disk_, "ls -p /").find("/12/040755/0/0/work/"), std::string::npos);
}

TEST_F(PatchUpperTest, FilesGetTheirModeAndParents) {
    std::string big(300'000, 'b');
    apply({WriteFilePatch{"/new/deep/file", "text", {}, false},
           WriteFilePatch{"/zero", std::string("\0\xff", 2), 0, false},
           WriteFilePatch{"//etc/./motd", "hi", 04711, false},
           CopyFilePatch{host_file("tool", big, 0755), "/bin/tool", {}, false},
           CopyFilePatch{host_file("own", "o", 0600), "/own", 0640, false},
           SymlinkPatch{"target", "/link", false},
           SymlinkPatch{std::string(200, 'l'), "/long", false}, MkdirPatch{"/dir", 01777},
           MkdirPatch{"/plain", {}}});
    EXPECT_EQ(stat("/new"), "040755 ");
    EXPECT_EQ(stat("/new/deep"), "040755 ");
    EXPECT_EQ(stat("/new/deep/file"), "100644 4");
    EXPECT_EQ(content("/new/deep/file"), "text");
    EXPECT_EQ(content("/zero"), std::string("\0\xff", 2));
    EXPECT_EQ(stat("/zero"), "100644 2");
    // The image has /etc 0700; the upper's is 0755, as upstream makes it.
    EXPECT_EQ(stat("/etc"), "040755 ");
    EXPECT_EQ(stat("/etc/motd"), "104711 2");
    EXPECT_EQ(stat("/bin/tool"), "100755 300000");
    EXPECT_EQ(content("/bin/tool"), big);
    EXPECT_EQ(stat("/own"), "100640 1");
    EXPECT_EQ(stat("/link"), "120777 6");
    EXPECT_EQ(stat("/long"), "120777 200");
    EXPECT_EQ(stat("/dir"), "041777 ");
    EXPECT_EQ(stat("/plain"), "040755 ");
    EXPECT_NE(debugfs(disk_, "stat /upper/own").find("User:     0   Group:     0"),
              std::string::npos);
    EXPECT_NE(debugfs(disk_, "stat /upper/own").find("mtime: 0x00000000"), std::string::npos);
}

TEST_F(PatchUpperTest, ReplaceDecidesAboutWhatIsThere) {
    EXPECT_EQ(error({WriteFilePatch{"/a", "1", {}, false}, WriteFilePatch{"/a", "2", {}, false}}),
              "patch failed: path already exists in rootfs: '/a' (set replace to allow)");
    EXPECT_EQ(error({SymlinkPatch{"x", "/etc", false}}),
              "patch failed: path exists in image layer: '/etc' (set replace to allow)");
    EXPECT_EQ(error({MkdirPatch{"/d", {}}, WriteFilePatch{"/d", "2", {}, true}}),
              "patch failed: entry already exists: \"d\"");
    apply({WriteFilePatch{"/a", "1", {}, false}, WriteFilePatch{"/a", "22", {}, true},
           WriteFilePatch{"/etc/passwd", "new", {}, true}, SymlinkPatch{"x", "/file-over", true},
           WriteFilePatch{"/etc/gone", "back", {}, false},
           WriteFilePatch{"/opq/old", "back", {}, false}});
    EXPECT_EQ(content("/a"), "22");
    EXPECT_EQ(content("/etc/passwd"), "new");
    EXPECT_EQ(stat("/file-over"), "120777 1");
    EXPECT_EQ(content("/etc/gone"), "back");
    EXPECT_EQ(content("/opq/old"), "back");
}

TEST_F(PatchUpperTest, ParentsMustBeDirectories) {
    EXPECT_EQ(error({WriteFilePatch{"/file-over/x", "", {}, true}}),
              "patch failed: patch path parent is not a directory: '/file-over' (regular file)");
    EXPECT_EQ(error({MkdirPatch{"/dev-null/x", {}}}),
              "patch failed: patch path parent is not a directory: '/dev-null' (character device)");
    EXPECT_EQ(error({RemovePatch{"/pipe/x/y"}}),
              "patch failed: patch path parent is not a directory: '/pipe' (fifo)");
    EXPECT_EQ(
        error({SymlinkPatch{"/etc", "/mine", false}, WriteFilePatch{"/mine/x", "", {}, true}}),
        "patch failed: patch path parent is not a directory: '/mine'");
}

TEST_F(PatchUpperTest, PathsAreChecked) {
    EXPECT_EQ(error({RemovePatch{"etc"}}), "patch failed: patch path must be absolute: 'etc'");
    EXPECT_EQ(error({RemovePatch{""}}), "patch failed: patch path must be absolute: ''");
    EXPECT_EQ(error({RemovePatch{"/"}}), "patch failed: patch path must not be '/'");
    EXPECT_EQ(error({RemovePatch{"/./"}}), "patch failed: patch path must not be '/'");
    EXPECT_EQ(error({RemovePatch{"/a/../../b"}}),
              "patch failed: patch path escapes rootfs: '/a/../../b'");
    EXPECT_TRUE(error({RemovePatch{"/" + std::string(256, 'n')}})
                    .ends_with("255 bytes: '/" + std::string(256, 'n') + "'"));
    EXPECT_NE(error({RemovePatch{std::string("/a\0b", 4)}}), "");
    EXPECT_EQ(error({SymlinkPatch{"", "/l", false}}),
              "patch failed: symlink patch target must be non-empty and contain no null bytes");
    apply({WriteFilePatch{"/" + std::string(255, 'n'), "x", {}, false}});
}

TEST_F(PatchUpperTest, MkdirKeepsWhatTheImageHas) {
    apply({MkdirPatch{"/etc", 0711}, MkdirPatch{"/up", 0711}, MkdirPatch{"/up", 0700}});
    EXPECT_EQ(stat("/etc"), "");
    EXPECT_EQ(stat("/up"), "040711 ");
    EXPECT_EQ(error({MkdirPatch{"/lib64", {}}}),
              "patch failed: cannot create directory at '/lib64': path exists and is not a "
              "directory (symlink)");
    EXPECT_EQ(error({WriteFilePatch{"/f", "", {}, false}, MkdirPatch{"/f", {}}}),
              "patch failed: cannot create directory at '/f': path exists and is not a directory");
}

TEST_F(PatchUpperTest, RemoveHidesWhatTheImageHas) {
    apply({RemovePatch{"/etc/passwd"}, RemovePatch{"/usr"}, RemovePatch{"/usr/lib64"},
           WriteFilePatch{"/mine", "x", {}, false}, RemovePatch{"/mine"}, RemovePatch{"/absent/x"},
           RemovePatch{"/etc/gone"}, WriteFilePatch{"/file-over", "y", {}, true},
           RemovePatch{"/file-over"}});
    EXPECT_EQ(stat("/etc/passwd"), "020644 0");
    EXPECT_EQ(stat("/usr"), "020644 0");
    EXPECT_NE(debugfs(disk_, "stat /upper/usr").find("Device major/minor number: 00:00"),
              std::string::npos)
        << debugfs(disk_, "stat /upper/usr");
    EXPECT_EQ(stat("/mine"), "");
    EXPECT_EQ(stat("/absent"), "");
    EXPECT_EQ(stat("/etc/gone"), "");
    EXPECT_EQ(stat("/file-over"), "020644 0");
}

TEST_F(PatchUpperTest, RecreatingBelowARemovedDirectoryIsPlain) {
    apply({RemovePatch{"/etc"}, WriteFilePatch{"/etc/new", "x", {}, false}, RemovePatch{"/opq"},
           MkdirPatch{"/opq", {}}});
    EXPECT_EQ(stat("/etc"), "040755 ");
    EXPECT_EQ(content("/etc/new"), "x");
    EXPECT_EQ(debugfs(disk_, "ea_list /upper/etc").find("overlay"), std::string::npos);
    EXPECT_EQ(stat("/opq"), "040755 ");
}

TEST_F(PatchUpperTest, AppendExtendsOrCopiesUp) {
    apply({AppendPatch{"/etc/passwd", "user\n"}, AppendPatch{"/etc/passwd", "more\n"},
           WriteFilePatch{"/mine", "a", 0755, false}, AppendPatch{"/mine", "b"}});
    EXPECT_EQ(content("/etc/passwd"), "root\nuser\nmore\n");
    EXPECT_EQ(stat("/etc/passwd"), "100644 15");
    EXPECT_EQ(content("/mine"), "ab");
    EXPECT_EQ(stat("/mine"), "100755 2");
    EXPECT_EQ(error({AppendPatch{"/etc/gone", "x"}}),
              "patch failed: cannot append to '/etc/gone': file not found in rootfs");
    EXPECT_EQ(
        error({AppendPatch{"/lib64", "x"}}),
        "patch failed: cannot append to '/lib64': target in lower layer is not a regular file "
        "(symlink)");
    EXPECT_EQ(error({MkdirPatch{"/d", {}}, AppendPatch{"/d", "x"}}),
              "patch failed: cannot append to '/d': target is not a regular file (directory)");
}

TEST_F(PatchUpperTest, CopyDirTakesTheTree) {
    std::filesystem::create_directories(directory_ / "src/sub/deep");
    host_file("sub/deep/f", "deep", 04750);
    host_file("top", "top", 0600);
    std::filesystem::create_symlink("/nowhere", directory_ / "src/link");
    ::chmod((directory_ / "src/sub").c_str(), 02700);
    std::string source = (directory_ / "src").string();
    apply({CopyDirPatch{source, "/opt/app", false}});
    EXPECT_EQ(stat("/opt"), "040755 ");
    EXPECT_EQ(stat("/opt/app"), "040755 ");
    EXPECT_EQ(stat("/opt/app/sub"), "042700 ");
    EXPECT_EQ(stat("/opt/app/sub/deep/f"), "104750 4");
    EXPECT_EQ(content("/opt/app/top"), "top");
    EXPECT_EQ(stat("/opt/app/link"), "120777 8");
    EXPECT_EQ(error({CopyDirPatch{source, "/etc", false}}),
              "patch failed: path exists in image layer: '/etc' (set replace to allow)");
    apply({WriteFilePatch{"/m/top", "old", {}, false}, WriteFilePatch{"/m/kept", "k", {}, false},
           CopyDirPatch{source, "/m", true}});
    EXPECT_EQ(content("/m/top"), "top");
    EXPECT_EQ(content("/m/kept"), "k");
    EXPECT_EQ(error({MkdirPatch{"/m/top", {}}, CopyDirPatch{source, "/m", true}}),
              "patch failed: entry already exists: \"top\"");
}

TEST_F(PatchUpperTest, SourcesAreChecked) {
    ASSERT_EQ(::mkfifo((directory_ / "src/fifo").c_str(), 0600), 0);
    std::string source = (directory_ / "src").string();
    EXPECT_EQ(
        error({CopyDirPatch{source, "/x", false}}),
        "patch failed: CopyDir source contains an unsupported file type: '" + source + "/fifo'");
    EXPECT_EQ(error({CopyFilePatch{source + "/fifo", "/x", {}, false}}),
              "patch failed: patch source is not a regular file: " + source + "/fifo");
    EXPECT_EQ(error({CopyFilePatch{source, "/x", {}, false}}),
              "patch failed: patch source is not a regular file: " + source);
    EXPECT_EQ(error({CopyFilePatch{source + "/none", "/x", {}, false}}),
              "patch failed: " + source + "/none: No such file or directory (os error 2)");
    EXPECT_EQ(error({CopyDirPatch{host_file("file", ""), "/x", false}}),
              "patch failed: patch source is not a directory: " + source + "/file");
}

TEST_F(PatchUpperTest, SourcesMayBeGoneByTheTimeTheDiskIsMade) {
    UpperContent content_of =
        patch_upper(std::vector<Patch>{CopyFilePatch{host_file("f", "spooled"), "/f", {}, false}},
                    layers_, directory_);
    std::filesystem::remove_all(directory_ / "src");
    create_upper(disk_, 68, content_of);
    EXPECT_EQ(content("/f"), "spooled");
}

TEST_F(PatchUpperTest, HolesOfSourcesStayHoles) {
    std::string source = host_file("sparse", "head");
    std::filesystem::resize_file(source, 40 << 20);
    std::ofstream(source, std::ios::app) << "tail";
    std::filesystem::resize_file(source, 50 << 20);
    create_upper(disk_, 200,
                 patch_upper(std::vector<Patch>{CopyFilePatch{source, "/s", {}, false}}, layers_,
                             directory_));
    EXPECT_LE(allocated(disk_), 4U << 20);
    EXPECT_EQ(content("/s"), read_file(source));
}

TEST_F(PatchUpperTest, MoreThanTheDiskHoldsIsAFormatFault) {
    std::filesystem::path big = directory_ / "src/big";
    std::ofstream(big).put('x');
    std::filesystem::resize_file(big, 80 << 20);
    EXPECT_EQ(error_of([&] {
                  create_upper(disk_, 68,
                               patch_upper(std::vector<Patch>{CopyFilePatch{big, "/b", {}, false}},
                                           layers_, directory_));
              }),
              "failed to create upper.ext4: image size is too small for ext4 formatting");
    EXPECT_FALSE(std::filesystem::exists(disk_));
}

TEST_F(PatchUpperTest, BrokenLayersFailThePatch) {
    std::filesystem::resize_file(layers_[1], 100);
    EXPECT_TRUE(error({RemovePatch{"/etc"}}).starts_with("patch failed: not a usable EROFS image"));
}

}  // namespace
}  // namespace msb::image
