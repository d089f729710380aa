// Rootfs patches: changes made to a sandbox's root before its first boot (spec/images.md section 14).
//
// Two kinds of root take them. An OCI root with a managed disk gets its patches as the content of the overlay's upper
// directory, formatted into upper.ext4; what the image holds is looked up in its layers. A directory root is changed in
// place. Disk images, flat, tmpfs and disk-image root disks take none; the configuration is refused before (state/
// validation.h).
//
// All failures are Error{kPatchFailed} with section 14's texts. Patches are applied in order, once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/fd.h"
#include "image/ext4_format.h"
#include "image/file_tree.h"

namespace msb::image {

// `mode` is permission bits, 07777. Paths are guest paths; sources are host paths.
struct WriteFilePatch {  // `Text` and `File`
    std::string path;
    std::string content;
    std::optional<std::uint32_t> mode;  // 0644
    bool replace = false;
};
struct CopyFilePatch {
    std::string source;
    std::string destination;
    std::optional<std::uint32_t> mode;  // the source's
    bool replace = false;
};
struct CopyDirPatch {
    std::string source;
    std::string destination;
    bool replace = false;
};
struct SymlinkPatch {
    std::string target;
    std::string link;
    bool replace = false;
};
struct MkdirPatch {
    std::string path;
    std::optional<std::uint32_t> mode;  // 0755
};
struct RemovePatch {
    std::string path;
};
struct AppendPatch {
    std::string path;
    std::string content;
};
using Patch = std::variant<WriteFilePatch, CopyFilePatch, CopyDirPatch, SymlinkPatch, MkdirPatch,
                           RemovePatch, AppendPatch>;

// What create_upper() (upper_disk.h) writes: the tree of an upper file system, root holding exactly /upper and /work, and
// a spool with the bytes of its files. Inode::data says where in the spool; the host's files are not needed any more.
struct UpperContent {
    FileTree tree;
    UniqueFd spool;  // empty when no file has content
};

// Applies `patches` on top of the image whose layer images (bottom first) are `layers`: files of the cache
// (Cache::layer_image). `scratch` is a directory for the unnamed spool file, on a disk with room for what is copied: the
// sandbox's own. Without patches the result is upper_skeleton(), and no layer is opened.
UpperContent patch_upper(std::span<const Patch> patches,
                         std::span<const std::filesystem::path> layers,
                         const std::filesystem::path& scratch);

// Applies `patches` to the directory `root`, which a hostile guest may have written: symbolic links resolve as in a
// chroot and nothing outside `root` is touched, whatever changes meanwhile. The whole batch is checked first; a failure
// while it is carried out leaves what was done before. `follow_root_symlinks` allows links in the path of `root` itself.
void patch_directory(const std::filesystem::path& root, bool follow_root_symlinks,
                     std::span<const Patch> patches);

}  // namespace msb::image
