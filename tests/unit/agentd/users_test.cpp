#include "agentd/users.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agentd/failure.h"

namespace msb::agentd {
namespace {

using testing::ElementsAre;

constexpr std::string_view kPasswd =
    "# comment\n"
    "broken line\n"
    "root:x:0:0:root:/root:/bin/sh\n"
    "bad:x:-1:0::/:\n"
    "huge:x:99999999999:0::/:\n"
    "alice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    "alice:x:7:7:second:/:/bin/sh\n"
    "homeless:x:1001:1001:::";
constexpr std::string_view kGroup =
    "root:x:0:\n"
    "wheel:x:10:alice\n"
    "malice:x:11:malice\n"
    "extra:x:2000:bob,alice\n"
    "again:x:10:alice\n"
    "short:x:12\n";

class Users : public testing::Test {
  protected:
    Users() {
        char name[] = "/tmp/agentd-users-XXXXXX";
        directory_ = ::mkdtemp(name);
        files_ = {directory_ / "passwd", directory_ / "group"};
        std::ofstream(files_.passwd) << kPasswd;
        std::ofstream(files_.group) << kGroup;
    }
    ~Users() override { std::filesystem::remove_all(directory_); }

    Identity resolve(const char* requested, const char* fallback = nullptr) {
        auto text = [](const char* t) {
            return t == nullptr ? std::nullopt : std::optional<std::string>(t);
        };
        return resolve_identity(text(requested), text(fallback), files_);
    }
    std::string error(const char* spec) {
        try {
            resolve(spec);
        } catch (const Failure& failure) {
            return failure.what();
        }
        return "";
    }

    std::filesystem::path directory_;
    UserFiles files_;
};

TEST_F(Users, EntriesAreFoundAndMalformedLinesSkipped) {
    EXPECT_EQ(passwd_by_name(kPasswd, "alice")->uid, 1000u);
    EXPECT_EQ(passwd_by_uid(kPasswd, 7)->name, "alice");
    EXPECT_FALSE(passwd_by_name(kPasswd, "bad"));
    EXPECT_FALSE(passwd_by_name(kPasswd, "huge"));
    EXPECT_EQ(group_by_name(kGroup, "extra"), 2000u);
    EXPECT_FALSE(group_by_name(kGroup, "short"));
    EXPECT_THAT(supplementary_groups(kGroup, "alice", 1000), ElementsAre(1000, 10, 2000));
}

TEST_F(Users, NamesAndNumbers) {
    Identity alice = resolve(" alice ");
    EXPECT_TRUE(alice.switch_user);
    EXPECT_EQ(alice.uid, 1000u);
    EXPECT_EQ(alice.gid, 1000u);
    EXPECT_EQ(alice.home, "/home/alice");
    EXPECT_EQ(resolve("1000").groups, alice.groups);

    Identity unknown = resolve("1234");
    EXPECT_EQ(unknown.uid, 1234u);
    EXPECT_EQ(unknown.gid, 0u);
    EXPECT_THAT(unknown.groups, ElementsAre());
    EXPECT_FALSE(unknown.home);

    EXPECT_EQ(resolve("alice:wheel").gid, 10u);
    EXPECT_EQ(resolve("1234:77").gid, 77u);
    EXPECT_FALSE(resolve("homeless").home);
}

TEST_F(Users, BlankFallsBackAndNoUserIsNoSwitch) {
    EXPECT_EQ(resolve(" ", "alice").uid, 1000u);
    Identity none = resolve(nullptr, "");
    EXPECT_FALSE(none.switch_user);
    EXPECT_EQ(none.home, "/root");
}

TEST_F(Users, Errors) {
    EXPECT_EQ(error("bob"), "exec session error: guest user not found: bob");
    EXPECT_EQ(error("alice:none"), "exec session error: guest group not found: none");
    EXPECT_EQ(error(":5"), "exec session error: user spec has empty user");
    EXPECT_EQ(error("alice:"), "exec session error: user spec has empty group");
}

TEST_F(Users, AFifoInPlaceOfAFileIsNotWaitedFor) {
    std::filesystem::remove(files_.passwd);
    ASSERT_EQ(::mkfifo(files_.passwd.c_str(), 0644), 0);
    EXPECT_EQ(error("alice"), "exec session error: guest user not found: alice");
    EXPECT_EQ(resolve("1234").uid, 1234u);
}

}  // namespace
}  // namespace msb::agentd
