// Lists of patches on top of a small image: whatever they say, the upper that comes out is a sound file system.
//
// input := patch*     patch := operation (1 byte: low bits kind, 0x80 replace, 0x40 long content) path      path := byte*
// ended by 0; bytes below 16 stand for names that the image has.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "image/erofs_writer.h"
#include "image/ext4_format.h"
#include "image/ext4_grow.h"
#include "image/patch.h"

namespace {

using namespace msb::image;

constexpr std::size_t kMaxPatches = 64;
constexpr std::uint64_t kDiskSize = std::uint64_t{68} << 20;

constexpr const char* kNames[16] = {"",        "/",    "/etc", "/etc/passwd", "/lib64", "/usr",
                                    "/dev",    "/a",   "b",    "/b",          "/..",    "/.",
                                    "/hidden", "/opq", "/x",   "//"};

// A layer image and a source directory that live as long as the fuzzer.
struct Fixture {
    std::filesystem::path directory;
    std::vector<std::filesystem::path> layers;

    Fixture() {
        std::string pattern = "/tmp/msb-fuzz-patch-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) std::abort();
        directory = pattern;
        std::filesystem::create_directories(directory / "src/sub");
        std::ofstream(directory / "src/sub/file") << "copied";
        std::filesystem::create_symlink("sub", directory / "src/link");
        FileTree lower;
        add(lower, FileTree::kRoot, "usr", S_IFDIR | 0755);
        InodeId etc = add(lower, FileTree::kRoot, "etc", S_IFDIR | 0755);
        add(lower, etc, "passwd", S_IFREG | 0644);
        add(lower, FileTree::kRoot, "lib64", S_IFLNK | 0777);
        add(lower, FileTree::kRoot, "hidden", S_IFREG | 0644);
        add(lower, add(lower, FileTree::kRoot, "opq", S_IFDIR | 0755), "x", S_IFREG | 0644);
        write(lower);
        FileTree upper;
        add(upper, FileTree::kRoot, "hidden", S_IFCHR);
        InodeId opaque = add(upper, FileTree::kRoot, "opq", S_IFDIR | 0700);
        set_xattr(upper[opaque], kOpaqueXattr, "y");
        write(upper);
    }
    ~Fixture() {
        std::error_code ec;
        std::filesystem::remove_all(directory, ec);
    }

    static InodeId add(FileTree& tree, InodeId parent, const char* name, std::uint32_t mode) {
        Inode inode;
        inode.mode = mode;
        if (S_ISLNK(mode)) inode.target = "usr/lib64";
        InodeId id = tree.create(std::move(inode));
        tree.link(parent, name, id);
        return id;
    }
    void write(const FileTree& tree) {
        layers.push_back(directory / ("layer" + std::to_string(layers.size())));
        std::ofstream(layers.back()).flush();
        msb::UniqueFd spool(::memfd_create("spool", MFD_CLOEXEC));
        msb::UniqueFd image(::memfd_create("image", MFD_CLOEXEC));
        write_layer_image(tree, spool.get(), image.get());
        std::string link = "/proc/self/fd/" + std::to_string(image.get());
        std::filesystem::copy_file(link, layers.back(),
                                   std::filesystem::copy_options::overwrite_existing);
    }
};

Patch make_patch(std::uint8_t operation, const std::string& path, const Fixture& fixture) {
    bool replace = (operation & 0x80) != 0;
    std::string content((operation & 0x40) != 0 ? 9000 : 5, 'c');
    std::string source = (fixture.directory / "src").string();
    switch (operation % 7) {
        case 0:
            return WriteFilePatch{path, content, operation, replace};
        case 1:
            return CopyFilePatch{source + "/sub/file", path, {}, replace};
        case 2:
            return CopyDirPatch{source, path, replace};
        case 3:
            return SymlinkPatch{path, path, replace};
        case 4:
            return MkdirPatch{path, {}};
        case 5:
            return RemovePatch{path};
        default:
            return AppendPatch{path, content};
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Fixture fixture;
    UpperContent kept = patch_upper({}, {}, fixture.directory);
    std::vector<Patch> patches;
    for (std::size_t at = 0; at < size && patches.size() < kMaxPatches; ++at) {
        std::uint8_t operation = data[at++];
        std::string path = "/";
        for (; at < size && data[at] != 0; ++at) {
            if (data[at] < 16)
                path += kNames[data[at]];
            else
                path += static_cast<char>(data[at]);
        }
        if (path.starts_with("//")) path.erase(0, 1);
        // One at a time on top of those that were taken: a refused patch must not end the list.
        patches.push_back(make_patch(operation, path, fixture));
        try {
            kept = patch_upper(patches, fixture.layers, fixture.directory);
        } catch (const msb::Error& e) {
            if (e.code() != msb::ErrorCode::kPatchFailed) throw;
            patches.pop_back();
        }
    }
    msb::UniqueFd disk(::memfd_create("disk", MFD_CLOEXEC));
    format_ext4(
        kept.tree,
        [&](InodeId id, const Ext4PieceWriter& write) {
            for (const DataPiece& piece : kept.tree[id].data) {
                std::vector<std::byte> bytes(piece.length);
                if (::pread(kept.spool.get(), bytes.data(), bytes.size(),
                            static_cast<off_t>(piece.source_offset)) !=
                    static_cast<ssize_t>(bytes.size()))
                    std::abort();
                write(piece.logical_offset, bytes);
            }
        },
        {.size = kDiskSize}, disk.get());
    check_ext4(disk.get());
    if (kept.tree[FileTree::kRoot].children.size() != 2) std::abort();
    return 0;
}
