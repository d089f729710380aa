// spec/sandbox-process.md sections 4.2 and 19.
#include <gtest/gtest.h>

#include "base/json.h"
#include "contract/bootstrap_json.h"

namespace msb::contract {
namespace {

using namespace protocol;

TEST(BootstrapJson, EverythingSurvivesARoundTrip) {
    Bootstrap bootstrap;
    bootstrap.block_root = OciErofsRoot{"/dev/vda", DeviceUpper{"/dev/vdb", "ext4"}};
    bootstrap.dir_mounts = {{"t", "/data", {true, true, true, true}}};
    bootstrap.file_mounts = {{"t", "f", "/f", {}}};
    bootstrap.disk_mounts = {{"id", "/d", "ext4", {}}};
    bootstrap.tmpfs_mounts = {{"/tmp", 64, 01777, {}}};
    bootstrap.hostname = "h";
    bootstrap.host_alias = "a";
    GuestNetwork network{.interface = "eth0", .mac = {2, 0, 0, 0, 0, 2}, .mtu = 1500};
    network.ipv4 = Ipv4Config{
        {172, 16, 0, 2}, 30, {172, 16, 0, 1}, std::array<std::uint8_t, 4>{172, 16, 0, 1}};
    network.ipv6 = Ipv6Config{{0xfd}, 64, {0xfe, 0x80}, std::nullopt};
    bootstrap.network = network;
    bootstrap.rlimits = {{"nofile", 1, 2}};
    bootstrap.user = "u";
    bootstrap.default_cwd = "w";
    bootstrap.default_env = {{"K", "V"}};
    bootstrap.security_profile = SecurityProfile::kRestricted;
    bootstrap.handoff_init = HandoffInit{"auto", {"a"}, "/", {{"E", "F"}}};
    EXPECT_EQ(bootstrap_from_json(bootstrap_to_json(bootstrap)), bootstrap);
    bootstrap.block_root = OciErofsRoot{"/dev/vda", TmpfsUpper{512}};
    EXPECT_EQ(bootstrap_from_json(bootstrap_to_json(bootstrap)), bootstrap);
}

TEST(BootstrapJson, EmptyIsOnlyTheProfile) {
    EXPECT_EQ(json::dump(bootstrap_to_json({})), R"({"security_profile":"default"})");
    EXPECT_EQ(bootstrap_from_json(json::parse("{}")), Bootstrap{});
}

TEST(BootstrapJson, Mistakes) {
    for (
        const char* text :
        {"[]", R"({"block_root":{"kind":"floppy"}})",
         R"({"block_root":{"kind":"oci-erofs","lower":"/dev/vda"}})",
         R"({"dir_mounts":[{"tag":"t"}]})", R"({"dir_mounts":null})",
         R"({"network":{"interface":"e","mac":[1,2],"mtu":1}})",
         R"({"network":{"interface":"e","mac":[1,2,3,4,5,256],"mtu":1}})",
         R"({"network":{"interface":"e","mac":"00:11:22:33:44:55","mtu":1}})",
         R"({"network":{"interface":"e","mac":[1,2,3,4,5,6],"mtu":70000}})",
         R"({"network":{"interface":"e","mac":[1,2,3,4,5,6],"mtu":1,"ipv4":{"address":"1.2.3","prefix_len":1,"gateway":"1.2.3.4"}}})",
         R"({"security_profile":"loose"})", R"({"rlimits":[{"resource":"x","soft":-1,"hard":1}]})"})
        EXPECT_THROW((void)bootstrap_from_json(json::parse(text)), json::ParseError) << text;
}

TEST(BootstrapEnv, EveryVariable) {
    const Bootstrap bootstrap = bootstrap_from_env(
        {"MSB_BLOCK_ROOT=kind=oci-erofs,lower=/dev/vda,upper=/dev/vdb,upper_fstype=ext4",
         "MSB_DIR_MOUNTS=a:/x:ro,noexec;b:/y", "MSB_FILE_MOUNTS=t:f:/z:nosuid",
         "MSB_DISK_MOUNTS=id:/d:ro,fstype=xfs", "MSB_TMPFS=/t:size=64,mode=1777,nodev",
         "MSB_RLIMITS=nofile=10:20;cpu=5", "MSB_HOSTNAME=h", "MSB_HOST_ALIAS=a", "MSB_USER=u",
         "MSB_SECURITY_PROFILE=restricted", "MSB_NET=ignored", "MSB_HANDOFF_INIT=/sbin/init",
         "MSB_HANDOFF_INIT_ARGS=WyItYSIsIi1iIl0", "MSB_HANDOFF_INIT_ENV=W1siSyIsIlYiXV0",
         "MSB_OTHER=kept", "PLAIN=1", "noequals"});
    EXPECT_EQ(std::get<OciErofsRoot>(*bootstrap.block_root),
              (OciErofsRoot{"/dev/vda", DeviceUpper{"/dev/vdb", "ext4"}}));
    ASSERT_EQ(bootstrap.dir_mounts.size(), 2u);
    EXPECT_TRUE(bootstrap.dir_mounts[0].flags.readonly && bootstrap.dir_mounts[0].flags.noexec);
    EXPECT_EQ(bootstrap.file_mounts.at(0).filename, "f");
    EXPECT_EQ(bootstrap.disk_mounts.at(0).fstype, "xfs");
    EXPECT_EQ(bootstrap.tmpfs_mounts.at(0).mode, 01777u);
    EXPECT_EQ(bootstrap.rlimits.at(1), (Rlimit{"cpu", 5, 5}));
    EXPECT_EQ(bootstrap.handoff_init->args, (std::vector<std::string>{"-a", "-b"}));
    EXPECT_EQ(bootstrap.handoff_init->env.at(0), (EnvVar{"K", "V"}));
    ASSERT_EQ(bootstrap.default_env.size(), 2u);
    EXPECT_EQ(bootstrap.default_env[0].key, "MSB_OTHER");
}

TEST(BootstrapEnv, BlankIsAbsentAndMistakesAreNamed) {
    EXPECT_EQ(bootstrap_from_env({"MSB_HOSTNAME= ", "MSB_DIR_MOUNTS=", "MSB_BLOCK_ROOT="}),
              Bootstrap{});
    EXPECT_EQ(
        std::get<DiskImageRoot>(*bootstrap_from_env({"MSB_BLOCK_ROOT=/dev/vda"}).block_root).device,
        "/dev/vda");
    for (const char* entry : {"MSB_BLOCK_ROOT=kind=floppy", "MSB_DIR_MOUNTS=tag",
                              "MSB_TMPFS=/t:size=x", "MSB_TMPFS=/t:mode=9", "MSB_RLIMITS=nofile",
                              "MSB_SECURITY_PROFILE=x", "MSB_DISK_MOUNTS=id:/d:bad"}) {
        try {
            (void)bootstrap_from_env({entry});
            ADD_FAILURE() << entry;
        } catch (const json::ParseError& error) {
            const std::string name =
                std::string(entry).substr(0, std::string_view(entry).find('='));
            EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
        }
    }
}

}  // namespace
}  // namespace msb::contract
