// A sandbox's end of a copy.
#pragma once

#include <microsandbox/fs.h>

#include "cli/commands/copy_tree.h"

namespace msb::cli {

class GuestSource : public TreeSource {
  public:
    explicit GuestSource(microsandbox::SandboxFs fs) : fs_(std::move(fs)) {}
    NodeInfo info(const std::string& path) override;
    std::vector<std::string> names(const std::string& directory) override;
    std::string link_target(const std::string& path) override;
    void read(const std::string& path, const ChunkSink& sink) override;

  private:
    microsandbox::SandboxFs fs_;
};

class GuestSink : public TreeSink {
  public:
    GuestSink(microsandbox::SandboxFs fs, std::string directory)
        : fs_(std::move(fs)), paths_{std::move(directory)} {}
    void enter(const std::string& name, std::uint32_t mode) override;
    void leave() override;
    void link(const std::string& name, const std::string& target) override;
    void file(const std::string& name, std::uint32_t mode,
              const std::function<void(const ChunkSink&)>& fill) override;

  private:
    std::string path(const std::string& name) const;
    void set_mode(const std::string& path, std::uint32_t mode);

    microsandbox::SandboxFs fs_;
    std::vector<std::string> paths_;
    std::vector<std::uint32_t> modes_;
};

}  // namespace msb::cli
