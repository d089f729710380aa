// The host's end of a copy.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "cli/commands/copy_tree.h"

namespace msb::cli {

class HostSource : public TreeSource {
  public:
    NodeInfo info(const std::string& path) override;
    std::vector<std::string> names(const std::string& directory) override;
    std::string link_target(const std::string& path) override;
    void read(const std::string& path, const ChunkSink& sink) override;
};

// Writes below one directory that is pinned by its descriptor when the object is made; no link below it is followed.
// Files appear under their name when complete (".msb-copy-<pid>-<n>", mode 0600, until then); directories are 0700 until
// everything in them is there. A link in the place of a file or directory is replaced.
class HostSink : public TreeSink {
  public:
    // Throws Error{kIo} "<directory>: ...".
    explicit HostSink(const std::string& directory);
    ~HostSink() override;

    void enter(const std::string& name, std::uint32_t mode) override;
    void leave() override;
    void link(const std::string& name, const std::string& target) override;
    void file(const std::string& name, std::uint32_t mode,
              const std::function<void(const ChunkSink&)>& fill) override;

  private:
    struct Level {
        UniqueFd fd;
        std::uint32_t mode;
    };
    int current() const { return levels_.back().fd.get(); }
    std::string temporary_name();

    std::vector<Level> levels_;
    unsigned counter_ = 0;
};

}  // namespace msb::cli
