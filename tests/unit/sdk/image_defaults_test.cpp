// Spec/images.md section 15 and check 18; spec/state.md section 9, "Create-time materialization".
#include "sdk/image_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "sdk/launch_document.h"

namespace msb::sdk {
namespace {

using state::EnvVar;
using testing::ElementsAre;
using testing::Pair;
using Words = std::vector<std::string>;

TEST(ImageDefaults, UserEnvironmentWinsAndComesLast) {
    state::SandboxConfig config;
    config.env = {{"MODE", "prod"}, {"A", "1"}, {"A", "2"}};
    apply_image_defaults(config, {.env = {"PATH=/bin:/usr/bin", "MODE=dev", "NOEQUALS", "=nokey",
                                          "EQ=a=b", "EMPTY="}});
    EXPECT_THAT(config.env, ElementsAre(EnvVar{"PATH", "/bin:/usr/bin"}, EnvVar{"EQ", "a=b"},
                                        EnvVar{"EMPTY", ""}, EnvVar{"MODE", "prod"},
                                        EnvVar{"A", "1"}, EnvVar{"A", "2"}));
}

TEST(ImageDefaults, LabelsAreUnitedAndReservedOnesOfTheImageDropped) {
    state::SandboxConfig config;
    config.labels = {{"team", "edge"}, {"sandbox.mine", "kept"}};
    apply_image_defaults(config, {.labels = {{"", "x"},
                                             {"microsandbox.a", "x"},
                                             {"sandbox.b", "x"},
                                             {"service.c", "x"},
                                             {"serviced", "y"},
                                             {"team", "image"}}});
    EXPECT_THAT(config.labels, ElementsAre(Pair("sandbox.mine", "kept"), Pair("serviced", "y"),
                                           Pair("team", "edge")));
}

TEST(ImageDefaults, EntrypointOfTheUserKeepsTheImagesCmd) {
    image::ImageConfig image{.cmd = Words{"a"}, .entrypoint = Words{"e", "x"}};
    state::SandboxConfig config;
    apply_image_defaults(config, image);
    EXPECT_EQ(default_command(config, std::nullopt), (Words{"e", "x", "a"}));
    EXPECT_EQ(default_command(config, Words{}), (Words{"e", "x"}));
    EXPECT_EQ(default_command(config, Words{"b", "c"}), (Words{"e", "x", "b", "c"}));

    state::SandboxConfig own;
    own.runtime.entrypoint = Words{"mine"};
    apply_image_defaults(own, image);
    EXPECT_EQ(default_command(own, std::nullopt), (Words{"mine", "a"}));

    state::SandboxConfig cleared;
    cleared.runtime.entrypoint = Words{};
    apply_image_defaults(cleared, image);
    EXPECT_EQ(default_command(cleared, std::nullopt), (Words{"a"}));
}

TEST(ImageDefaults, ImageWithoutACommandHasNoDefault) {
    state::SandboxConfig config;
    apply_image_defaults(config, {.cmd = Words{}, .entrypoint = Words{}});
    try {
        default_command(config, std::nullopt);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kNoDefaultCommand);
        EXPECT_STREQ(e.what(),
                     "sandbox has no default command; configure an entrypoint or cmd, or execute a "
                     "literal command");
    }
}

TEST(ImageDefaults, WorkdirAndUserAreInheritedWhenUnset) {
    state::SandboxConfig config;
    apply_image_defaults(config, {.working_dir = "", .user = ""});
    EXPECT_EQ(config.runtime.workdir, std::nullopt);
    EXPECT_EQ(config.runtime.user, std::nullopt);
    apply_image_defaults(config, {.working_dir = "/srv", .user = "app"});
    EXPECT_EQ(config.runtime.workdir, "/srv");
    EXPECT_EQ(config.runtime.user, "app");
    apply_image_defaults(config, {.working_dir = "/other", .user = "root"});
    EXPECT_EQ(config.runtime.workdir, "/srv");
    EXPECT_EQ(config.runtime.user, "app");
}

TEST(ImageDefaults, TmpIsMountedUnlessSomethingIs) {
    EXPECT_EQ(default_tmp_size_mib(0), 1U);
    EXPECT_EQ(default_tmp_size_mib(1024), 256U);
    EXPECT_EQ(default_tmp_size_mib(8192), 512U);

    state::SandboxConfig config;
    config.resources.memory_mib = 1024;
    apply_image_defaults(config, {});
    ASSERT_EQ(config.mounts.size(), 1U);
    EXPECT_EQ(config.mounts[0], state::Mount(state::TmpfsMount{"/tmp", 256, {}}));

    state::SandboxConfig mounted;
    mounted.mounts = {state::DiskImageMount{.host = "/d.raw", .guest = "/tmp/"}};
    apply_image_defaults(mounted, {});
    EXPECT_EQ(mounted.mounts.size(), 1U);
}

state::SandboxConfig with_init(std::string cmd) {
    state::SandboxConfig config;
    config.init = state::InitConfig{std::move(cmd), {"--own"}, {{"K", "init"}}};
    config.env = {{"K", "sandbox"}, {"L", "l"}};
    return config;
}

TEST(ImageInitTest, AutoTakesTheImagesInit) {
    state::SandboxConfig config = with_init("auto");
    ImageInit init = apply_image_defaults(
        config, {.env = {"P=p"}, .cmd = Words{"serve"}, .entrypoint = Words{"/sbin/init"}});
    EXPECT_TRUE(init.from_image);
    EXPECT_FALSE(init.owns_command);  // systemd does not run what its arguments say
    EXPECT_EQ(config.init->cmd, "/sbin/init");
    EXPECT_EQ(config.runtime.entrypoint, std::nullopt);
    EXPECT_THAT(config.init->env, ElementsAre(Pair("P", "p"), Pair("K", "init"), Pair("L", "l")));
    EXPECT_EQ(default_command(config, std::nullopt), (Words{"serve"}));
}

TEST(ImageInitTest, WrappingInitOwnsTheCommand) {
    state::SandboxConfig config = with_init("auto");
    ImageInit init =
        apply_image_defaults(config, {.cmd = Words{"serve"}, .entrypoint = Words{"/init"}});
    EXPECT_TRUE(init.owns_command);
    hand_command_to_init(*config.init, default_command(config, std::nullopt));
    EXPECT_EQ(config.init->args, (Words{"--own", "serve"}));
    EXPECT_THROW(hand_command_to_init(*config.init, {std::string("a\0b", 3)}), Error);
}

TEST(ImageInitTest, FurtherTokensGoToTheInit) {
    state::SandboxConfig config = with_init("auto");
    ImageInit init = apply_image_defaults(
        config, {.entrypoint = Words{"/lib/systemd/systemd", "--unit=app.target"}});
    EXPECT_TRUE(init.owns_command);
    EXPECT_EQ(config.runtime.entrypoint, (Words{"--unit=app.target"}));
}

TEST(ImageInitTest, EntrypointOfTheUserStays) {
    state::SandboxConfig config = with_init("auto");
    config.runtime.entrypoint = Words{"app"};
    ImageInit init = apply_image_defaults(config, {.entrypoint = Words{"/sbin/init", "-x"}});
    EXPECT_TRUE(init.from_image);
    EXPECT_FALSE(init.owns_command);
    EXPECT_EQ(config.init->cmd, "/sbin/init");
    EXPECT_EQ(config.runtime.entrypoint, (Words{"app"}));
}

TEST(ImageInitTest, OtherEntrypointsAndOtherInitsAreLeftAlone) {
    state::SandboxConfig config = with_init("auto");
    EXPECT_FALSE(apply_image_defaults(config, {.entrypoint = Words{"/bin/sh"}}).from_image);
    EXPECT_EQ(config.init->cmd, "auto");
    EXPECT_EQ(config.runtime.entrypoint, (Words{"/bin/sh"}));

    state::SandboxConfig explicit_init = with_init("/sbin/init");
    EXPECT_FALSE(
        apply_image_defaults(explicit_init, {.entrypoint = Words{"/sbin/init"}}).from_image);
    EXPECT_EQ(explicit_init.runtime.entrypoint, (Words{"/sbin/init"}));
}

TEST(ImagePatches, EveryOperationIsConverted) {
    std::vector<image::Patch> patches = image_patches(
        {state::TextPatch{"/t", "text", 0600, true},
         state::FilePatch{"/f", std::string("\0\xff", 2), std::nullopt, false},
         state::CopyFilePatch{"s", "/d", 0644, false}, state::CopyDirPatch{"s", "/d", true},
         state::SymlinkPatch{"t", "/l", true}, state::MkdirPatch{"/m", 0700},
         state::RemovePatch{"/r"}, state::AppendPatch{"/a", "more"}});
    ASSERT_EQ(patches.size(), 8U);
    const auto& text = std::get<image::WriteFilePatch>(patches[0]);
    EXPECT_EQ(text.path + text.content, "/ttext");
    EXPECT_EQ(text.mode, 0600U);
    EXPECT_TRUE(text.replace);
    EXPECT_EQ(std::get<image::WriteFilePatch>(patches[1]).content.size(), 2U);
    EXPECT_EQ(std::get<image::CopyFilePatch>(patches[2]).destination, "/d");
    EXPECT_TRUE(std::get<image::CopyDirPatch>(patches[3]).replace);
    EXPECT_EQ(std::get<image::SymlinkPatch>(patches[4]).target, "t");
    EXPECT_EQ(std::get<image::MkdirPatch>(patches[5]).mode, 0700U);
    EXPECT_EQ(std::get<image::RemovePatch>(patches[6]).path, "/r");
    EXPECT_EQ(std::get<image::AppendPatch>(patches[7]).content, "more");
}

}  // namespace
}  // namespace msb::sdk
