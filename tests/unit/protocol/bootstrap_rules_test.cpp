#include "protocol/bootstrap_rules.h"

#include <gtest/gtest.h>

#include "support/golden_frames.h"

namespace msb::protocol {
namespace {

using namespace std::string_literals;

std::string check(const Bootstrap& bootstrap) {
    return validate_bootstrap(bootstrap).value_or("valid");
}

// One broken bootstrap: `change` makes it.
template <class Change>
std::string check_with(Change change) {
    Bootstrap bootstrap;
    change(bootstrap);
    return check(bootstrap);
}

TEST(BootstrapRules, AcceptsWhatHostsSend) {
    EXPECT_EQ(check({}), "valid");
    EXPECT_EQ(check(test::worker_bootstrap()), "valid");
    EXPECT_EQ(check(test::demo_bootstrap()), "valid");
    EXPECT_EQ(check_with([](Bootstrap& b) { b.default_cwd = "relative"; }), "valid");
    EXPECT_EQ(
        check_with([](Bootstrap& b) { b.block_root = OciErofsRoot{"/dev/vda", TmpfsUpper{}}; }),
        "valid");
    EXPECT_EQ(check_with([](Bootstrap& b) {
                  b.handoff_init = HandoffInit{"auto", {"", "a b"}, "/", {{"K", ""}}};
              }),
              "valid");
    EXPECT_EQ(
        check_with([](Bootstrap& b) { b.rlimits = {{"NoFile", 5, 5}, {"as", 0, UINT64_MAX}}; }),
        "valid");
}

TEST(BootstrapRules, TextAndPathLabels) {
    const std::string nul("a\0b", 3);
    const auto text = [](std::string_view label) {
        return "bootstrap " + std::string(label) + " must be non-empty and must not contain NUL";
    };
    const auto path = [](std::string_view label) {
        return "bootstrap " + std::string(label) + " must be an absolute Linux path: rel";
    };
    // Every string field through a setter: empty and NUL for all, a relative path for paths.
    struct Case {
        std::string_view label;
        bool is_path;
        void (*set)(Bootstrap&, const std::string&);
    };
    const Case cases[] = {
        {"block-root device", true,
         [](auto& b, auto& v) { b.block_root = DiskImageRoot{v, std::nullopt}; }},
        {"block-root fstype", false,
         [](auto& b, auto& v) { b.block_root = DiskImageRoot{"/d", v}; }},
        {"EROFS lower device", true,
         [](auto& b, auto& v) { b.block_root = OciErofsRoot{v, TmpfsUpper{}}; }},
        {"upper device", true,
         [](auto& b, auto& v) { b.block_root = OciErofsRoot{"/d", DeviceUpper{v, "ext4"}}; }},
        {"upper fstype", false,
         [](auto& b, auto& v) { b.block_root = OciErofsRoot{"/d", DeviceUpper{"/e", v}}; }},
        {"directory mount tag", false, [](auto& b, auto& v) { b.dir_mounts = {{v, "/p", {}}}; }},
        {"directory mount path", true,
         [](auto& b, auto& v) { b.dir_mounts = {{"ok", "/p", {}}, {"t", v, {}}}; }},
        {"file mount tag", false, [](auto& b, auto& v) { b.file_mounts = {{v, "f", "/p", {}}}; }},
        {"file mount filename", false,
         [](auto& b, auto& v) { b.file_mounts = {{"t", v, "/p", {}}}; }},
        {"file mount path", true, [](auto& b, auto& v) { b.file_mounts = {{"t", "f", v, {}}}; }},
        {"disk mount id", false,
         [](auto& b, auto& v) { b.disk_mounts = {{v, "/p", std::nullopt, {}}}; }},
        {"disk mount path", true,
         [](auto& b, auto& v) { b.disk_mounts = {{"i", v, std::nullopt, {}}}; }},
        {"disk mount fstype", false,
         [](auto& b, auto& v) { b.disk_mounts = {{"i", "/p", v, {}}}; }},
        {"tmpfs path", true,
         [](auto& b, auto& v) { b.tmpfs_mounts = {{v, std::nullopt, std::nullopt, {}}}; }},
        {"hostname", false, [](auto& b, auto& v) { b.hostname = v; }},
        {"host alias", false, [](auto& b, auto& v) { b.host_alias = v; }},
        {"network interface", false,
         [](auto& b, auto& v) { b.network = GuestNetwork{.interface = v}; }},
        {"user", false, [](auto& b, auto& v) { b.user = v; }},
        {"default cwd", false, [](auto& b, auto& v) { b.default_cwd = v; }},
        {"handoff cwd", true,
         [](auto& b, auto& v) { b.handoff_init = HandoffInit{"/i", {}, v, {}}; }},
        {"runtime file path", false, [](auto& b, auto& v) { b.runtime_files = {{v, 0644, {}}}; }},
    };
    for (const Case& c : cases) {
        const auto with = [&](const std::string& value) {
            Bootstrap b;
            c.set(b, value);
            return check(b);
        };
        EXPECT_EQ(with(""), text(c.label));
        EXPECT_EQ(with(nul), text(c.label));
        EXPECT_EQ(with("/a" + nul), text(c.label));
        EXPECT_EQ(with("rel"), c.is_path ? path(c.label) : "valid");
        if (c.is_path) {
            EXPECT_EQ(with("/abs"), "valid");
        }
    }
}

TEST(BootstrapRules, PrefixLengths) {
    const auto with = [](std::uint8_t v4, std::uint8_t v6) {
        GuestNetwork network{.interface = "eth0"};
        network.ipv4 = Ipv4Config{.prefix_len = v4};
        network.ipv6 = Ipv6Config{.prefix_len = v6};
        return check_with([&](Bootstrap& b) { b.network = network; });
    };
    EXPECT_EQ(with(32, 128), "valid");
    EXPECT_EQ(with(33, 128), "bootstrap IPv4 prefix length out of range: 33");
    EXPECT_EQ(with(32, 129), "bootstrap IPv6 prefix length out of range: 129");
}

TEST(BootstrapRules, Rlimits) {
    const auto with = [](std::vector<Rlimit> limits) {
        return check_with([&](Bootstrap& b) { b.rlimits = std::move(limits); });
    };
    for (const auto name :
         {"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
          "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"})
        EXPECT_EQ(with({{name, 1, 1}}), "valid");
    EXPECT_EQ(with({{"files", 1, 1}}), "bootstrap rlimits contains unknown resource: files");
    EXPECT_EQ(with({{"", 1, 1}}), "bootstrap rlimits contains unknown resource: ");
    EXPECT_EQ(with({{"as", 1, 1}, {"nofile", 1, 1}, {"AS", 1, 1}}),
              "bootstrap rlimits contains duplicate resource: AS");
    EXPECT_EQ(with({{"nofile", 2, 1}}), "bootstrap rlimit nofile has soft limit above hard limit");
}

TEST(BootstrapRules, Environments) {
    const auto with = [](EnvVar variable) {
        return check_with([&](Bootstrap& b) { b.default_env = {{"OK", "="}, variable}; });
    };
    EXPECT_EQ(with({"", "v"}), "bootstrap default env contains an empty key");
    EXPECT_EQ(with({"A=B", "v"}), "bootstrap default env key \"A=B\" must not contain '=' or NUL");
    EXPECT_EQ(with({"A\0\"\n\x01\x7f\\"s, "v"}),
              R"(bootstrap default env key "A\0\"\n\u{1}\u{7f}\\" must not contain '=' or NUL)");
    EXPECT_EQ(with({"KEY", "a\0b"s}),
              "bootstrap default env value for \"KEY\" must not contain NUL");
    EXPECT_EQ(check_with([](Bootstrap& b) {
                  b.handoff_init = HandoffInit{"auto", {}, std::nullopt, {{"", ""}}};
              }),
              "bootstrap handoff env contains an empty key");
}

TEST(BootstrapRules, Handoff) {
    const auto with = [](HandoffInit handoff) {
        return check_with([&](Bootstrap& b) { b.handoff_init = handoff; });
    };
    EXPECT_EQ(with({.cmd = "init"}), "bootstrap handoff command must be absolute or `auto`: init");
    EXPECT_EQ(with({.cmd = ""}), "bootstrap handoff command must be absolute or `auto`: ");
    EXPECT_EQ(with({.cmd = "/a\0"s}), "bootstrap handoff command must not contain NUL");
    EXPECT_EQ(with({.cmd = "/a", .args = {"x", "y\0"s}}),
              "bootstrap handoff argument #1 must not contain NUL");
}

TEST(BootstrapRules, RuntimeFilesStayBelowTheirDirectory) {
    const auto with = [](std::string path, std::uint32_t mode = 0644) {
        return check_with([&](Bootstrap& b) { b.runtime_files = {{path, mode, {}}}; });
    };
    const auto refused = [](std::string_view path) {
        return "bootstrap runtime file path must be relative, without empty, `.` or `..` "
               "components: " +
               std::string(path);
    };
    for (const auto path : {"a", "scripts/run", "a/b/c", "..a", "a..", "...", ".hidden"})
        EXPECT_EQ(with(path), "valid");
    for (const auto path : {"/a", "..", "../a", "a/..", "a/../b", ".", "./a", "a//b", "a/", "/"})
        EXPECT_EQ(with(path), refused(path));
    EXPECT_EQ(with("a", 07777), "valid");
    EXPECT_EQ(with("a", 010000), "bootstrap runtime file mode out of range: 4096");
}

TEST(BootstrapRules, ReportsTheFirstInFieldOrder) {
    EXPECT_EQ(check_with([](Bootstrap& b) {
                  b.user = "";
                  b.hostname = "";
                  b.default_env = {{"", ""}};
              }),
              "bootstrap hostname must be non-empty and must not contain NUL");
}

}  // namespace
}  // namespace msb::protocol
