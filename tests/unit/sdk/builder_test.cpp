#include <microsandbox/sandbox.h>

#include "sdk_fixture.h"

namespace msb::test {
namespace {

using namespace microsandbox;

class BuilderTest : public HomeTest {
  protected:
    // The text of the first error, without "invalid config: ".
    template <class Configure>
    std::string problem(Configure&& configure, const std::string& name = "q") {
        SandboxBuilder builder = Sandbox::builder(name).image("alpine");
        configure(builder);
        const Error error = error_of([&] { builder.build_json(); });
        EXPECT_EQ(error.code(), ErrorCode::kInvalidConfig);
        return error.detail();
    }
    std::string create_problem(SandboxBuilder& builder) {
        return text_of([&] { builder.create(); });
    }
};

TEST_F(BuilderTest, DocumentOfADiskSandbox) {
    const std::string path = disk("d.qcow2");
    EXPECT_EQ(
        Sandbox::builder("n1").image(path).build_json(),
        R"({"name":"n1","image":{"DiskImage":{"path":")" + path +
            R"(","format":"Qcow2","fstype":null}},"resources":{"cpus":1,"memory_mib":512,"max_cpus":1,"max_memory_mib":512},"runtime":{"workdir":null,"shell":"/bin/sh","scripts":{},"entrypoint":null,"cmd":null,"hostname":null,"user":null,"log_level":null,"metrics_sample_interval_ms":1000,"disable_metrics_sample":false},"env":[],"labels":{},"rlimits":[],"mounts":[],"patches":[],"network":{"enabled":true,"ports":[],"strict":false,"max_connections":null,"trust_host_cas":false},"init":null,"pull_policy":"IfMissing","security_profile":"default","deployment_profile":"single_tenant","lifecycle":{"ephemeral":false,"max_duration_secs":null,"idle_timeout_secs":null},"manifest_digest":null})");
}

TEST_F(BuilderTest, EverySetterReachesTheDocument) {
    const std::string json = Sandbox::builder("all")
                                 .image("alpine")
                                 .cpus(2)
                                 .max_cpus(4)
                                 .memory(256)
                                 .max_memory(512)
                                 .cpu_placement(CpuPlacement::kSpread)
                                 .thp(TransparentHugepages::kAlways)
                                 .workdir("/w")
                                 .shell("/bin/bash")
                                 .user("1:2")
                                 .hostname("h")
                                 .entrypoint({"/e"})
                                 .cmd({"c"})
                                 .init("auto", {"--x"}, {{"K", "V"}})
                                 .env("A", "1")
                                 .envs({{"B", "2"}})
                                 .label("t", "x")
                                 .script("s", "body")
                                 .rlimit("NOFILE", 5)
                                 .rlimit_range("cpu", 1, 2)
                                 .volume("/t", [](MountBuilder& m) { m.tmpfs().size(8).noexec(); })
                                 .patch(PatchMkdir{"/m", 0755})
                                 .vsock("/run/x.sock", 9000, VsockType::kDatagram)
                                 .disable_network()
                                 .log_level(LogLevel::kDebug)
                                 .metrics_sample_interval(std::chrono::milliseconds(0))
                                 .disable_metrics_sample()
                                 .max_duration(std::chrono::hours(1))
                                 .idle_timeout(std::chrono::seconds(5))
                                 .ephemeral()
                                 .security(SecurityProfile::kRestricted)
                                 .pull_policy(PullPolicy::kNever)
                                 .build_json();
    for (
        const char* part :
        {R"("cpus":2,"memory_mib":256,"max_cpus":4,"max_memory_mib":512,"cpu_placement":"spread","thp":"always")",
         R"("workdir":"/w","shell":"/bin/bash","scripts":{"s":"body"},"entrypoint":["/e"],"cmd":["c"],"hostname":"h","user":"1:2","log_level":"debug","metrics_sample_interval_ms":null,"disable_metrics_sample":true)",
         R"("env":[{"key":"A","value":"1"},{"key":"B","value":"2"}])", R"("labels":{"t":"x"})",
         R"({"resource":"Nofile","soft":5,"hard":5},{"resource":"Cpu","soft":1,"hard":2})",
         R"({"type":"Tmpfs","guest":"/t","size_mib":8,"options":{"readonly":false,"noexec":true,)",
         R"({"Mkdir":{"path":"/m","mode":493}})", R"("socket_type":"dgram")", R"("enabled":false)",
         R"("init":{"cmd":"auto","args":["--x"],"env":[["K","V"]]})", R"("pull_policy":"Never")",
         R"("security_profile":"restricted")",
         R"("lifecycle":{"ephemeral":true,"max_duration_secs":3600,"idle_timeout_secs":5})",
         R"("root_disk":{"kind":"managed","size_mib":4096})"})
        EXPECT_THAT(json, ::testing::HasSubstr(part));
}

TEST_F(BuilderTest, DefaultsComeFromTheGlobalConfiguration) {
    write("config.json",
          R"({"log_level":"warn","sandbox_defaults":{"cpus":3,"memory_mib":300,"shell":"/bin/ash",
                             "workdir":"/srv","metrics_sample_interval_ms":0}})");
    const std::string json = Sandbox::builder("d").image("alpine").build_json();
    EXPECT_THAT(
        json, ::testing::HasSubstr(
                  R"("resources":{"cpus":3,"memory_mib":300,"max_cpus":3,"max_memory_mib":300})"));
    EXPECT_THAT(json, ::testing::HasSubstr(R"("workdir":"/srv","shell":"/bin/ash")"));
    EXPECT_THAT(json,
                ::testing::HasSubstr(R"("log_level":"warn","metrics_sample_interval_ms":null)"));
    EXPECT_THAT(Sandbox::builder("d").image("alpine").log_level(std::nullopt).build_json(),
                ::testing::HasSubstr(R"("log_level":null)"));
}

TEST_F(BuilderTest, StoredDocumentsComeBackUnchanged) {
    const std::string json =
        Sandbox::builder("d").image("alpine").cpus(2).env("A", "1").build_json();
    EXPECT_EQ(SandboxBuilder::from_config_json(json).build_json(), json);
    EXPECT_EQ(error_of([] { SandboxBuilder::from_config_json("{"); }).code(), ErrorCode::kJson);
}

TEST_F(BuilderTest, ValidationTexts) {
    EXPECT_EQ(text_of([] { Sandbox::builder("").image("a").build_json(); }),
              "invalid config: sandbox name is required");
    EXPECT_EQ(text_of([] { Sandbox::builder("a b").image("a").build_json(); }),
              "invalid config: sandbox name must start with an alphanumeric and contain only "
              "alphanumeric, dots, "
              "hyphens, and underscores: a b");
    EXPECT_EQ(text_of([] { Sandbox::builder("x").build_json(); }),
              "invalid config: image source is required");
    EXPECT_EQ(text_of([] { Sandbox::builder("x").cpus(0).build_json(); }),
              "invalid config: cpus must be greater than 0")
        << "resources are checked before the image";
    using B = SandboxBuilder;
    EXPECT_EQ(problem([](B& b) { b.cpus(4).max_cpus(2); }),
              "max_cpus 2 must be greater than or equal to cpus 4");
    EXPECT_EQ(problem([](B& b) { b.memory(0); }), "memory must be greater than 0");
    EXPECT_EQ(problem([](B& b) { b.hostname(""); }), "hostname must not be empty");
    EXPECT_EQ(problem([](B& b) { b.rlimit("bogus", 1); }), "unknown rlimit resource: bogus");
    EXPECT_EQ(problem([](B& b) { b.rlimit_range("cpu", 2, 1); }),
              "rlimit cpu: soft (2) must not exceed hard (1)");
    EXPECT_EQ(problem([](B& b) { b.env("MSB_X", "1"); }),
              "environment variable \"MSB_X\" uses the reserved MSB_ prefix");
    EXPECT_EQ(problem([](B& b) { b.label("sandbox.x", ""); }),
              "label key 'sandbox.x' uses reserved prefix 'sandbox.'");
    EXPECT_EQ(problem([](B& b) { b.cmd({"a", std::string("b\0c", 3)}); }),
              "cmd token at index 1 contains a NUL byte");
    EXPECT_EQ(problem([](B& b) { b.entrypoint({""}); }), "entrypoint executable must not be empty");
    EXPECT_EQ(problem([](B& b) { b.init("relative"); }),
              "init cmd must be an absolute path or `auto`, got: \"relative\"");
    EXPECT_EQ(problem([](B& b) { b.script("a/b", ""); }),
              "script name \"a/b\" must be a single non-empty filename");
    EXPECT_EQ(problem([](B& b) { b.rlimit("bogus", 1).script("", ""); }),
              "unknown rlimit resource: bogus")
        << "the first error is kept";
}

TEST_F(BuilderTest, ImageAndRootDiskMisuse) {
    using B = SandboxBuilder;
    EXPECT_EQ(text_of([] { Sandbox::builder("x").root_disk(1).build_json(); }),
              "invalid config: root_disk() requires an OCI image to be set first");
    const std::string path = disk();
    EXPECT_EQ(problem([&](B& b) { b.image(path).root_disk(1); }),
              "root_disk() is only valid for OCI images");
    auto root = [&](auto configure) {
        return problem([&](B& b) { b.root_disk_with([&](RootDiskBuilder& d) { configure(d); }); });
    };
    EXPECT_EQ(root([](auto& d) { d.tmpfs().flat(); }), "flat() cannot be combined with tmpfs()");
    EXPECT_EQ(root([](auto& d) { d.flat().tmpfs(); }), "tmpfs() cannot be combined with flat()");
    EXPECT_EQ(root([](auto& d) { d.flat().disk("/x.raw"); }),
              "disk_image() cannot be combined with flat()");
    EXPECT_EQ(root([](auto& d) { d.format(DiskFormat::kRaw); }),
              "format() requires disk_image() to be called first");
    EXPECT_EQ(root([](auto& d) { d.fstype("ext4"); }),
              "fstype() requires flat() or disk_image() to be called first");
    EXPECT_EQ(root([](auto& d) { d.flat().fstype("a,b"); }),
              "fstype must be non-empty and free of ',', ';', ':', '='");
    EXPECT_EQ(root([](auto& d) { d.clone_strategy(CloneStrategy::kCopy); }),
              "clone_strategy() requires flat() to be called first");
    EXPECT_EQ(root([](auto& d) { d.flat().size(0); }),
              "flat root disk size must be greater than 0");
    EXPECT_EQ(root([](auto& d) { d.disk("/x.raw").size(1); }),
              "size() is not valid for a disk-image root disk; the image file determines the size");
    EXPECT_EQ(root([](auto& d) { d.disk("/x.vmdk"); }),
              "vmdk is not supported as a root disk (writable vmdk is unavailable)");
    EXPECT_EQ(root([](auto& d) { d.disk("/x.bin"); }),
              "unrecognized root disk image extension: \"bin\" (expected .img, .raw, or .qcow2; or "
              "set format() "
              "explicitly)");
    EXPECT_EQ(root([](auto& d) { d.disk(""); }), "disk-image root disk path must not be empty");
    auto image = [&](auto configure) {
        return problem([&](B& b) { b.image_with([&](ImageBuilder& i) { configure(i); }); });
    };
    EXPECT_EQ(image([](auto&) {}),
              "ImageBuilder: no image source set (call .oci(), .disk(), or .bind())");
    EXPECT_EQ(image([](auto& i) { i.fstype("ext4"); }),
              "fstype() requires disk() to be called first");
    EXPECT_EQ(image([](auto& i) { i.disk("/d.img"); }),
              "unrecognized disk image extension: \"img\" (expected .qcow2, .raw, or .vmdk)");
    EXPECT_EQ(image([](auto& i) { i.oci("a").follow_root_symlinks(); }),
              "follow_root_symlinks is only valid for a bind rootfs (call .bind() first)");
}

TEST_F(BuilderTest, MountMisuse) {
    using M = MountBuilder;
    auto mount = [&](const std::string& guest, auto configure) {
        return problem([&](SandboxBuilder& b) { b.volume(guest, [&](M& m) { configure(m); }); });
    };
    EXPECT_EQ(mount("/x", [](M&) {}),
              "MountBuilder: no mount type set (call .bind(), .named(), .tmpfs(), or .disk())");
    EXPECT_EQ(mount("/x", [](M& m) { m.bind("/h").size(1); }),
              ".size() is only valid for tmpfs mounts");
    EXPECT_EQ(mount("/x", [](M& m) { m.tmpfs().format(DiskFormat::kRaw); }),
              ".format() is only valid for disk image mounts");
    EXPECT_EQ(mount("/x", [](M& m) { m.tmpfs().owner(1, 1); }),
              ".owner() is only valid for bind and directory-backed named volume mounts");
    EXPECT_EQ(mount("x", [](M& m) { m.tmpfs(); }), "guest mount path must be absolute: x");
    EXPECT_EQ(mount("/a/../b", [](M& m) { m.tmpfs(); }),
              "guest mount path must not contain '..': /a/../b");
    EXPECT_EQ(mount("/", [](M& m) { m.tmpfs(); }), "cannot mount a volume at guest root /");
    EXPECT_EQ(mount("/x", [](M& m) { m.disk("/nosuch.raw"); }),
              "disk image host path does not exist: /nosuch.raw (No such file or directory (os "
              "error 2))");
    const std::string path = disk();
    EXPECT_EQ(
        problem([&](SandboxBuilder& b) {
            b.volume("/a", [&](M& m) { m.disk(path); }).volume("/b", [&](M& m) { m.disk(path); });
        }),
        "disk-image volumes cannot share the same host path: " + path);
    EXPECT_EQ(problem([&](SandboxBuilder& b) {
                  b.volume("/a", [&](M& m) { m.tmpfs(); }).volume("/a/", [&](M& m) { m.tmpfs(); });
              }),
              "multiple volumes cannot mount the same guest path: /a");
    EXPECT_EQ(problem([&](SandboxBuilder& b) { b.image(path).patch(PatchRemove{"/x"}); }),
              "patches are not compatible with disk image rootfs");
}

TEST_F(BuilderTest, WhatThisBuildCannotRunIsRefusedBeforeAnythingIsWritten) {
    auto bind = Sandbox::builder("x").image(home_.string());
    EXPECT_EQ(error_of([&] { bind.create(); }).code(), ErrorCode::kUnsupported);
    auto missing = Sandbox::builder("x").image("./no");
    EXPECT_EQ(create_problem(missing), "invalid config: rootfs bind path does not exist: ./no");
    auto no_disk = Sandbox::builder("x").image("/no.raw");
    EXPECT_EQ(create_problem(no_disk), "invalid config: disk image does not exist: /no.raw");
    auto share =
        Sandbox::builder("x").image(disk()).volume("/h", [&](MountBuilder& m) { m.bind("/tmp"); });
    EXPECT_EQ(error_of([&] { share.create(); }).code(), ErrorCode::kUnsupported);
    EXPECT_FALSE(std::filesystem::exists(home_ / "db"));
}

TEST_F(BuilderTest, BackendSelection) {
    EXPECT_EQ(backend_info().kind, "local");
    EXPECT_EQ(backend_info().source, "default");
    ::setenv("MSB_BACKEND", "x", 1);
    EXPECT_EQ(text_of([] { Sandbox::list(); }),
              "invalid config: MSB_BACKEND must be 'local' or 'cloud', got \"x\"");
    ::setenv("MSB_BACKEND", "local", 1);
    EXPECT_EQ(backend_info().source, "MSB_BACKEND");
    EXPECT_TRUE(Sandbox::list().sandboxes.empty());
    ::unsetenv("MSB_BACKEND");
    write("config.json", "{bad");
    EXPECT_THAT(text_of([] { Sandbox::list(); }),
                ::testing::StartsWith("invalid config: failed to parse SDK config"));
}

TEST_F(BuilderTest, ReplaceAndConnectOrCreateExclude) {
    EXPECT_EQ(text_of([] { Sandbox::builder("x").image("a").replace().connect_or_create(); }),
              "invalid config: connect_or_create cannot be combined with replace_existing");
}

TEST_F(BuilderTest, LongHomesAreRefused) {
    const std::filesystem::path deep = home_ / std::string(60, 'x');
    ::setenv("MSB_HOME", deep.c_str(), 1);
    auto builder = Sandbox::builder("x").image(disk());
    EXPECT_THAT(create_problem(builder),
                ::testing::StartsWith("invalid config: sandbox runtime socket path is too long: "));
}

}  // namespace
}  // namespace msb::test
