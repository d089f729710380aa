#include "vmm/parts.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>

#include "base/error.h"

namespace msb::vmm {
namespace {

using ::testing::HasSubstr;

// Sets variables for one test and puts the old values back.
class Environment {
  public:
    void set(const std::string& name, const std::string& value) {
        if (!saved_.contains(name)) {
            const char* old = std::getenv(name.c_str());
            saved_[name] = old == nullptr ? std::nullopt : std::optional<std::string>(old);
        }
        ::setenv(name.c_str(), value.c_str(), 1);
    }
    ~Environment() {
        for (const auto& [name, value] : saved_)
            value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }

  private:
    std::map<std::string, std::optional<std::string>> saved_;
};

class PartsTest : public ::testing::Test {
  protected:
    PartsTest() {
        char name[] = "/tmp/vmm-parts-XXXXXX";
        root_ = ::mkdtemp(name);
        for (const char* variable : {"MSB_KERNEL", "MSB_INITRAMFS", "MSB_QEMU"})
            environment_.set(variable, "");
        environment_.set("PATH", root_ / "path");
    }
    ~PartsTest() override { std::filesystem::remove_all(root_); }

    std::filesystem::path make(const std::string& name, mode_t mode = 0644) {
        const auto path = root_ / name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path) << "x";
        ::chmod(path.c_str(), mode);
        return path;
    }
    std::string error() {
        try {
            find_parts(root_ / "bin/msb");
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }

    std::filesystem::path root_;
    Environment environment_;
};

TEST_F(PartsTest, FindsAnInstalledTree) {
    make("lib/microsandbox/vmlinux");
    make("lib/microsandbox/initramfs.cpio");
    make("path/qemu-system-x86_64", 0755);
    const Parts parts = find_parts(root_ / "bin/msb");
    EXPECT_EQ(parts.kernel, root_ / "lib/microsandbox/vmlinux");
    EXPECT_EQ(parts.initramfs, root_ / "lib/microsandbox/initramfs.cpio");
    EXPECT_EQ(parts.engine, root_ / "path/qemu-system-x86_64");
}

TEST_F(PartsTest, VariablesWin) {
    environment_.set("MSB_KERNEL", make("k"));
    environment_.set("MSB_INITRAMFS", make("i"));
    environment_.set("MSB_QEMU", make("q", 0755));
    const Parts parts = find_parts("/nowhere/bin/msb");
    EXPECT_EQ(parts.kernel, root_ / "k");
    EXPECT_EQ(parts.initramfs, root_ / "i");
    EXPECT_EQ(parts.engine, root_ / "q");
}

TEST_F(PartsTest, SaysEverythingThatIsMissingAndWhatToDo) {
    const std::string text = error();
    EXPECT_THAT(text, HasSubstr((root_ / "lib/microsandbox/vmlinux").string()));
    EXPECT_THAT(text, HasSubstr("`make build`"));
    EXPECT_THAT(text, HasSubstr("MSB_KERNEL"));
    EXPECT_THAT(text, HasSubstr("initramfs.cpio"));
    EXPECT_THAT(text, HasSubstr("`apt install qemu-system-x86`"));
}

TEST_F(PartsTest, BlamesTheVariableThatIsWrong) {
    make("lib/microsandbox/vmlinux");
    make("lib/microsandbox/initramfs.cpio");
    environment_.set("MSB_QEMU", make("not-executable"));
    EXPECT_EQ(error(), "engine " + (root_ / "not-executable").string() +
                           " is not an executable file: correct MSB_QEMU");
}

TEST_F(PartsTest, ADirectoryIsNotAnEngineAndTheWorkingDirectoryIsNotSearched) {
    make("lib/microsandbox/vmlinux");
    make("lib/microsandbox/initramfs.cpio");
    std::filesystem::create_directories(root_ / "path/qemu-system-x86_64");
    environment_.set("PATH", (root_ / "path").string() + "::.");
    EXPECT_THAT(error(), HasSubstr("was not found in PATH"));
}

}  // namespace
}  // namespace msb::vmm
