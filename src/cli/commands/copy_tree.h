// Copying a file tree between the host and sandboxes (spec/cli.md section 7): what is common to every direction.
//
// The guest's side is hostile: its listings, names, link targets and sizes are not believed. Depth and the number of
// entries of a directory are bounded; nothing recurses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace msb::cli {

// Deeper trees are refused: no path of that depth fits PATH_MAX.
inline constexpr std::size_t kMaxCopyDepth = 2048;
inline constexpr std::size_t kMaxLinkTarget = 4096;  // bytes

enum class NodeKind : std::uint8_t { kFile, kDirectory, kLink, kOther };

struct NodeInfo {
    NodeKind kind = NodeKind::kOther;
    std::uint32_t mode = 0;  // permission bits, 07777
};

// Calls the argument with each chunk of the file.
using ChunkSink = std::function<void(std::string_view)>;

// Where a tree is read from. Paths are whole paths. Throws msb::Error or microsandbox::Error.
class TreeSource {
  public:
    virtual ~TreeSource() = default;
    virtual NodeInfo info(const std::string& path) = 0;  // links are not followed
    virtual std::vector<std::string> names(const std::string& directory) = 0;
    virtual std::string link_target(const std::string& path) = 0;
    virtual void read(const std::string& path, const ChunkSink& sink) = 0;
};

// Where a tree is written to, in depth-first order. `name` is one checked component.
class TreeSink {
  public:
    virtual ~TreeSink() = default;
    virtual void enter(const std::string& name, std::uint32_t mode) = 0;  // directory
    virtual void leave() = 0;                                             // of the last enter
    virtual void link(const std::string& name, const std::string& target) = 0;
    // `fill` writes the contents.
    virtual void file(const std::string& name, std::uint32_t mode,
                      const std::function<void(const ChunkSink&)>& fill) = 0;
};

// Copies what is at `path` to `name` in the sink. The first error ends it; what was copied stays.
void copy_tree(TreeSource& source, const std::string& path, TreeSink& sink,
               const std::string& name);

// "", ".", ".." and anything with a '/' or NUL is no name: throws "refusing to create ...".
void check_component(std::string_view name);

// The target a link at `depth` directories below the copy's root gets: relative, inside the copy; absolute targets are
// taken from the copy's root. Throws "refusing to create symlink LINK -> TARGET: target escapes the copy destination".
std::string contained_link_target(const std::string& link, const std::string& target,
                                  std::size_t depth);

// The last component of a path given by the user; throws when it has none ("/", ".", "..").
std::string base_name(const std::string& path);

}  // namespace msb::cli
