// Configuration files (spec/state.md section 12). The error texts were observed on upstream's 0.6.18.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "cli/conf/conf_file.h"
#include "cli/conf/yaml.h"
#include "value_error.h"

namespace msb::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::StartsWith;
namespace fs = std::filesystem;

class ConfTest : public ::testing::Test {
  protected:
    ConfTest() {
        std::string pattern = "/tmp/msb-conf-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
    }
    ~ConfTest() override { fs::remove_all(directory_); }

    std::string file(const std::string& text, const std::string& name = "c.yaml") {
        const fs::path path = directory_ / name;
        std::ofstream(path, std::ios::binary) << text;
        return path;
    }
    SandboxConf read(const std::string& text, ConfScope scope = ConfScope::kRoot) {
        return read_conf(scope, file(text));
    }
    // The message without the part that names the file.
    std::string error(const std::string& text, ConfScope scope = ConfScope::kRoot) {
        std::string message = error_of([&] { check_conf(read(text, scope)); });
        const std::string path = directory_ / "c.yaml";
        for (std::size_t at; (at = message.find(path)) != std::string::npos;)
            message.replace(at, path.size(), "F");
        return message;
    }
    // ... and of a wrong shape also without "invalid sandbox configuration F: ".
    std::string shape(const std::string& text, ConfScope scope = ConfScope::kRoot) {
        const std::string message = error(text, scope);
        const std::size_t at = message.find(" F: ");
        EXPECT_TRUE(message.starts_with("invalid ") && at != std::string::npos) << message;
        return message.substr(at + 4);
    }

    fs::path directory_;
};

TEST_F(ConfTest, EveryFieldOfARootFile) {
    ::setenv("CONF_TEST_VALUE", "from the host", 1);
    ::setenv("CONF_TEST_PASSWORD", "p", 1);
    const SandboxConf conf = read(R"(
image: {oci: busybox, upper_size: 1.5G}
pull_policy: never
registry: {username: u, password_env: CONF_TEST_PASSWORD}
cpus: 2
memory: "64"
max_duration: 5m
idle_timeout: "30"
rlimits:
  - {resource: NOFILE, soft: 100}
  - {resource: nproc, soft: 1, hard: 2}
workdir: /srv
shell: ash
user: nobody
hostname: hh
security: restricted
entrypoint: [/bin/busybox]
cmd: [sh, -c, "echo ${CONF_TEST_VALUE} $HOME"]
env: {B: "1", A: yes}
labels: {z: "1", a: ""}
init: {cmd: auto, args: [a], env: {K: v}}
mounts:
  - ./d:/mnt/d:ro
  - {target: /t, tmpfs: {size: 64M}, noexec: true}
  - {target: /v, disk: v.img, format: raw, fstype: ext4}
patches:
  - {text: {path: /x, content: "${CONF_TEST_VALUE}", mode: "0600", replace: true}}
  - {file: {path: /b, content_base64: aGk=}}
  - {copy_file: {src: ./f, dst: /f}}
  - {mkdir: {path: /y, mode: "0700"}}
scripts: {go: echo hi}
network: none
)");
    EXPECT_EQ(conf.image->kind, ConfImage::Kind::kOci);
    EXPECT_EQ(conf.image->text, "busybox");
    EXPECT_EQ(conf.image->upper_size_mib, 1536u);
    EXPECT_EQ(conf.pull_policy, microsandbox::PullPolicy::kNever);
    EXPECT_EQ(conf.registry->password, "p");
    EXPECT_EQ(conf.cpus, 2);
    EXPECT_EQ(conf.memory_mib, 64u);
    EXPECT_EQ(conf.max_duration_secs, 300u);
    EXPECT_EQ(conf.idle_timeout_secs, 30u);
    ASSERT_EQ(conf.rlimits->size(), 2u);
    EXPECT_EQ(conf.rlimits->at(0).resource, "nofile");
    EXPECT_EQ(conf.rlimits->at(0).hard, 100u);
    EXPECT_EQ(conf.rlimits->at(1).hard, 2u);
    EXPECT_EQ(conf.security, "restricted");
    EXPECT_THAT(*conf.cmd, ElementsAre("sh", "-c", "echo from the host $HOME"));
    EXPECT_THAT(conf.env, ElementsAre(Pair("A", "yes"), Pair("B", "1")));
    EXPECT_THAT(conf.labels, ElementsAre(Pair("a", ""), Pair("z", "1")));
    EXPECT_EQ(conf.init->cmd, "auto");
    ASSERT_EQ(conf.mounts->size(), 3u);
    EXPECT_EQ(conf.mounts->at(0).source, directory_.string() + "/./d");
    EXPECT_TRUE(conf.mounts->at(0).readonly);
    EXPECT_EQ(conf.mounts->at(1).size_mib, 64u);
    EXPECT_TRUE(conf.mounts->at(1).noexec);
    EXPECT_EQ(conf.mounts->at(2).source, directory_.string() + "/v.img");
    ASSERT_EQ(conf.patches->size(), 4u);
    const auto& text = std::get<microsandbox::PatchText>(conf.patches->at(0));
    EXPECT_EQ(text.content, "from the host");
    EXPECT_EQ(text.mode, 0600u);
    EXPECT_TRUE(text.replace);
    EXPECT_EQ(std::get<microsandbox::PatchFile>(conf.patches->at(1)).content, "hi");
    EXPECT_EQ(std::get<microsandbox::PatchCopyFile>(conf.patches->at(2)).source,
              directory_.string() + "/./f");
    EXPECT_EQ(conf.network_off, true);
    EXPECT_EQ(script_with_shebang(conf.scripts.at("go"), *conf.shell),
              "#!/usr/bin/env ash\necho hi\n");
    EXPECT_EQ(script_with_shebang("x\n", "/bin/sh"), "#!/bin/sh\nx\n");
}

TEST_F(ConfTest, ImagesThatAreTextOrPaths) {
    EXPECT_EQ(read("image: alpine\n").image->text, "alpine");
    EXPECT_EQ(read("image: ./root.raw\n").image->text, directory_.string() + "/./root.raw");
    EXPECT_EQ(read("image: /abs\n").image->text, "/abs");
    EXPECT_EQ(read("{\"image\": {\"bind\": \"d\"}}").image->text, directory_.string() + "/d")
        << "JSON is YAML";
    EXPECT_FALSE(read("image: null\ncpus: 1\n").image) << "null is absent";
}

TEST_F(ConfTest, StrictYaml) {
    EXPECT_EQ(error("a: &x 1\nb: *x\n"), "F:1:4: YAML anchors and aliases are not supported");
    EXPECT_EQ(error("image: !foo bar\n"), "F:1:8: custom YAML tags are not supported");
    EXPECT_EQ(read("image: !!str 5\n").image->text, "5");
    EXPECT_THAT(error("<<: {a: 1}\n"),
                StartsWith("invalid sandbox configuration F: error: line 1 column 1: "));
    EXPECT_THAT(error("image: x\nimage: y\n"),
                HasSubstr("line 2 column 1: duplicate mapping key: image"));
    EXPECT_THAT(error("image: x\n---\nimage: y\n"), HasSubstr("line 2 column 1: "));
    EXPECT_THAT(error("a: [\n"), StartsWith("invalid YAML in F: "));
    EXPECT_THAT(error("image: \"\xff\"\n"), StartsWith("invalid YAML in F: "));
    EXPECT_THAT(error(std::string(200, '[')), HasSubstr("nesting too deep"));
    EXPECT_THAT(error("cmd: [" + std::string(300'000, ',') + "]"), StartsWith("invalid YAML"));
    std::string many = "cmd: [";
    for (int i = 0; i < 100'001; ++i)
        many += "x,";
    EXPECT_THAT(error(many + "x]"), HasSubstr("too many nodes"));
    EXPECT_EQ(error(std::string((16 << 20) + 1, '#')),
              "sandbox configuration F exceeds the 16 MiB input limit");
}

TEST_F(ConfTest, TypesAreStrict) {
    EXPECT_EQ(shape("memory: 512\n"), "invalid type: integer `512`, expected a string");
    EXPECT_EQ(shape("cpus: \"2\"\n"), "invalid type: string \"2\", expected u8");
    EXPECT_EQ(shape("cpus: 1.5\n"), "invalid type: floating point `1.5`, expected u8");
    EXPECT_EQ(shape("cpus: 999\n"), "invalid value: integer `999`, expected u8");
    EXPECT_EQ(shape("cpus: -1\n"), "invalid value: integer `-1`, expected u8");
    EXPECT_EQ(read("cpus: 0x10\n").cpus, 16);
    EXPECT_EQ(shape("env: {A: true}\n"), "invalid type: boolean `true`, expected a string");
    EXPECT_EQ(shape("labels: [a]\n"), "invalid type: sequence, expected a map");
    EXPECT_EQ(shape("entrypoint: x\n"), "invalid type: string \"x\", expected a sequence");
    EXPECT_EQ(shape(""), "invalid type: null, expected struct SandboxConfigInput");
    EXPECT_EQ(shape("# only a comment\n", ConfScope::kScripts),
              "invalid type: null, expected a map");
    EXPECT_EQ(shape("security: high\n"),
              "unknown variant `high`, expected `default` or `restricted`");
    EXPECT_EQ(shape("zz: 1\n", ConfScope::kFiles),
              "unknown field `zz`, expected one of `mounts`, `patch_files`, `patches`");
    EXPECT_EQ(shape("rlimits: [{resource: nofile}]\n"), "missing field `soft`");
    EXPECT_EQ(shape("image: [1]\n"), "data did not match any variant of untagged enum ImageInput");
    EXPECT_EQ(shape("mounts: [5]\n"), "data did not match any variant of untagged enum MountInput");
    EXPECT_EQ(shape("network: foo\n"),
              "data did not match any variant of untagged enum NetworkInput");
    EXPECT_EQ(shape("patches: [{foo: {}}]\n"),
              "unknown variant `foo`, expected one of `text`, `file`, `copy_file`, `copy_dir`, "
              "`symlink`, `mkdir`, `remove`, `append`");
    EXPECT_EQ(shape("patches: [{remove: {zz: 1}}]\n"), "unknown field `zz`, expected `path`");
    EXPECT_EQ(shape("image: \"${CONF_TEST_UNSET}\"\n"),
              "environment variable \"CONF_TEST_UNSET\" is not set");
    EXPECT_EQ(shape("image: \"${A-b}\"\n"),
              "unsupported environment expression `${A-b}`; only `${NAME}` is allowed");
    EXPECT_EQ(shape("image: \"${A\"\n"), "unclosed environment reference in \"${A\"");
}

TEST_F(ConfTest, RulesBeyondShapes) {
    EXPECT_EQ(error("image: {oci: a, disk: b}\n"),
              "image object must contain exactly one of `oci`, `snapshot`, `disk`, or `bind`");
    EXPECT_EQ(error("image: {bind: x, fstype: y}\n"), "image.fstype is only valid with image.disk");
    EXPECT_EQ(error("sandboxes: {}\n"),
              "F: `sandboxes` is project-only and is not valid in sandbox configuration; use `msb "
              "compose --conf F` for a Composefile");
    EXPECT_EQ(error("network: {}\n", ConfScope::kNetwork),
              "F: --net-conf expects the contents without a `network:` wrapper; use --conf for a "
              "root-shaped file");
    EXPECT_EQ(error("registry: {username: a}\n"),
              "registry.username and registry.password_env must be specified together");
    EXPECT_EQ(error("rlimits: [{resource: foo, soft: 1}]\n"), "unknown rlimit resource: foo");
    EXPECT_EQ(error("memory: 1.5X\n"),
              "memory: invalid size (expected e.g. 512M, 1G): invalid digit found in string");
    EXPECT_EQ(error("mounts: [{bind: a}]\n"), "mount.target is required");
    EXPECT_EQ(error("mounts: [{target: x, bind: a}]\n"),
              "mount.target must be an absolute guest path, got \"x\"");
    EXPECT_EQ(error("mounts: [{target: /x, bind: a, uid: 1}]\n"),
              "mount.uid and mount.gid must be specified together");
    EXPECT_EQ(error("patches: [{text: {path: /x, content: y, mode: \"644\"}}]\n"),
              "mode must be a quoted four-digit octal string such as \"0644\"");
    EXPECT_EQ(error("scripts: {a/b: x}\n"),
              "script name \"a/b\" must be a single non-empty filename");
    EXPECT_EQ(error("init: {args: [a]}\n"),
              "init.cmd is required when init configuration is present");
    EXPECT_EQ(error("init: {cmd: foo}\n"),
              "init.cmd must be an absolute guest path or `auto`, got \"foo\"");
    EXPECT_THAT(error("ports: [\"80:80\"]\n"), HasSubstr("not supported by this build yet"));
    EXPECT_EQ(
        error_of([] { read_conf(ConfScope::kRoot, "/nonexist"); }),
        "failed to read sandbox configuration /nonexist: No such file or directory (os error 2)");
}

TEST_F(ConfTest, PatchFiles) {
    file("patches: [{mkdir: {path: /one}}]\n", "p.yaml");
    const SandboxConf conf = read("patch_files: [p.yaml]\npatches: [{mkdir: {path: /two}}]\n");
    ASSERT_EQ(conf.patches->size(), 2u);
    EXPECT_EQ(std::get<microsandbox::PatchMkdir>(conf.patches->at(0)).path, "/one");
    file("zz: 1\n", "p.yaml");
    EXPECT_THAT(error("patch_files: [p.yaml]\n"),
                HasSubstr("p.yaml: unknown field `zz`, expected `patches`"));
}

TEST_F(ConfTest, LaterFilesWin) {
    SandboxConf base =
        read("cpus: 1\nenv: {A: a, B: b}\ncmd: [x, y]\ninit: {cmd: auto, args: [a]}\n");
    merge_conf(base, read("memory: 64M\nenv: {B: c, C: d}\ncmd: [z]\ninit: {args: [b]}\n"));
    EXPECT_EQ(base.cpus, 1);
    EXPECT_EQ(base.memory_mib, 64u);
    EXPECT_THAT(base.env, ElementsAre(Pair("A", "a"), Pair("B", "c"), Pair("C", "d")));
    EXPECT_THAT(*base.cmd, ElementsAre("z"));
    EXPECT_EQ(base.init->cmd, "auto");
    EXPECT_THAT(*base.init->args, ElementsAre("b"));
}

TEST_F(ConfTest, ScopesOfFlags) {
    EXPECT_EQ(conf_scope("conf"), ConfScope::kRoot);
    EXPECT_EQ(conf_scope("script-conf"), ConfScope::kScripts);
    EXPECT_EQ(conf_scope("config"), std::nullopt);
}

}  // namespace
}  // namespace msb::cli
