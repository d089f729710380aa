#include "agentd/environment.h"

#include <gmock/gmock.h>

namespace msb::agentd {
namespace {

using testing::ElementsAre;

TEST(Environment, LaterValuesReplaceEarlierOnesInPlace) {
    const char* words[] = {"HOME=/", "stray", "TERM=linux", "HOME=/x", "EMPTY=", nullptr};
    Environment environment = Environment::from(words);
    EXPECT_THAT(environment.entries(), ElementsAre("HOME=/x", "TERM=linux", "EMPTY="));
    EXPECT_EQ(environment.find("NONE"), nullptr);
}

TEST(Environment, ScriptsLeadPathUnlessTheyAreThere) {
    EXPECT_EQ(with_scripts_directory("/usr/bin:/bin"), "/.msb/scripts:/usr/bin:/bin");
    EXPECT_EQ(with_scripts_directory("/usr/bin:/.msb/scripts"), "/usr/bin:/.msb/scripts");
    EXPECT_EQ(with_scripts_directory("/.msb/scripts2"), "/.msb/scripts:/.msb/scripts2");
    EXPECT_EQ(with_scripts_directory(""), "/.msb/scripts:");
}

TEST(Environment, AgentTakesTheLastPathOfTheDefaults) {
    Environment environment =
        agent_environment({}, {{"PATH", "/a"}, {"A", "1"}, {"PATH", "/b"}, {"A", "2"}});
    EXPECT_EQ(*environment.find("PATH"), "/.msb/scripts:/b");
    EXPECT_EQ(*environment.find("A"), "2");
    EXPECT_EQ(*agent_environment({}, {}).find("PATH"),
              "/.msb/scripts:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
}

TEST(Environment, ExecOverlaysInOrderAndOnlyTheFirstPathGetsScripts) {
    Environment base = agent_environment({}, {{"A", "base"}});
    auto result = exec_environment(base, {"A=1", "NOEQ", "B=x=y", "A=2", "=v"}, false);
    EXPECT_EQ(*result.env.find("A"), "2");
    EXPECT_EQ(*result.env.find("B"), "x=y");
    EXPECT_EQ(*result.env.find(""), "v");
    EXPECT_FALSE(result.has_home);
    EXPECT_EQ(*exec_environment(base, {"PATH=/a", "PATH=/b"}, false).env.find("PATH"), "/b");
    EXPECT_EQ(*exec_environment(base, {"PATH="}, false).env.find("PATH"), "/.msb/scripts:");
    EXPECT_TRUE(exec_environment(base, {"HOME="}, false).has_home);
}

TEST(Environment, TerminalSessionsDropWhatCannotBePassed) {
    using namespace std::string_literals;
    auto result = exec_environment({}, {"=v", "A=b\0c"s, "K=1"}, true);
    EXPECT_THAT(result.env.entries(), ElementsAre("K=1", testing::StartsWith("PATH=")));
}

TEST(Environment, CandidatesFollowThePath) {
    EXPECT_THAT(executable_candidates("ls", "/bin::/usr/bin/"),
                ElementsAre("/bin/ls", "ls", "/usr/bin/ls"));
    EXPECT_THAT(executable_candidates("./ls", "/bin"), ElementsAre("./ls"));
    EXPECT_THAT(executable_candidates("", "/bin"), ElementsAre());
    EXPECT_THAT(executable_candidates("ls", ""), ElementsAre("ls"));
}

}  // namespace
}  // namespace msb::agentd
