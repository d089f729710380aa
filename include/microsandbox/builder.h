// Describing a sandbox before it exists.
//
// Builders collect: setters never throw for bad values; the first error found is thrown by build_json() or a create call
// (Error{kInvalidConfig} unless said otherwise). Sizes are MiB. A builder is used from one thread at a time and may be
// copied and used again.
#pragma once

#include <microsandbox/error.h>
#include <microsandbox/exec.h>
#include <microsandbox/export.h>
#include <microsandbox/image.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace microsandbox {

class Sandbox;

enum class DiskFormat : std::uint8_t { kRaw, kQcow2, kVmdk };
enum class CpuPlacement : std::uint8_t { kInherit, kAuto, kSpread, kCompact };
enum class TransparentHugepages : std::uint8_t { kAlways, kMadvise, kNever };
enum class SecurityProfile : std::uint8_t { kDefault, kRestricted };
enum class DeploymentProfile : std::uint8_t { kSingleTenant, kMultiTenant };
enum class LogLevel : std::uint8_t { kError, kWarn, kInfo, kDebug, kTrace };
enum class StatVirtualization : std::uint8_t { kStrict, kRelaxed, kOff };
enum class HostPermissions : std::uint8_t { kPrivate, kMirror };
enum class CloneStrategy : std::uint8_t { kAuto, kCopy, kReflink };
enum class VsockType : std::uint8_t { kStream, kDatagram };

// The root file system. Exactly one of oci(), disk(), bind().
class MICROSANDBOX_API ImageBuilder {
  public:
    struct Impl;  // incomplete outside the library

    ImageBuilder& oci(std::string reference);
    ImageBuilder& disk(std::string path);
    ImageBuilder& bind(std::string path);
    ImageBuilder& format(
        DiskFormat format);  // after disk(); else from the extension .raw .qcow2 .vmdk
    ImageBuilder& fstype(std::string fstype);     // after disk(); else probed by the guest
    ImageBuilder& follow_root_symlinks();         // after bind()
    ImageBuilder& upper_size(std::uint32_t mib);  // after oci(): the managed root disk's size

  private:
    friend class SandboxBuilder;
    explicit ImageBuilder(Impl& impl) : impl_(&impl) {}
    Impl* impl_;
};

// The writable disk over an OCI image.
class MICROSANDBOX_API RootDiskBuilder {
  public:
    struct Impl;  // incomplete outside the library

    RootDiskBuilder& size(std::uint32_t mib);
    RootDiskBuilder& tmpfs();
    RootDiskBuilder& flat();
    RootDiskBuilder& disk(std::string path);
    RootDiskBuilder& format(DiskFormat format);
    RootDiskBuilder& fstype(std::string fstype);
    RootDiskBuilder& clone_strategy(CloneStrategy strategy);

  private:
    friend class SandboxBuilder;
    explicit RootDiskBuilder(Impl& impl) : impl_(&impl) {}
    Impl* impl_;
};

// One mount. Exactly one of bind(), named(), tmpfs(), disk(). This build runs tmpfs and disk mounts; the others are
// validated and then refused with Error{kUnsupported} at create.
class MICROSANDBOX_API MountBuilder {
  public:
    struct Impl;  // incomplete outside the library

    MountBuilder& bind(std::string host_path);
    MountBuilder& named(std::string volume);
    MountBuilder& tmpfs();
    MountBuilder& disk(std::string host_path);
    MountBuilder& size(std::uint32_t mib);     // tmpfs
    MountBuilder& quota(std::uint32_t mib);    // bind
    MountBuilder& format(DiskFormat format);   // disk; else from the extension
    MountBuilder& fstype(std::string fstype);  // disk; else probed by the guest
    MountBuilder& readonly(bool on = true);
    MountBuilder& noexec(bool on = true);
    MountBuilder& nosuid(bool on = true);
    MountBuilder& nodev(bool on = true);
    MountBuilder& stat_virtualization(StatVirtualization policy);
    MountBuilder& host_permissions(HostPermissions policy);
    MountBuilder& follow_root_symlinks(bool on = true);
    MountBuilder& owner(std::uint32_t uid, std::uint32_t gid);

  private:
    friend class SandboxBuilder;
    explicit MountBuilder(Impl& impl) : impl_(&impl) {}
    Impl* impl_;
};

// A change to the root file system before first boot (OCI images only). `mode` is permission bits.
struct PatchText {
    std::string path, content;
    std::optional<std::uint32_t> mode;
    bool replace = false;
};
struct PatchFile {
    std::string path, content;
    std::optional<std::uint32_t> mode;
    bool replace = false;
};
struct PatchCopyFile {
    std::string source, destination;
    std::optional<std::uint32_t> mode;
    bool replace = false;
};
struct PatchCopyDir {
    std::string source, destination;
    bool replace = false;
};
struct PatchSymlink {
    std::string target, link;
    bool replace = false;
};
struct PatchMkdir {
    std::string path;
    std::optional<std::uint32_t> mode;
};
struct PatchRemove {
    std::string path;
};
struct PatchAppend {
    std::string path, content;
};
using Patch = std::variant<PatchText, PatchFile, PatchCopyFile, PatchCopyDir, PatchSymlink,
                           PatchMkdir, PatchRemove, PatchAppend>;

class MICROSANDBOX_API SandboxBuilder {
  public:
    struct Impl;  // incomplete outside the library

    explicit SandboxBuilder(std::string name);
    // From a configuration document as stored (spec/state.md section 9); throws Error{kJson} when it cannot be read.
    static SandboxBuilder from_config_json(std::string_view json);
    SandboxBuilder(const SandboxBuilder&);
    SandboxBuilder(SandboxBuilder&&) noexcept;
    SandboxBuilder& operator=(const SandboxBuilder&);
    SandboxBuilder& operator=(SandboxBuilder&&) noexcept;
    ~SandboxBuilder();

    // Text starting "/", "./", "../" (or "." and "..") is a host path: extension .qcow2 .raw .vmdk = disk image,
    // otherwise a directory root. Anything else is an OCI reference.
    SandboxBuilder& image(std::string text);
    SandboxBuilder& image_with(const std::function<void(ImageBuilder&)>& configure);
    SandboxBuilder& root_disk(std::uint32_t mib);
    SandboxBuilder& root_disk_with(const std::function<void(RootDiskBuilder&)>& configure);
    SandboxBuilder& pull_policy(PullPolicy policy);     // if-missing
    SandboxBuilder& registry(RegistryOptions options);  // of the image's registry; never stored
    // Told while create() pulls the image.
    SandboxBuilder& pull_progress(PullProgress progress);

    SandboxBuilder& cpus(std::uint8_t count);       // 1, or config.json's default
    SandboxBuilder& max_cpus(std::uint8_t count);   // = cpus
    SandboxBuilder& memory(std::uint32_t mib);      // 512, or config.json's default
    SandboxBuilder& max_memory(std::uint32_t mib);  // = memory
    SandboxBuilder& cpu_placement(CpuPlacement policy);
    SandboxBuilder& placement_profile(std::string name);
    SandboxBuilder& thp(TransparentHugepages mode);
    SandboxBuilder& rlimit(std::string resource, std::uint64_t soft_and_hard);
    SandboxBuilder& rlimit_range(std::string resource, std::uint64_t soft, std::uint64_t hard);

    SandboxBuilder& workdir(std::string guest_path);
    SandboxBuilder& shell(std::string guest_path);  // /bin/sh
    SandboxBuilder& user(std::string spec);
    SandboxBuilder& hostname(std::string name);  // else derived from the sandbox's name
    SandboxBuilder& entrypoint(std::vector<std::string> argv);
    SandboxBuilder& cmd(std::vector<std::string> argv);
    // Stores `argv` as the default command (cmd) and has the sandbox process run entrypoint + cmd as a background
    // workload; the sandbox stops when it ends.
    SandboxBuilder& startup(std::vector<std::string> argv);
    // The command the caller is going to run attached; unset: the default one. Needed only for images whose init runs
    // commands itself and with init("auto"): it then gets the command, see Sandbox::init_owns_command(). Never stored.
    SandboxBuilder& foreground(std::optional<std::vector<std::string>> argv);
    SandboxBuilder& init(std::string command, std::vector<std::string> args = {},
                         std::vector<std::pair<std::string, std::string>> env = {});
    SandboxBuilder& env(std::string key, std::string value);  // appended in order
    SandboxBuilder& envs(const std::vector<std::pair<std::string, std::string>>& entries);
    SandboxBuilder& label(std::string key, std::string value);
    SandboxBuilder& labels(const std::vector<std::pair<std::string, std::string>>& entries);
    SandboxBuilder& script(std::string name,
                           std::string body);  // guest /.msb/scripts/<name>, mode 0755

    SandboxBuilder& volume(std::string guest_path,
                           const std::function<void(MountBuilder&)>& configure);
    SandboxBuilder& patch(Patch patch);
    SandboxBuilder& vsock(std::string host_socket, std::uint32_t port,
                          VsockType type = VsockType::kStream);
    SandboxBuilder& disable_network();

    SandboxBuilder& log_level(
        std::optional<LogLevel> level);  // of the sandbox process; unset = quiet
    SandboxBuilder& metrics_sample_interval(
        std::chrono::milliseconds interval);  // 1000 ms; 0 = off
    SandboxBuilder& disable_metrics_sample();
    SandboxBuilder& max_duration(std::chrono::seconds limit);
    SandboxBuilder& idle_timeout(std::chrono::seconds limit);
    SandboxBuilder& ephemeral(bool on = true);  // row and directory are removed after the run
    SandboxBuilder& security(SecurityProfile profile);
    SandboxBuilder& deployment_profile(DeploymentProfile profile);

    // What create() does when the name is taken: stop the old sandbox (SIGTERM, after `grace` SIGKILL; 0 = SIGKILL at
    // once), remove it, take its place.
    SandboxBuilder& replace();  // grace 10 s
    SandboxBuilder& replace_with_timeout(std::chrono::milliseconds grace);
    // The program run as `msb sandbox`. Else $MSB_PATH, config.json paths.msb, <home>/bin/msb, `msb` beside this
    // program, beside the SDK library (../bin), in PATH. $MSB_PATH beats even this.
    SandboxBuilder& runtime_path(std::filesystem::path msb);

    // The configuration document create() would store. Only reads files. Throws the first validation error.
    std::string build_json() const;
    const std::string& name() const noexcept;

    // Boots the sandbox and returns once commands can run (minutes on a slow host; `stop` cancels and cleans up).
    // The result owns it: when the last owner object or this process goes away, the sandbox stops.
    // Errors: kInvalidConfig (validation), kSandboxAlreadyExists, kBootStart, kImage, kUnsupported, kIo, kDatabase,
    // kRuntime, kCancelled. After a failed boot the sandbox is left stopped under its name.
    Sandbox create(std::stop_token stop = {}) const;
    // The same, but nobody owns it: it runs until stopped.
    Sandbox create_detached(std::stop_token stop = {}) const;
    // Existing: Sandbox::connect_or_start; absent: create; losing a creation race: connect.
    // With replace(): Error{kInvalidConfig} "connect_or_create cannot be combined with replace_existing".
    Sandbox connect_or_create(bool detached = false, std::stop_token stop = {}) const;

  private:
    explicit SandboxBuilder(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace microsandbox
