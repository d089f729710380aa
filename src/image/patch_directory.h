// A host directory that a guest may have filled, looked into as in a chroot (spec/images.md section 14, "Bind roots").
//
// Paths are walked name by name over descriptors that are held, starting at the root's. Symbolic links are read and walked
// the same way: an absolute target starts again at the root, and ".." stops there. So whatever is renamed or replaced
// meanwhile, nothing outside the root is reached.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"

namespace msb::image {

inline constexpr int kMaxPatchLinks = 40;

class PinnedRoot {
  public:
    // Throws Error{kPatchFailed} "bind root P contains a linked component: C; set follow_root_symlinks to allow linked root
    // components", or P and the OS's text.
    PinnedRoot(const std::filesystem::path& path, bool follow_links);

    // The directory a path's last name is in; the name itself need not exist there and is no symbolic link if it was to be
    // followed. "." when the path leads to the root.
    struct Place {
        UniqueFd parent;
        std::string name;
    };
    enum class Final : std::uint8_t { kFollow, kKeep };
    enum class Missing : std::uint8_t { kCreate, kReport };
    // nullopt when a parent is missing and is not to be created. Throws "patch path parent is not a directory: 'P' (KIND)",
    // "too many symlinks while resolving patch path: 'P'".
    std::optional<Place> resolve(std::span<const std::string> components, Final final,
                                 Missing missing) const;

  private:
    UniqueFd root_;
};

// Removes what is at the place, recursively; what is not there is fine. Stays within it whatever is moved meanwhile.
void remove_tree(const PinnedRoot::Place& place, const std::string& path);

}  // namespace msb::image
