#include "state/validation.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "fixture.h"

namespace msb::state {
namespace {

using test::error_of;

const std::string kPrefix = "invalid config: ";

std::string name_error(const std::string& name, NameOrigin origin = NameOrigin::kBuilder) {
    return error_of([&] { validate_sandbox_name(name, origin); });
}

TEST(Validation, SandboxNames) {
    EXPECT_EQ(name_error("a"), "");
    EXPECT_EQ(name_error("9.a_b-C"), "");
    EXPECT_EQ(name_error(std::string(128, 'a')), "");
    EXPECT_EQ(name_error(""), kPrefix + "sandbox name is required");
    EXPECT_EQ(name_error("", NameOrigin::kStored), kPrefix + "sandbox name must not be empty");
    EXPECT_EQ(name_error(std::string(129, 'a')),
              kPrefix + "sandbox name must be at most 128 characters: got 129");
    for (const std::string bad : {"-a", ".a", "..", "a/b", "a b", "\xc3\xa9", "a\n"})
        EXPECT_EQ(name_error(bad), kPrefix +
                                       "sandbox name must start with an alphanumeric and contain "
                                       "only alphanumeric, dots, hyphens, and underscores: " +
                                       bad);
}

TEST(Validation, VolumeNames) {
    EXPECT_EQ(error_of([] { validate_volume_name(""); }),
              kPrefix + "volume name must not be empty");
    EXPECT_EQ(error_of([] { validate_volume_name(".x"); }),
              kPrefix +
                  "volume name must start with an alphanumeric character and contain only "
                  "alphanumeric characters, dots, hyphens, and underscores: .x");
}

// spec/state.md check 11.
TEST(Validation, Hostnames) {
    EXPECT_EQ(derived_hostname(std::string(65, 'a')), std::string(55, 'a') + "-635361c4");
    EXPECT_EQ(derived_hostname(std::string(64, 'a')), std::string(64, 'a'));
    EXPECT_EQ(error_of([] { validate_hostname(""); }), kPrefix + "hostname must not be empty");
    EXPECT_EQ(error_of([] { validate_hostname(std::string(65, 'h')); }),
              kPrefix + "hostname is too long: 65 bytes (max 64)");
}

TEST(Validation, LabelsAndEnvironment) {
    EXPECT_EQ(error_of([] { validate_labels({{"", "v"}}); }),
              kPrefix + "label key must not be empty");
    EXPECT_EQ(error_of([] { validate_labels({{"sandbox.x", ""}}); }),
              kPrefix + "label key 'sandbox.x' uses reserved prefix 'sandbox.'");
    EXPECT_EQ(error_of([] { validate_labels({{"team", ""}}); }), "");
    EXPECT_TRUE(is_reserved_label_key("service.name"));
    EXPECT_FALSE(is_reserved_label_key("sandboxes"));
    EXPECT_EQ(error_of([] { validate_env({{"A", "1"}, {"MSB_X", "1"}}); }),
              kPrefix + "environment variable \"MSB_X\" uses the reserved MSB_ prefix");
}

TEST(Validation, Resources) {
    const auto error = [](auto change) {
        Resources resources{2, 1024, 2, 1024, CpuPlacement::kInherit, {}, ThpPolicy::kMadvise};
        change(resources);
        return error_of([&] { validate_resources(resources); });
    };
    EXPECT_EQ(error([](Resources&) {}), "");
    EXPECT_EQ(error([](Resources& r) { r.cpus = 0; }), kPrefix + "cpus must be greater than 0");
    EXPECT_EQ(error([](Resources& r) { r.memory_mib = 0; }),
              kPrefix + "memory must be greater than 0");
    EXPECT_EQ(error([](Resources& r) { r.max_cpus = 0; }),
              kPrefix + "max_cpus must be greater than 0");
    EXPECT_EQ(error([](Resources& r) { r.max_memory_mib = 0; }),
              kPrefix + "max_memory must be greater than 0");
    EXPECT_EQ(error([](Resources& r) { r.max_cpus = 1; }),
              kPrefix + "max_cpus 1 must be greater than or equal to cpus 2");
    EXPECT_EQ(error([](Resources& r) { r.max_memory_mib = 512; }),
              kPrefix + "max_memory 512 MiB must be greater than or equal to memory 1024 MiB");
}

TEST(Validation, ImageSources) {
    test::TempHome home;
    home.write("disk.raw", "x");
    const std::string file = (home.paths().home() / "disk.raw").string();
    const std::string directory = home.paths().home().string();
    const auto error = [](Image image) {
        SandboxConfig config;
        config.image = std::move(image);
        return error_of([&] { validate_image_source(config); });
    };
    EXPECT_EQ(error(OciImage{}), kPrefix + "image source is required");
    EXPECT_EQ(error(OciImage{"alpine", {}}), "");
    EXPECT_EQ(error(BindImage{"/nonexistent/r", false}),
              kPrefix + "rootfs bind path does not exist: /nonexistent/r");
    EXPECT_EQ(error(BindImage{file, false}),
              kPrefix + "rootfs bind path is not a directory: " + file);
    EXPECT_EQ(error(BindImage{directory, false}), "");
    EXPECT_EQ(error(DiskImage{"/nonexistent/d.raw", DiskFormat::kRaw, {}}),
              kPrefix + "disk image does not exist: /nonexistent/d.raw");
    EXPECT_EQ(error(DiskImage{directory, DiskFormat::kRaw, {}}),
              kPrefix + "disk image is not a regular file: " + directory);
    EXPECT_EQ(error(DiskImage{file, DiskFormat::kRaw, {}}), "");
}

TEST(Validation, RootDisks) {
    const auto error = [](RootDisk disk, bool patched = false) {
        SandboxConfig config;
        config.image = OciImage{"alpine", std::move(disk)};
        if (patched) config.patches.push_back(RemovePatch{"/x"});
        return error_of([&] { validate_image(config); });
    };
    EXPECT_EQ(error(ManagedRootDisk{64}, true), "");
    EXPECT_EQ(error(ManagedRootDisk{0}), kPrefix + "root disk size must be greater than 0");
    EXPECT_EQ(error(FlatRootDisk{0, {}, {}}),
              kPrefix + "flat root disk size must be greater than 0");
    EXPECT_EQ(error(TmpfsRootDisk{600}),
              kPrefix + "tmpfs root disk size (600 MiB) must not exceed sandbox memory (512 MiB)");
    EXPECT_EQ(error(TmpfsRootDisk{}, true),
              kPrefix +
                  "patches require a managed root disk (they are baked into the upper at create "
                  "time)");
    EXPECT_EQ(error(FlatRootDisk{{}, "xfs", {}}),
              kPrefix + "flat root disks currently support only fstype=ext4");
    EXPECT_EQ(error(FlatRootDisk{}, true),
              kPrefix + "patches are not yet compatible with flat OCI rootfs");
    EXPECT_EQ(error(DiskImageRootDisk{"/d", DiskFormat::kVmdk, {}}),
              kPrefix + "vmdk is not supported as a root disk (writable vmdk is unavailable)");

    SandboxConfig disk;
    disk.image = DiskImage{"/d.raw", DiskFormat::kRaw, {}};
    disk.patches.push_back(RemovePatch{"/x"});
    EXPECT_EQ(error_of([&] { validate_image(disk); }),
              kPrefix + "patches are not compatible with disk image rootfs");
}

std::string mount_error(std::vector<Mount> mounts) {
    return error_of([&] { validate_and_sort_mounts(mounts); });
}

TEST(Validation, GuestMountPaths) {
    EXPECT_EQ(normalize_guest_mount_path("/x//y/"), "/x/y");
    const auto error = [](const std::string& guest) {
        return error_of([&] { normalize_guest_mount_path(guest); });
    };
    EXPECT_EQ(error("x"), kPrefix + "guest mount path must be absolute: x");
    EXPECT_EQ(error("/a/../b"), kPrefix + "guest mount path must not contain '..': /a/../b");
    EXPECT_EQ(error("/a:b"), kPrefix + "guest mount path must not contain ':', ';', or ',': /a:b");
    EXPECT_EQ(error("//"), kPrefix + "cannot mount a volume at guest root /");
}

TEST(Validation, Mounts) {
    EXPECT_EQ(mount_error({TmpfsMount{"/a", {}, {}}, TmpfsMount{"/a/", {}, {}}}),
              kPrefix + "multiple volumes cannot mount the same guest path: /a");
    BindMount bind;
    bind.host = "/h,x";
    bind.guest = "/g";
    EXPECT_EQ(mount_error({bind}),
              kPrefix + "bind host path must not contain ',', ':', or ';': /h,x");
    bind.host = "/h";
    bind.options.override_uid = 5;
    EXPECT_EQ(mount_error({bind}), kPrefix + "mount uid and gid must be specified together");
    bind.options.override_gid = 5;
    EXPECT_EQ(mount_error({bind}), "");
    bind.stat_virtualization = StatVirtualization::kOff;
    EXPECT_EQ(mount_error({bind}),
              kPrefix +
                  "mount owner (uid/gid) cannot be combined with stat_virtualization=Off because "
                  "Off exposes literal host metadata");
    bind.options = {};
    bind.host_permissions = HostPermissions::kMirror;
    EXPECT_EQ(mount_error({bind}),
              kPrefix +
                  "stat_virtualization=Off cannot be combined with host_permissions=Mirror: Off "
                  "has no overlay, so chmod already operates on the host inode and Mirror would "
                  "be a no-op. Drop one or the other.");
    EXPECT_EQ(mount_error({DiskImageMount{"/h;", "/g", DiskFormat::kRaw, {}, {}}}),
              kPrefix + "disk image host path must not contain ',', ':', or ';': /h;");
    EXPECT_EQ(mount_error({DiskImageMount{"/h", "/g", DiskFormat::kRaw, "", {}}}),
              kPrefix + "fstype must not be empty");
    EXPECT_EQ(mount_error({DiskImageMount{"/h", "/g", DiskFormat::kRaw, "a=b", {}}}),
              kPrefix + "fstype must not contain ',', ';', ':', or '=': a=b");
}

TEST(Validation, MountsAreSortedByDepthThenPath) {
    std::vector<Mount> mounts = {TmpfsMount{"/b/c/d", {}, {}}, TmpfsMount{"/z", {}, {}},
                                 TmpfsMount{"/b/a/", {}, {}}, TmpfsMount{"/a", {}, {}}};
    validate_and_sort_mounts(mounts);
    std::string order;
    for (const Mount& mount : mounts)
        order += guest_path(mount) + " ";
    EXPECT_EQ(order, "/a /z /b/a /b/c/d ");
}

TEST(Validation, RlimitsInitVsock) {
    EXPECT_EQ(error_of([] { validate_rlimits({{RlimitResource::kCpu, 5, 4}}); }),
              kPrefix + "rlimit cpu: soft (5) must not exceed hard (4)");
    EXPECT_EQ(error_of([] { validate_init({"auto", {}, {}}); }), "");
    EXPECT_EQ(error_of([] { validate_init({"init", {}, {}}); }),
              kPrefix + "init cmd must be an absolute path or `auto`, got: \"init\"");
    const auto init = [](InitConfig config) { return error_of([&] { validate_init(config); }); };
    EXPECT_EQ(init({"/a\\b", {}, {}}),
              kPrefix +
                  "init cmd is a guest (Linux) path and must not contain '\\' \u2014 use '/' "
                  "separators: \"/a\\\\b\"");
    EXPECT_EQ(init({"/i", {"x", std::string("\0", 1)}, {}}),
              kPrefix + "init arg #1 must not contain a NUL byte");
    EXPECT_EQ(init({"/i", {}, {{"", ""}}}), kPrefix + "init env key must not be empty");
    EXPECT_EQ(init({"/i", {}, {{"A=B", ""}}}),
              kPrefix + "init env key \"A=B\" must not contain '='");
    EXPECT_EQ(init({"/i", {}, {{"A", std::string("\0", 1)}}}),
              kPrefix + "init env value for \"A\" must not contain NUL");

    const auto vsock = [](std::vector<VsockRoute> routes,
                          DeploymentProfile profile = DeploymentProfile::kSingleTenant) {
        return error_of([&] { validate_vsock(routes, profile); });
    };
    EXPECT_EQ(vsock({{"/s", 9, VsockType::kStream}, {"/s", 9, VsockType::kDatagram}}), "");
    EXPECT_EQ(vsock({{"s", 9, VsockType::kStream}}),
              kPrefix + "vsock host path must be absolute: s");
    EXPECT_EQ(vsock({{"/s", 4294967295u, VsockType::kStream}}),
              kPrefix + "vsock port 4294967295 must be between 1 and 4294967294");
    EXPECT_EQ(vsock({{"/s", 123, VsockType::kDatagram}}),
              kPrefix + "vsock datagram port 123 is reserved for guest clock synchronization");
    EXPECT_EQ(vsock({{"/s", 9, VsockType::kStream}, {"/t", 9, VsockType::kStream}}),
              kPrefix + "duplicate vsock Stream route for port 9");
    EXPECT_EQ(vsock({{"/s", 9, VsockType::kStream}}, DeploymentProfile::kMultiTenant),
              kPrefix + "host vsock routes are disabled for multi-tenant deployments");
}

TEST(Validation, Secrets) {
    const auto error = [](auto change) {
        SecretEntry secret;
        secret.env_var = "KEY";
        secret.placeholder = "$MSB_KEY";
        secret.allowed_hosts = {{HostPattern::Kind::kExact, "a.example"}};
        change(secret);
        return error_of([&] { validate_secrets({{secret}, {}}); });
    };
    const std::string prefix = kPrefix + "invalid network secrets: secret #0: ";
    EXPECT_EQ(error([](SecretEntry&) {}), "");
    EXPECT_EQ(error([](SecretEntry& s) { s.env_var = ""; }), prefix + "env_var must not be empty");
    EXPECT_EQ(error([](SecretEntry& s) { s.env_var = "a=b"; }),
              prefix + "env_var must not contain `=`");
    EXPECT_EQ(error([](SecretEntry& s) { s.allowed_hosts.clear(); }),
              prefix + "at least one allowed host is required");
    EXPECT_EQ(error([](SecretEntry& s) { s.placeholder = std::string(1025, 'x'); }),
              prefix + "placeholder must be at most 1024 bytes, got 1025");
    EXPECT_EQ(error([](SecretEntry& s) { s.placeholder = "a\nb"; }),
              prefix + "placeholder must not contain CR or LF");
}

TEST(Validation, FirstErrorWinsInTheBuildersOrder) {
    SandboxConfig config;  // everything is wrong
    config.runtime.hostname = "";
    config.resources.cpus = 0;
    config.mounts = {TmpfsMount{"x", {}, {}}};
    config.env = {{"MSB_A", ""}};
    const auto error = [&] { return error_of([&] { validate_builder(config); }); };
    EXPECT_EQ(error(), kPrefix + "sandbox name is required");
    config.name = "n";
    EXPECT_EQ(error(), kPrefix + "hostname must not be empty");
    config.runtime.hostname.reset();
    EXPECT_EQ(error(), kPrefix + "cpus must be greater than 0");
    config.resources.cpus = 1;
    EXPECT_EQ(error(), kPrefix + "image source is required");
    config.image = OciImage{"alpine", {}};
    EXPECT_EQ(error(), kPrefix + "guest mount path must be absolute: x");
    config.mounts.clear();
    EXPECT_EQ(error(), kPrefix + "environment variable \"MSB_A\" uses the reserved MSB_ prefix");
    config.env.clear();
    config.runtime.entrypoint = {{""}};
    EXPECT_EQ(error(), kPrefix + "entrypoint executable must not be empty");
    config.runtime.entrypoint.reset();
    config.runtime.cmd = {{"a", std::string("b\0c", 3)}};
    EXPECT_EQ(error(), kPrefix + "cmd token at index 1 contains a NUL byte");
    config.runtime.cmd.reset();
    config.mounts = {DiskImageMount{"/nonexistent/d", "/d", DiskFormat::kRaw, {}, {}}};
    EXPECT_EQ(error(), kPrefix +
                           "disk image host path does not exist: /nonexistent/d (No such file or "
                           "directory (os error 2))");
}

}  // namespace
}  // namespace msb::state
