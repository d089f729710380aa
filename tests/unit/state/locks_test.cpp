#include "state/locks.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fixture.h"

namespace msb::state {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using test::error_of;

TEST(Locks, LifecycleLockHasOneOwner) {
    test::TempHome home;
    auto owner = try_lock_lifecycle(home.roots(), "web");
    ASSERT_TRUE(owner);
    EXPECT_FALSE(try_lock_lifecycle(home.roots(), "web"));
    EXPECT_TRUE(try_lock_lifecycle(home.roots(), "other"));
    EXPECT_EQ(error_of([&] { lock_lifecycle(home.roots(), "web", milliseconds(1)); }),
              "sandbox still running: sandbox \"web\" runtime still owns its lifecycle lock");
    owner.reset();
    EXPECT_EQ(error_of([&] { lock_lifecycle(home.roots(), "web", milliseconds(1)); }), "");
    EXPECT_TRUE(fs::exists(home.paths().lifecycle_lock("web")));  // never removed
}

TEST(Locks, LifecycleLockIsFreedByDeath) {
    test::TempHome home;
    test::LiveProcess owner(
        [&] { test::hold_until_death(std::move(*try_lock_lifecycle(home.roots(), "web"))); });
    EXPECT_FALSE(try_lock_lifecycle(home.roots(), "web"));
    owner.kill_and_reap();
    EXPECT_TRUE(try_lock_lifecycle(home.roots(), "web"));
}

TEST(Locks, CreationLockIsPrivate) {
    test::TempHome home;
    const FileLock lock = lock_creation(home.roots(), "web");
    struct stat status{};
    ASSERT_EQ(::stat(home.paths().creation_lock("web").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u);
    EXPECT_FALSE(FileLock::try_acquire(home.paths().creation_lock("web")));
}

TEST(Locks, DiskImageModes) {
    test::TempHome home;
    home.write("d.raw", "disk");
    const fs::path image = home.paths().home() / "d.raw";
    {
        const FileLock first = lock_disk_image(image, true);
        const FileLock second = lock_disk_image(image, true);  // readers share
        EXPECT_EQ(error_of([&] { lock_disk_image(image, false); }),
                  "invalid config: disk image \"" + image.string() +
                      "\" is already attached with an incompatible disk mode");
    }
    const FileLock writer = lock_disk_image(image, false);
    EXPECT_EQ(error_of([&] { lock_disk_image(image, true, "vol"); }),
              "invalid config: volume \"vol\" is already attached with an incompatible disk mode");
    EXPECT_NE(error_of([&] { lock_disk_image(home.paths().home() / "none", true); }), "");
    EXPECT_FALSE(fs::exists(home.paths().home() / "none"));
}

TEST(Locks, MigrationLockErrorNamesTheFile) {
    test::TempHome home;  // db/ does not exist
    EXPECT_EQ(error_of([&] { lock_migration(home.paths()); }),
              "runtime error: open migration lock " + home.paths().migration_lock().string() +
                  ": No such file or directory (os error 2)");
}

}  // namespace
}  // namespace msb::state
