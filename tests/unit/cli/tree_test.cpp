// --tree and shell completion.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/completion.h"
#include "cli/model.h"
#include "cli/usage.h"

namespace msb::cli {
namespace {

constexpr std::string_view kJson[] = {"json"};
constexpr Arg kListFlags[] = {
    {.kind = ArgKind::kOption,
     .name = "format",
     .value_name = "FORMAT",
     .help = "Output format (json)",
     .type = ValueType::kChoice,
     .choices = kJson},
    {.name = "quiet", .letter = 'q', .help = "Show only image references"},
    {.name = "secret", .help = "hidden", .hidden = true},
    {.name = "soon", .help = "later", .later = true},
};
constexpr std::span<const Arg> kListArgs[] = {kListFlags};
constexpr Command kImageCommands[] = {
    {.id = CommandId::kList,
     .name = "list",
     .about = "List images",
     .args = kListArgs,
     .alias = "ls"},
};
constexpr Command kTop[] = {
    {.id = CommandId::kSelf, .name = "image", .about = "Images", .subcommands = kImageCommands},
};
constexpr Command kRoot{.id = CommandId::kRoot, .name = "msb", .about = "x", .subcommands = kTop};

// spec/cli.md section 12.13 (the final empty line is main's).
TEST(Tree, IsByteForByteTheContracts) {
    EXPECT_EQ(command_tree(kRoot, {"image", "ls"}),
              "msb image ls\n├── --format <FORMAT>  Output format (json)\n└── -q, --quiet        "
              "Show only image "
              "references\n");
}

TEST(Tree, OfTheRealTableToo) {
    EXPECT_EQ(command_tree(root_command(), {"image", "ls"}), command_tree(kRoot, {"image", "ls"}));
    const auto all = command_tree(root_command(), {});
    for (const auto* hidden : {"images", "rmi", "registries"})
        EXPECT_EQ(all.find(std::string("── ") + hidden + " "), std::string::npos) << hidden;
    EXPECT_NE(all.find("── registry "), std::string::npos);
}

TEST(Tree, NestsAndAligns) {
    EXPECT_EQ(command_tree(kRoot, {"nosuch", "image", "zz"}),
              "msb image\n"
              "└── list (aliases: ls)     List images\n"
              "    ├── --format <FORMAT>  Output format (json)\n"
              "    └── -q, --quiet        Show only image references\n");
}

TEST(Tree, ShowsPositionalsFirstAndRequiredOnesInAngles) {
    const auto tree = command_tree(root_command(), {"exec"});
    EXPECT_TRUE(tree.starts_with("msb exec\n├── <NAME> ")) << tree;
    EXPECT_NE(tree.find("├── [-- COMMAND...] "), std::string::npos);
    EXPECT_EQ(tree.find("--help"), std::string::npos);
    const auto run = command_tree(root_command(), {"run"});
    EXPECT_NE(run.find("--init <PATH|AUTO>"), std::string::npos) << "value names are upper case";
    EXPECT_EQ(run.find("--net-rule"), std::string::npos) << "flags this build lacks are not shown";
    const auto all = command_tree(root_command(), {});
    EXPECT_NE(all.find("├── --trace "), std::string::npos);
    EXPECT_EQ(all.find("__schema-baseline"), std::string::npos);
}

TEST(Completion, EveryScriptKnowsEveryVisibleCommandAndFlag) {
    for (const auto* shell : {"bash", "elvish", "fish", "powershell", "zsh"}) {
        const auto script = completion_script(root_command(), shell);
        for (const auto* word : {"restart", "doctor", "detach-keys", "color-sessions"})
            EXPECT_NE(script.find(word), std::string::npos) << shell << " lacks " << word;
        EXPECT_EQ(script.find("__schema-baseline"), std::string::npos) << shell;
        EXPECT_EQ(script.find("net-rule"), std::string::npos) << shell;
    }
}

// Runs the generated bash function as bash would.
TEST(Completion, BashCompletesCommandsFlagsAndValues) {
    std::string directory = "/tmp/cli-completion-XXXXXX";
    ASSERT_NE(::mkdtemp(directory.data()), nullptr);
    const auto complete = [&](const std::string& words, int at) {
        const std::string file = directory + "/t.sh";
        std::ofstream(file) << completion_script(root_command(), "bash") << "COMP_WORDS=(" << words
                            << ")\nCOMP_CWORD=" << at
                            << "\n_msb\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
        std::FILE* pipe = ::popen(("bash " + file + " 2>&1").c_str(), "r");
        std::string out;
        for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe))
            out += static_cast<char>(c);
        EXPECT_EQ(::pclose(pipe), 0);
        return out;
    };
    EXPECT_EQ(complete("msb resta", 1), "restart\n");
    EXPECT_EQ(complete("msb ps --a", 2), "--all\n");
    EXPECT_EQ(complete("msb logs --color a", 3), "auto\nalways\n");
    EXPECT_EQ(complete("msb self d", 2), "doctor\n");
    EXPECT_EQ(complete("msb completion zs", 2), "zsh\n");
    EXPECT_EQ(complete("msb image p", 2), "pull\nprune\n");
    EXPECT_EQ(complete("msb save --format o", 3), "oci\n");
    EXPECT_EQ(complete("msb exec x -- --a", 4), "\n")
        << "the guest's command is not ours to complete";
    std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace msb::cli
