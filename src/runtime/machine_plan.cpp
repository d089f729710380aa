#include "runtime/machine_plan.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "contract/exec_log.h"

namespace msb::runtime {
namespace {

using contract::LaunchConfig;
namespace fs = std::filesystem;

constexpr std::size_t kEntropyBytes = 64;

[[noreturn]] void fail(const std::string& text) {
    throw Error(ErrorCode::kCustom, text);
}

// The errno of opening a directory the way a file server will: no symlink components unless allowed, no "..".
int open_directory_errno(const fs::path& path, bool follow_symlinks) {
    if (follow_symlinks)
        return UniqueFd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) ? 0 : errno;
    UniqueFd at(::open(path.is_absolute() ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (const fs::path& part : path.relative_path()) {
        if (part.empty() || part == ".") continue;
        if (part == "..") return EINVAL;
        UniqueFd next(::openat(at.get(), part.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        struct stat info{};
        if (!next) return errno;
        if (::fstat(next.get(), &info) != 0) return errno;
        if (S_ISLNK(info.st_mode)) return ELOOP;
        if (!S_ISDIR(info.st_mode)) return ENOTDIR;
        at = std::move(next);
    }
    return ::faccessat(at.get(), ".", R_OK | X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

contract::MountSpec parse_mount(const std::string& kind, const std::string& spec) {
    try {
        return contract::parse_mount_spec(spec);
    } catch (const Error& error) {
        fail(kind + msb::quoted(spec) + ": " + error.detail());
    }
}

void check_mounts(const LaunchConfig& config) {
    for (const std::string& spec : config.mounts) {
        const auto mount = parse_mount("--mount ", spec);
        const std::string where = "mount " + mount.tag + ": ";
        const int error = open_directory_errno(mount.host_path, mount.follow_root_symlinks);
        if (error == EACCES)
            fail(where + "permission denied reading host folder " + mount.host_path.string() +
                 " (" + os_error_text(EACCES) +
                 "). On macOS, grant access in System Settings > Privacy & Security.");
        if (error != 0) fail(where + os_error_text(error));
        if (mount.tag.size() > contract::kMaxMountTagBytes)
            fail(where + "the tag is longer than " + std::to_string(contract::kMaxMountTagBytes) +
                 " bytes");
    }
    for (const auto& item : config.file_mounts) {
        const auto mount = parse_mount("file mount ", item.mount);
        if (item.filename.empty() || item.filename == "." || item.filename == ".." ||
            item.filename.find('/') != std::string::npos)
            fail("file mount " + msb::quoted(item.mount) +
                 ": single-file guest name must be a normal path component");
        UniqueFd file(::open(mount.host_path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat info{};
        int error = file && ::fstat(file.get(), &info) == 0 ? 0 : errno;
        if (error == 0 && S_ISDIR(info.st_mode)) error = EISDIR;
        if (error != 0)
            fail("file mount " + mount.tag + ": failed to open host file " +
                 mount.host_path.string() + ": " + os_error_text(error));
    }
    if (!config.mounts.empty())
        fail("mount " + parse_mount("--mount ", config.mounts.front()).tag +
             ": sharing host directories with a sandbox is not available in this version");
    if (!config.file_mounts.empty())
        fail("mount " + parse_mount("file mount ", config.file_mounts.front().mount).tag +
             ": sharing host files with a sandbox is not available in this version");
}

void check_vsock(const LaunchConfig& config) {
    if (config.vsock.empty()) return;
    if (config.deployment_profile == contract::DeploymentProfile::kMultiTenant)
        fail("host vsock routes are disabled for multi-tenant deployments");
    const auto& route = config.vsock.front();
    const std::string where = std::string("initialize ") +
                              (route.type == contract::VsockType::kStream ? "stream" : "datagram") +
                              " vsock route " + route.host_socket.string() + ":" +
                              std::to_string(route.port) + ": ";
    if (!route.host_socket.is_absolute()) fail(where + "vsock host socket path must be absolute");
    fail(where + "vsock routes are not available in this version");
}

vmm::DiskFormat disk_format(contract::DiskImageFormat format) {
    switch (format) {
        case contract::DiskImageFormat::kQcow2:
            return vmm::DiskFormat::kQcow2;
        case contract::DiskImageFormat::kVmdk:
            return vmm::DiskFormat::kVmdk;
        case contract::DiskImageFormat::kRaw:
            break;
    }
    return vmm::DiskFormat::kRaw;
}

bool boots_layers(const LaunchConfig& config) {
    return config.bootstrap.block_root &&
           std::holds_alternative<protocol::OciErofsRoot>(*config.bootstrap.block_root);
}

void plan_root(const Inputs& inputs, std::vector<vmm::Disk>& disks) {
    const contract::Rootfs& rootfs = inputs.config.rootfs;
    if (!rootfs.disk) return;
    const std::string name = rootfs.disk_format.value_or("raw");
    const auto format = contract::parse_disk_format(name);
    if (!format) fail("disk format: I/O error: unknown disk image format: " + name);
    vmm::Disk root{
        .path = *rootfs.disk, .format = disk_format(*format), .read_only = rootfs.disk_readonly};
    if (boots_layers(inputs.config)) {
        root.read_only = true;
        // The descriptor lies in <cache>/vmdk and names files elsewhere in the cache; the launcher wrote it.
        root.extent_roots = {rootfs.disk->parent_path().parent_path()};
    }
    disks.push_back(std::move(root));
    if (rootfs.upper)
        disks.push_back({.path = *rootfs.upper,
                         .format = disk_format(inputs.upper_format),
                         .read_only = false});
}

std::size_t root_disks(const Inputs& inputs) {
    return inputs.config.rootfs.disk ? (inputs.config.rootfs.upper ? 2 : 1) : 0;
}

// Regular files directly in `directory`, sorted by name.
void collect_files(const fs::path& directory, const std::string& guest_directory,
                   std::size_t& total, std::vector<protocol::RuntimeFile>& out) {
    std::error_code error;
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(directory, error))
        paths.push_back(entry.path());
    std::ranges::sort(paths);
    for (const fs::path& path : paths) {
        UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
        struct stat info{};
        if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
        const std::string content = read_to_end(fd.get(), kMaxRuntimeFileBytes);
        total += content.size();
        if (total > kMaxRuntimeFileBytes)
            fail("runtime files: scripts and certificates together exceed " +
                 std::to_string(kMaxRuntimeFileBytes) + " bytes");
        const auto bytes = std::as_bytes(std::span(content));
        out.push_back({.path = guest_directory + "/" + path.filename().string(),
                       .mode = info.st_mode & 0777,
                       .content = protocol::Bytes::owned({bytes.begin(), bytes.end()})});
    }
}

}  // namespace

void check_supported(const LaunchConfig& config) {
    check_mounts(config);
    check_vsock(config);
    if (!config.rootfs.path) return;
    if (const int error =
            open_directory_errno(*config.rootfs.path, config.rootfs.follow_root_symlinks);
        error != 0)
        fail("rootfs: " + os_error_text(error));
    fail("rootfs: booting from a host directory is not available in this version");
}

vmm::MachineConfig plan_machine(const Inputs& inputs, const vmm::Parts& parts) {
    vmm::MachineConfig machine;
    machine.kernel = parts.kernel;
    machine.initramfs = parts.initramfs;
    machine.vcpus = inputs.args.vcpus;
    machine.max_vcpus = inputs.args.effective_max_vcpus();
    machine.memory_mib = inputs.args.memory_mib;
    machine.max_memory_mib = inputs.args.effective_max_memory_mib();
    machine.transparent_hugepage = contract::to_string(inputs.config.thp);
    plan_root(inputs, machine.disks);
    for (const contract::DiskSpec& disk : inputs.disks) {
        // A virtio-blk serial has 20 bytes; the guest compares what it sees.
        constexpr std::size_t kSerialBytes = 20;
        machine.disks.push_back({.path = disk.host_path,
                                 .format = disk_format(disk.format),
                                 .read_only = disk.read_only,
                                 .serial = disk.id.substr(0, kSerialBytes)});
    }
    machine.console_log = inputs.config.log_dir / contract::kKernelLogFile;
    return machine;
}

std::string disk_failure(const Inputs& inputs, const vmm::DiskError& error) {
    if (error.index() < root_disks(inputs)) return "rootfs: " + error.reason();
    const contract::DiskSpec& disk = inputs.disks.at(error.index() - root_disks(inputs));
    if (error.os_error() == ENOENT)
        return "disk " + disk.id + ": host path not found: " + disk.host_path.string();
    return "disk " + disk.id + ": " + error.reason();
}

protocol::Bootstrap plan_bootstrap(const LaunchConfig& config) {
    protocol::Bootstrap bootstrap = config.bootstrap;
    if (!bootstrap.block_root && config.rootfs.disk && config.rootfs.disk_format != "vmdk")
        bootstrap.block_root =
            protocol::DiskImageRoot{.device = "/dev/vda", .fstype = std::nullopt};
    bootstrap.network.reset();  // the sandbox process decides; this version has no network device
    std::size_t total = 0;
    collect_files(config.runtime_dir / "scripts", "scripts", total, bootstrap.runtime_files);
    collect_files(config.runtime_dir / "tls", "tls", total, bootstrap.runtime_files);
    bootstrap.entropy.resize(kEntropyBytes);
    if (::getrandom(bootstrap.entropy.data(), kEntropyBytes, 0) !=
        static_cast<ssize_t>(kEntropyBytes))
        throw_os_error(errno, "getrandom");
    return bootstrap;
}

}  // namespace msb::runtime
