// spec/protocol.md section 15, conformance checks 22 and 23.
#include "runtime/control.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace msb::runtime {
namespace {

class FakeTarget : public ControlTarget {
  public:
    bool memory_resizable() const override { return resizable; }
    bool cpu_resizable() const override { return resizable; }
    ControlMemory memory() override { return state; }
    ControlCpu cpu() override { return processors; }
    void set_memory(std::uint64_t mib) override {
        state.target_mib = std::clamp<std::uint64_t>(mib, 512, 1024);
    }
    void set_cpus(unsigned online) override {
        processors.requested_online = processors.enforced = std::clamp(online, 1u, 2u);
    }
    bool resizable = true;
    ControlMemory state{512, 512, 512, 1024};
    ControlCpu processors{2, 1, 1, 1};
};

std::string ask(std::string_view line, bool resizable = true) {
    FakeTarget target;
    target.resizable = resizable;
    return handle_control_line(line, target).value_or("<closed>");
}

TEST(Control, Capabilities) {
    EXPECT_EQ(ask(R"({"op":"capabilities"})"),
              "{\"ok\":true,\"capabilities\":{\"cpu_resize\":true,\"memory_resize\":true,\"secrets_"
              "update\":false}}\n");
    EXPECT_EQ(ask("  {\"op\":\"capabilities\",\"x\":1}  ", false),
              "{\"ok\":true,\"capabilities\":{\"cpu_resize\":false,\"memory_resize\":false,"
              "\"secrets_update\":false}}\n");
}

TEST(Control, TargetsAnswerWithTheNewState) {
    EXPECT_EQ(ask(R"({"op":"memory_target","total_mib":768})"),
              "{\"ok\":true,\"memory\":{\"boot_mib\":512,\"target_mib\":768,\"current_mib\":512,"
              "\"max_mib\":1024}}\n");
    EXPECT_NE(ask(R"({"op":"memory_target","total_mib":99999})").find("\"target_mib\":1024"),
              std::string::npos);
    EXPECT_NE(ask(R"({"op":"memory_target","total_mib":100})").find("\"target_mib\":512"),
              std::string::npos);
    EXPECT_EQ(ask(R"({"op":"cpu_target","online":0})"),
              "{\"ok\":true,\"cpu\":{\"possible\":2,\"requested_online\":1,\"actual_online\":1,"
              "\"enforced\":1}}\n");
}

TEST(Control, Refusals) {
    EXPECT_EQ(ask(R"({"op":"memory_state"})", false),
              "{\"ok\":false,\"error\":\"this VM booted without memory hotplug capacity\"}\n");
    EXPECT_EQ(ask(R"({"op":"cpu_target","online":1})", false),
              "{\"ok\":false,\"error\":\"this VM booted without CPU capacity\"}\n");
    EXPECT_EQ(ask(R"({"op":"secrets_update","changes":[{"change":"remove","name":"A"}]})"),
              "{\"ok\":false,\"error\":\"live secret reconfiguration is not available for this "
              "sandbox\"}\n");
}

TEST(Control, WhatIsNoRequestSaysSo) {
    for (const char* line :
         {R"({"op":"nope"})", "{}", "", "[]", "nonsense", R"({"op":"memory_target"})",
          R"({"op":"memory_target","total_mib":-1})", R"({"op":"cpu_target","online":"2"})",
          R"({"op":"secrets_update","changes":[{"change":"rotate","name":"A"}]})"})
        EXPECT_TRUE(ask(line).starts_with("{\"ok\":false,\"error\":\"invalid control request: "))
            << line << ask(line);
    EXPECT_EQ(ask("\xff\xfe"), "<closed>");
}

TEST(Control, SecretsAreNeverRepeated) {
    const std::string secret = "hunter2-hunter2";
    for (const std::string& line :
         {R"({"op":"secrets_update","changes":[{"change":"rotate","name":"A","value":")" + secret +
              "\"}]}",
          R"({"op":"secrets_update","changes":[{"change":"rotate","value":")" + secret + "\"}]}",
          R"({"op":"secrets_update","value":")" + secret})
        EXPECT_EQ(ask(line).find(secret), std::string::npos) << line;
}

}  // namespace
}  // namespace msb::runtime
