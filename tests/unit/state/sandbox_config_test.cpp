#include "state/sandbox_config.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/fd.h"
#include "fixture.h"

namespace msb::state {
namespace {

using test::error_of;

std::string example(const std::string& name) {
    return read_file(std::filesystem::path(STATE_TEST_DATA) / name);
}

std::string rewrite(const std::string& text) {
    return write_sandbox_config(parse_sandbox_config(text));
}

// spec/state.md check 16: the examples of section 9.3, whole.
TEST(SandboxConfig, ExamplesAreReproducedByteForByte) {
    EXPECT_EQ(rewrite(example("example_a.json")), example("example_a.json"));
    EXPECT_EQ(rewrite(example("example_b.json")), example("example_b.json"));
}

// Check 15: what a builder makes of a bind rootfs without options.
TEST(SandboxConfig, MinimalDocument) {
    SandboxConfig config;
    config.name = "n1";
    config.image = BindImage{"/r", false};
    config.runtime.shell = "/bin/sh";
    EXPECT_EQ(write_sandbox_config(config), example("minimal_bind.json"));
    EXPECT_EQ(parse_sandbox_config(example("minimal_bind.json")), config);
}

TEST(SandboxConfig, EveryFeatureIsTyped) {
    const SandboxConfig config = parse_sandbox_config(example("example_b.json"));
    EXPECT_EQ(config.resources.max_memory_mib, 4096u);
    EXPECT_EQ(config.resources.thp, ThpPolicy::kAlways);
    EXPECT_FALSE(config.runtime.metrics_sample_interval_ms);
    ASSERT_EQ(config.mounts.size(), 4u);
    const auto& bind = std::get<BindMount>(config.mounts[0]);
    EXPECT_EQ(bind.options.override_uid, 1000u);
    EXPECT_EQ(bind.stat_virtualization, StatVirtualization::kRelaxed);
    EXPECT_EQ(bind.host_permissions, HostPermissions::kMirror);
    EXPECT_EQ(std::get<DiskImageMount>(config.mounts[2]).format, DiskFormat::kQcow2);
    EXPECT_EQ(std::get<FilePatch>(config.patches[1]).content, "Hi");
    EXPECT_EQ(std::get<TextPatch>(config.patches[0]).mode, 0644u);
    ASSERT_TRUE(config.network.policy);
    EXPECT_EQ(config.network.policy->rules[2].destination.group, DestinationGroup::kLinkLocal);
    EXPECT_EQ(config.network.secrets->secrets[0].source->name, "API_KEY");
    EXPECT_EQ(config.network.outbound_proxy->credentials->password.name, "PROXY_PW");
    EXPECT_EQ(config.vsock[0].port, 9000u);
    EXPECT_EQ(config.init->env[0].second, "V");
    EXPECT_EQ(config.lifecycle.idle_timeout_secs, 300u);
}

TEST(SandboxConfig, DefaultsOfAnEmptyDocument) {
    EXPECT_EQ(parse_sandbox_config("{}"), SandboxConfig{});
}

// Check 17.
TEST(SandboxConfig, DerivedAndLegacyForms) {
    const auto resources =
        parse_sandbox_config(R"({"resources":{"cpus":4,"memory_mib":2048}})").resources;
    EXPECT_EQ(resources.max_cpus, 4);
    EXPECT_EQ(resources.max_memory_mib, 2048u);

    const auto options = [](const std::string& mount) {
        return mount_options(parse_sandbox_config("{\"mounts\":[" + mount + "]}").mounts.at(0));
    };
    EXPECT_TRUE(options(R"({"type":"Tmpfs","guest":"/a","readonly":true})").readonly);
    const auto bind = options(
        R"({"type":"Bind","host":"/h","guest":"/a","options":{"noexec":true},"readonly":true})");
    EXPECT_FALSE(bind.readonly);
    EXPECT_TRUE(bind.noexec);

    EXPECT_EQ(parse_sandbox_config(R"({"env":[["A","B"]]})").env[0], (EnvVar{"A", "B"}));
    EXPECT_NE(rewrite(R"({"env":[["A","B"]]})").find(R"("env":[{"key":"A","value":"B"}])"),
              std::string::npos);
}

TEST(SandboxConfig, KeyOrderAndUnknownKeysDoNotMatter) {
    const auto config = parse_sandbox_config(
        R"({"labels":{"b":"1","a":"2"},"zz":{"q":[1,null]},"resources":{"x":1,"cpus":2},"name":"n"})");
    EXPECT_EQ(config.name, "n");
    EXPECT_EQ(config.resources.cpus, 2);
    EXPECT_NE(write_sandbox_config(config).find(R"("labels":{"a":"2","b":"1"})"),
              std::string::npos);
    EXPECT_EQ(write_sandbox_config(config).find("zz"), std::string::npos);
}

// Check 18 and the strictness rules of section 9.
TEST(SandboxConfig, WhatIsRefused) {
    for (
        const char* document : {
            R"({"image":{"oci":{"reference":"x"}}})",
            R"({"image":{"Oci":{"reference":"a"},"Bind":{"path":"b"}}})",
            R"({"image":{"Bind":"/x"}})",
            R"({"image":{"Oci":{"reference":"r","root_disk":{"kind":"Managed"}}}})",
            R"({"pull_policy":"if-missing"})",
            R"({"labels":null})",
            R"({"labels":{"a":5}})",
            R"({"resources":{"cpus":300}})",
            R"({"resources":{"cpus":-1}})",
            R"({"resources":{"cpus":1.5}})",
            R"({"name":"a","name":"b"})",
            R"({"name":null})",
            R"({"network":null})",
            R"({"network":{"ports":[{"host_port":1,"guest_port":2}]}})",
            R"({"network":{"interface":{"ipv4_pool":"10.9.0.0/40"}}})",
            R"({"network":{"policy":{"rules":[{"direction":"egress","destination":{"cidr":"x"},"action":"allow"}]}}})",
            R"({"network":{"tls":{"ca":{},"intercept_ca":{}}}})",
            R"({"network":{"outbound_proxy":{"protocol":"http","address":"1.1.1.1:5"}}})",
            R"({"patches":[{"Text":{"path":"a","content":"b"}}]})",
            R"({"patches":[{"File":{"path":"a","content":[256],"replace":true}}]})",
            R"({"rlimits":[{"resource":"nofile","soft":1,"hard":2}]})",
            R"({"deployment_profile":"multi-tenant"})",
            R"({"mounts":[{"type":"DiskImage","host":"/a","guest":"/b","format":"qcow2"}]})",
            R"({"env":[["A"]]})",
            R"({"init":{}})",
            R"({"registry_auth":5})",
            R"([])",
            R"({"name":"a"} x)",
            "",
            "not json",
        }) {
        EXPECT_TRUE(error_of([&] { parse_sandbox_config(document); }).starts_with("json error: "))
            << document;
    }
}

// Check 19 and the other aliases.
TEST(SandboxConfig, AliasesAreRewrittenInOneForm) {
    const std::string text = rewrite(
        R"({"network":{"secrets":{"secrets":[{"env_var":"A","placeholder":"p","allowed_hosts":["Any",{"Exact":"a"}],"on_violation":"block_and_terminate"}]},"tls":{"ca":{"cert_path":"/c"},"scoped_upstream_ca_certs":[{"pattern":"p","path":"q"}]}}})");
    EXPECT_NE(text.find(R"("allowed_hosts":["any",{"exact":"a"}])"), std::string::npos);
    EXPECT_NE(text.find(R"("on_violation":"block-and-terminate")"), std::string::npos);
    EXPECT_NE(text.find(R"("intercept_ca":{"cert_path":"/c","key_path":null})"), std::string::npos);
    EXPECT_NE(text.find(R"("scoped_upstream_ca_cert":[{"pattern":"p","path":"q"}])"),
              std::string::npos);
}

TEST(SandboxConfig, AddressesAreRewrittenInOneForm) {
    const std::string text = rewrite(
        R"({"network":{"interface":{"ipv6_address":"FD00::0001","ipv6_pool":"1:0:0:2:0:0:0:3/64"},"policy":{"rules":[{"direction":"egress","destination":{"cidr":"10.0.0.1"},"action":"allow"}]}}})");
    EXPECT_NE(text.find(R"("ipv6_address":"fd00::1")"), std::string::npos);
    EXPECT_NE(text.find(R"("ipv6_pool":"1:0:0:2::3/64")"), std::string::npos);
    EXPECT_NE(text.find(R"({"cidr":"10.0.0.1/32"})"), std::string::npos);
}

TEST(SandboxConfig, AbsentAndEmptySubdocumentsStayApart) {
    EXPECT_FALSE(parse_sandbox_config(R"({"network":{}})").network.policy);
    const auto empty = parse_sandbox_config(R"({"network":{"policy":{}}})");
    ASSERT_TRUE(empty.network.policy);
    EXPECT_NE(write_sandbox_config(empty).find(
                  R"("policy":{"default_egress":"deny","default_ingress":"deny","rules":[]})"),
              std::string::npos);
}

// Check 20, the part that is stored.
TEST(SandboxConfig, ValuesOfReferencedSecretsAreNotPersisted) {
    SandboxConfig config;
    config.network.secrets.emplace();
    SecretEntry reference;
    reference.env_var = "A";
    reference.value = "resolved-value";
    reference.source = SecretSource{SecretSource::Kind::kEnv, "A"};
    SecretEntry inlined = reference;
    inlined.source.reset();
    inlined.value = "literal";
    config.network.secrets->secrets = {reference, inlined};
    const std::string text = write_sandbox_config(persisted_form(config));
    EXPECT_EQ(text.find("resolved-value"), std::string::npos);
    EXPECT_NE(text.find("literal"), std::string::npos);
}

TEST(SandboxConfig, ImageDisplay) {
    EXPECT_EQ(image_display(R"({"image":{"Oci":{"reference":"alpine"}}})"), "alpine");
    EXPECT_EQ(image_display(R"({"image":{"DiskImage":{"path":"/d.raw","format":"Raw"}}})"),
              "/d.raw");
    EXPECT_EQ(image_display("{}"), "");
    EXPECT_EQ(image_display("not json"), "-");
}

TEST(SandboxConfig, DeepNestingIsRefusedNotFollowed) {
    std::string deep = R"({"x":)";
    for (int i = 0; i < 100000; ++i)
        deep += '[';
    EXPECT_NE(error_of([&] { parse_sandbox_config(deep); }), "");
}

}  // namespace
}  // namespace msb::state
