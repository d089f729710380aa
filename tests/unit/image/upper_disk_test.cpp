// Upper disks: made, patched, copied, grown (spec/images.md section 12).
#include "image/upper_disk.h"

#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "base/fd.h"
#include "base/hash.h"
#include "disk_fixture.h"
#include "support/kill_point.h"

namespace msb::image {
namespace {

class UpperDiskTest : public DiskTest {
  protected:
    std::filesystem::path path_ = directory_ / "upper.ext4";
};

TEST_F(UpperDiskTest, EmptyUpperIsSparseAndHoldsTwoDirectories) {
    create_upper(path_, 8192);
    EXPECT_EQ(size_of(path_), std::uint64_t{8} << 30);
    EXPECT_LE(allocated(path_), 4U << 20);
    expect_clean(path_);
    std::string list = debugfs(path_, "ls -p /");
    EXPECT_NE(list.find("/11/040755/0/0/upper/"), std::string::npos) << list;
    EXPECT_NE(list.find("/12/040755/0/0/work/"), std::string::npos) << list;
    EXPECT_FALSE(std::filesystem::exists(path_.native() + ".part"));
}

TEST_F(UpperDiskTest, EveryUpperHasItsOwnUuid) {
    create_upper(path_, 256);
    std::string first = run("dumpe2fs -h " + path_.string() + " | grep UUID");
    create_upper(path_, 256);
    EXPECT_NE(run("dumpe2fs -h " + path_.string() + " | grep UUID"), first);
}

TEST_F(UpperDiskTest, FormatFaultsAreNamed) {
    EXPECT_EQ(error_of([&] { create_upper(path_, 130); }),
              "failed to create upper.ext4: invalid ext4 image size: block group 1 has 512 blocks "
              "but needs at least 772 metadata blocks; choose a size that leaves either no partial "
              "group or a larger final group");
    EXPECT_EQ(error_of([&] { create_upper(path_, 1); }),
              "failed to create upper.ext4: image size is too small for ext4 formatting");
    EXPECT_EQ(error_of([&] { create_upper(directory_ / "none/upper.ext4", 256); }),
              "failed to create upper.ext4: " + (directory_ / "none/upper.ext4.part").string() +
                  ": No such file or directory (os error 2)");
    EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(UpperDiskTest, CapturedUpperIsCopiedSparse) {
    create_upper(path_, 256);
    std::filesystem::path copy = directory_ / "copy.ext4";
    create_upper_from(path_, copy);
    EXPECT_EQ(run("cmp " + path_.string() + " " + copy.string()), "[0]");
    EXPECT_LE(allocated(copy), 4U << 20);
    EXPECT_EQ(error_of([&] { create_upper_from(directory_ / "none", copy); }),
              "failed to create upper.ext4: " + (directory_ / "none").string() +
                  ": No such file or directory (os error 2)");
}

TEST_F(UpperDiskTest, GrowsWhenSmallerAndNeverShrinks) {
    create_upper(path_, 256);
    EXPECT_TRUE(grow_upper(path_, 1024));
    EXPECT_EQ(size_of(path_), 1U << 30);
    expect_clean(path_);
    EXPECT_FALSE(grow_upper(path_, 512));
    EXPECT_FALSE(grow_upper(path_, 1024));
    EXPECT_EQ(size_of(path_), 1U << 30);
    EXPECT_EQ(
        shrink_refusal(512, 1024),
        "root disk size 512 MiB is smaller than the current 1024 MiB; shrink is not supported "
        "(recreate the sandbox instead)");
}

TEST_F(UpperDiskTest, GrowthFaultsAreNamed) {
    create_upper(path_, 256);
    EXPECT_EQ(error_of([&] { grow_upper(path_, 4 << 20); }),
              "cannot grow oci upper size to 4194304 MiB: the existing upper.ext4 can grow to at "
              "most 2105344 MiB; recreate the sandbox for a larger upper");
    EXPECT_EQ(
        error_of([&] { grow_upper(path_, 386); }),
        "failed to grow upper.ext4: invalid ext4 image size: block group 3 has 512 blocks but "
        "needs at least 772 metadata blocks; choose a size that leaves either no partial "
        "group or a larger final group");
    std::filesystem::resize_file(path_, 200 << 20);
    EXPECT_EQ(error_of([&] { grow_upper(path_, 512); }),
              "failed to grow upper.ext4: unsupported ext4 image: file length does not match "
              "superblock block count");
    EXPECT_FALSE(std::filesystem::exists(path_.native() + ".growing"));
}

// A disk that is full is a file that cannot be written beyond some point.
class FullDisk {
  public:
    explicit FullDisk(rlim_t bytes) {
        EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
        struct rlimit limit = before_;
        limit.rlim_cur = bytes;
        handler_ = ::signal(SIGXFSZ, SIG_IGN);
        EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
    ~FullDisk() {
        EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before_), 0);
        ::signal(SIGXFSZ, handler_);
    }

  private:
    struct rlimit before_{};
    sighandler_t handler_;
};

TEST_F(UpperDiskTest, FullDiskLeavesNothing) {
    std::string error;
    {
        FullDisk full(64 << 20);
        error = error_of([&] { create_upper(path_, 256); });
    }
    EXPECT_EQ(error, "failed to create upper.ext4: size ext4 image: File too large (os error 27)");
    EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(UpperDiskTest, FullDiskStopsAGrowthThatIsMadeUpLater) {
    create_upper(path_, 256);
    std::string error;
    {
        FullDisk full(300 << 20);
        error = error_of([&] { grow_upper(path_, 512); });
    }
    EXPECT_EQ(error, "failed to grow upper.ext4: size ext4 image: File too large (os error 27)");
    EXPECT_EQ(size_of(path_), 256U << 20);
    expect_clean(path_);
    EXPECT_FALSE(grow_upper(path_, 256));
    EXPECT_TRUE(grow_upper(path_, 512));
    expect_clean(path_);
    EXPECT_FALSE(std::filesystem::exists(path_.native() + ".growing"));
}

TEST_F(UpperDiskTest, KilledAtAnyChangeIsAbsentOrWhole) {
    std::size_t n = 1;
    for (;; ++n) {
        std::filesystem::remove(path_);
        bool killed = test::killed_before_change(n, [&] { create_upper(path_, 68); });
        if (std::filesystem::exists(path_)) expect_clean(path_);
        EXPECT_EQ(std::filesystem::exists(path_), !killed) << n;
        if (!killed) break;
    }
    EXPECT_GT(n, 10U);
    EXPECT_FALSE(std::filesystem::exists(path_.native() + ".part"));
}

}  // namespace
}  // namespace msb::image
