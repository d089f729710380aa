// Stored documents as the tables show them; documents are other versions' too (spec/cli.md section 6, state.md section 9).
#include "cli/commands/config_view.h"

#include <gtest/gtest.h>

namespace msb::cli {
namespace {

TEST(ConfigView, ShowsWhatIsStored) {
    const auto view = view_config(
        R"({"name":"b","image":{"DiskImage":{"path":"./x.raw","format":"Raw","fstype":null}},
        "resources":{"cpus":2,"memory_mib":512,"max_cpus":4},
        "runtime":{"entrypoint":["/e"],"cmd":["a","b"],"workdir":"/w","shell":"/bin/sh"},
        "env":[{"key":"K","value":"V"},["P","Q"]],"labels":{"b":"2","a":"1"},
        "mounts":[{"type":"DiskImage","host":"./x.img","guest":"/m","format":"Raw","fstype":null,"options":{"readonly":true}},
                  {"type":"Tmpfs","guest":"/tt","size_mib":64,"options":{}},
                  {"type":"Named","name":"n","guest":"/n","options":{"noexec":true}},
                  {"type":"Bind","host":"/h","guest":"/g","options":{},"stat_virtualization":"off","host_permissions":"mirror",
                   "follow_root_symlinks":true,"quota_mib":7}],
        "network":{"ports":[{"host_port":8080,"guest_port":80,"protocol":"tcp","host_bind":"127.0.0.1"},
                            {"host_port":53,"guest_port":53,"protocol":"udp","host_bind":"::1"}]},
        "security_profile":"restricted","deployment_profile":"multi_tenant"})");
    EXPECT_EQ(view.image, "./x.raw");
    EXPECT_EQ(view.root_disk, "");
    EXPECT_EQ(view.command, "/e a b");
    EXPECT_EQ(view.cpus, 2u);
    EXPECT_EQ(view.max_cpus, 4u);
    EXPECT_EQ(view.max_memory_mib, 512u);
    EXPECT_EQ(view.deployment, "multi-tenant");
    EXPECT_EQ(view.env, (std::vector<std::string>{"K=V", "P=Q"}));
    EXPECT_EQ(view.labels, (std::vector<std::string>{"a=1", "b=2"}));
    ASSERT_EQ(view.mounts.size(), 4u);
    EXPECT_EQ(view.mounts[0].text, "disk:./x.img (raw) [auto] (ro)");
    EXPECT_EQ(view.mounts[1].text, "tmpfs (64 MiB) (rw)");
    EXPECT_EQ(view.mounts[2].text, "volume:n (rw,noexec)");
    EXPECT_EQ(view.mounts[3].text,
              "/h (rw) [stat-virt=off,host-perms=mirror,follow-root-symlinks] [quota=7MiB]");
    EXPECT_EQ(view.ports, (std::vector<std::string>{"127.0.0.1:8080->80/tcp", "[::1]:53->53/udp"}));
}

TEST(ConfigView, RootDisksOfImages) {
    const auto disk = [](const std::string& root) {
        return view_config(R"({"image":{"Oci":{"reference":"r")" + root + "}}}").root_disk;
    };
    EXPECT_EQ(disk(R"(,"root_disk":{"kind":"managed","size_mib":4096})"),
              "4096 MiB (managed, ext4)");
    EXPECT_EQ(disk(R"(,"root_disk":{"kind":"tmpfs"})"), "default (tmpfs)");
    EXPECT_EQ(disk(R"(,"root_disk":{"kind":"flat","size_mib":5})"),
              "5 MiB (flat, ext4, clone=auto)");
    EXPECT_EQ(
        disk(R"(,"root_disk":{"kind":"disk-image","path":"p","format":"Raw","fstype":"ext4"})"),
        "p (disk-image, raw, ext4)");
}

TEST(ConfigView, SurvivesDocumentsOfAnyShape) {
    for (const std::string json : {"", "null", "[]", "3", "{",
                                   "{\"image\":3,\"resources\":[],\"env\":{\"a\":1},\"mounts\":7}",
                                   "{\"mounts\":[null,3,{}],\"labels\":[1],\"network\":{\"ports\":["
                                   "{}]},\"runtime\":{\"cmd\":[1]}}"}) {
        const auto view = view_config(json);
        EXPECT_EQ(view.image, "-") << json;
        EXPECT_EQ(view.cpus, 1u) << json;
    }
}

}  // namespace
}  // namespace msb::cli
