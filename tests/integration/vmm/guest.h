// A small Linux guest for tests: our kernel, busybox, and a shell as PID 1 that runs what it is
// sent over the "agent" port.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/machine.h"

namespace msb::vmm::test {

// Nothing here waits longer; whoever does has failed.
inline constexpr int kPatienceSeconds = 90;

std::filesystem::path kernel();  // $MSB_KERNEL, else the kernel cache's; throws when not built
std::filesystem::path engine();

class TemporaryDirectory {
  public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path write(const std::string& name, std::string_view content) const;
    std::filesystem::path make_disk(const std::string& name,
                                    const std::string& qemu_img_options) const;

  private:
    std::filesystem::path path_;
};

// Serves the machine until `done` or its end; the end in the latter case. Throws when it takes too
// long.
std::optional<MachineExit> serve(Machine& machine, const std::function<bool()>& done);
MachineExit serve_until_exit(Machine& machine);

class Guest {
  public:
    // Adds kernel, initramfs, port and console log to `config` and starts it under TCG.
    explicit Guest(MachineConfig config = {});
    void wait_until_ready();
    // The output of a shell command with line ends turned to blanks; throws when it fails.
    std::string run(const std::string& command);
    void send(const std::string& command);  // without waiting for an answer
    MachineExit wait() { return serve_until_exit(*machine_); }
    Machine& machine() { return *machine_; }
    std::string console() const;
    const TemporaryDirectory& directory() const { return directory_; }

  private:
    std::string read_line();

    TemporaryDirectory directory_;
    UniqueFd port_;
    std::string input_;
    std::unique_ptr<Machine> machine_;
};

}  // namespace msb::vmm::test
