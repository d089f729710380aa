#include "state/ipc_paths.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "fixture.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;
using test::error_of;

UniqueFd listen_at(const fs::path& path) {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.native().size());
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(fd.get(), 8) != 0)
        throw_os_error(errno, path.string());
    return fd;
}

mode_t mode_of(const fs::path& path) {
    struct stat status{};
    return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

class IpcPathsTest : public ::testing::Test {
  protected:
    void publish() {
        create_socket_directory(paths_);
        agent_ = listen_at(paths_.agent);
        control_ = listen_at(paths_.control);
        publish_link(paths_.run, paths_.legacy_agent_link, paths_.agent);
        publish_link(paths_.run, paths_.legacy_control_link, paths_.control);
    }
    bool exists(const fs::path& path) { return fs::exists(fs::symlink_status(path)); }

    test::TempHome home_;
    IpcPaths paths_ = IpcPaths::of(home_.roots(), "web");
    UniqueFd agent_, control_;
};

TEST_F(IpcPathsTest, ControlPathFollowsTheAgentPath) {
    EXPECT_TRUE(is_canonical_agent_path(paths_.agent));
    EXPECT_EQ(control_path_for(paths_.agent), paths_.control);
    EXPECT_EQ(control_path_for("/r/agent/x.sock"), "/r/agent/x.control.sock");
    EXPECT_EQ(control_path_for("/r/sandboxes/ABCDEF0123456789abcdef01/agent.sock"),
              "/r/sandboxes/ABCDEF0123456789abcdef01/agent.control.sock");
}

TEST_F(IpcPathsTest, PublishedLinksAreRelativeAndReachTheSocket) {
    publish();
    EXPECT_EQ(fs::read_symlink(paths_.legacy_agent_link),
              "../sandboxes/4b5e57f6eb2f42b9039b3d1e/agent.sock");
    EXPECT_EQ(fs::read_symlink(paths_.legacy_control_link),
              "../sandboxes/4b5e57f6eb2f42b9039b3d1e/control.sock");
    EXPECT_TRUE(any_endpoint_live(paths_));
    // Publishing the same again is success.
    publish_link(paths_.run, paths_.legacy_agent_link, paths_.agent);
}

TEST_F(IpcPathsTest, LinkToASocketElsewhereIsAbsolute) {
    EXPECT_EQ(link_target(paths_.run, paths_.legacy_agent_link, "/elsewhere/a.sock"),
              "/elsewhere/a.sock");
}

TEST_F(IpcPathsTest, PublicationNeverReplaces) {
    fs::create_directories(paths_.legacy_agent_link.parent_path());
    std::ofstream(paths_.legacy_agent_link) << "mine";
    EXPECT_EQ(
        error_of([&] { publish_link(paths_.run, paths_.legacy_agent_link, paths_.agent); }),
        "io error: legacy runtime endpoint already exists at " + paths_.legacy_agent_link.string());
    EXPECT_EQ(fs::file_size(paths_.legacy_agent_link), 4u);

    fs::remove(paths_.legacy_agent_link);
    fs::create_symlink("../other", paths_.legacy_agent_link);
    EXPECT_NE(error_of([&] { publish_link(paths_.run, paths_.legacy_agent_link, paths_.agent); }),
              "");
    EXPECT_EQ(fs::read_symlink(paths_.legacy_agent_link), "../other");
}

TEST_F(IpcPathsTest, DirectoryModeIsForced) {
    fs::create_directories(paths_.directory);
    fs::permissions(paths_.directory, fs::perms(0755));
    create_socket_directory(paths_);
    EXPECT_EQ(mode_of(paths_.directory), 0700u);
}

TEST_F(IpcPathsTest, ForeignEntryAtTheDirectoryIsRefused) {
    fs::create_directories(paths_.directory.parent_path());
    fs::create_symlink("/tmp", paths_.directory);
    EXPECT_EQ(error_of([&] { create_socket_directory(paths_); }),
              "io error: canonical socket path is not a directory: " + paths_.directory.string());
    // Removal takes away the link only.
    remove_endpoints(paths_);
    EXPECT_FALSE(exists(paths_.directory));
    EXPECT_TRUE(fs::is_directory("/tmp"));
}

TEST_F(IpcPathsTest, RemovalLeavesNothingOfThisSandbox) {
    publish();
    const IpcPaths other = IpcPaths::of(home_.roots(), "other");
    create_socket_directory(other);
    publish_link(other.run, other.legacy_agent_link, other.agent);
    remove_endpoints(paths_);
    EXPECT_FALSE(exists(paths_.directory));
    EXPECT_FALSE(exists(paths_.legacy_agent_link));
    EXPECT_FALSE(exists(paths_.legacy_control_link));
    EXPECT_TRUE(exists(other.directory));
    EXPECT_TRUE(exists(other.legacy_agent_link));
    EXPECT_FALSE(any_endpoint_live(paths_));
    remove_endpoints(paths_);  // missing files are success
}

TEST_F(IpcPathsTest, MissingRunDirectoryIsSuccess) {
    remove_endpoints_and_fallback(paths_);
    EXPECT_FALSE(exists(paths_.run));
}

TEST_F(IpcPathsTest, SymlinkedParentIsRefusedBeforeAnythingIsTouched) {
    publish();
    const fs::path real = home_.paths().home() / "real";
    fs::rename(paths_.run / "sandboxes", real);
    fs::create_symlink(real, paths_.run / "sandboxes");
    EXPECT_EQ(error_of([&] { remove_endpoints(paths_); }),
              "io error: runtime IPC directory is not an owned directory: " +
                  (paths_.run / "sandboxes").string());
    EXPECT_TRUE(exists(paths_.legacy_agent_link));
    EXPECT_TRUE(exists(real / h24("web") / "agent.sock"));
}

TEST_F(IpcPathsTest, ForeignFileInTheDirectoryStays) {
    publish();
    std::ofstream(paths_.directory / "note") << "x";
    remove_endpoints(paths_);
    EXPECT_FALSE(exists(paths_.agent));
    EXPECT_TRUE(exists(paths_.directory / "note"));
}

TEST_F(IpcPathsTest, FallbackSocketIsRemovedWithoutFollowingLinks) {
    fs::create_directories(paths_.fallback_agent.parent_path());
    UniqueFd old = listen_at(paths_.fallback_agent);
    EXPECT_TRUE(any_endpoint_live(paths_));
    remove_endpoints_and_fallback(paths_);
    EXPECT_FALSE(exists(paths_.fallback_agent));

    // The guest owns runtime/: a link planted there must not lead anywhere.
    const fs::path victim = home_.paths().home() / "victim";
    fs::create_directories(victim);
    std::ofstream(victim / "agent.sock") << "precious";
    fs::remove(paths_.fallback_agent.parent_path());
    fs::create_symlink(victim, paths_.fallback_agent.parent_path());
    remove_endpoints_and_fallback(paths_);
    EXPECT_TRUE(exists(victim / "agent.sock"));
}

}  // namespace
}  // namespace msb::state
