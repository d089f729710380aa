// spec/sandbox-process.md section 11, conformance checks 9 and 10.
#include "contract/boot_error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/fd.h"
#include "base/hash.h"

namespace msb::contract {
namespace {

TEST(BootError, StagesOfTheVectors) {
    EXPECT_EQ(boot_error_stage("build VM: x"), "build_vm");
    EXPECT_EQ(boot_error_stage("VM enter: q"), "build_vm");
    EXPECT_EQ(boot_error_stage("bind 0.0.0.0:80: Address already in use"), "network");
    EXPECT_EQ(boot_error_stage("initialize network: y"), "network");
    EXPECT_EQ(boot_error_stage("database connect: x"), "config");
    EXPECT_EQ(boot_error_stage("insert run: database error: no such table: run"), "config");
    EXPECT_EQ(boot_error_stage("disk d: host path not found: /x"), "other");
    EXPECT_EQ(boot_error_stage("rootfs: z"), "image");
    EXPECT_EQ(boot_error_stage("disk format: I/O error: unknown disk image format: x"), "image");
    EXPECT_EQ(boot_error_stage("mount data_1: No such file or directory (os error 2)"), "mount");
    EXPECT_EQ(boot_error_stage(
                  "--mount \"t:/tmp:ro,rw\": mount option `ro`/`rw` specified more than once"),
              "other");
}

TEST(BootError, ErrnoIsTheLastOneInTheText) {
    EXPECT_EQ(boot_error_errno("a (os error 13): b (os error 2)"), 2);
    EXPECT_EQ(boot_error_errno("no number"), std::nullopt);
    EXPECT_EQ(boot_error_errno("(os error x)"), std::nullopt);
    EXPECT_EQ(boot_error_errno("(os error 99999999999)"), std::nullopt);
    EXPECT_EQ(make_boot_error("x (os error 5)").errno_value, 5);
    EXPECT_EQ(make_boot_error("x (os error 5)", 7).errno_value, 7);
}

TEST(BootError, GoldenFile) {
    const BootError error{.time = "2026-11-21T22:51:05.161Z",
                          .stage = "image",
                          .errno_value = 2,
                          .message = "rootfs: No such file or directory (os error 2)"};
    const std::string text = boot_error_json(error);
    EXPECT_EQ(text.size(), 134u);
    EXPECT_EQ(sha256_hex(text), "0e8e753042f6db3d1f8d9026537a7c378715b68a562aa6c2b0a565756c5393bc");
    EXPECT_EQ(parse_boot_error(text), error);
    EXPECT_EQ(parse_boot_error(boot_error_json_compact(error)), error);
}

TEST(BootError, FileIsReplacedWholeAndReadBack) {
    char pattern[] = "/tmp/runtime-boot-XXXXXX";
    const std::filesystem::path directory = ::mkdtemp(pattern);
    EXPECT_EQ(read_boot_error(directory), std::nullopt);
    const BootError first = make_boot_error("rootfs: a"), second = make_boot_error("mount t: b");
    write_boot_error(directory, first);
    write_boot_error(directory, second);
    EXPECT_EQ(read_boot_error(directory), second);
    EXPECT_FALSE(std::filesystem::exists(directory / "boot-error.json.tmp"));
    std::ofstream(directory / kBootErrorFile) << "{\"t\":";
    EXPECT_EQ(read_boot_error(directory), std::nullopt);
    remove_boot_error(directory);
    EXPECT_FALSE(std::filesystem::exists(directory / kBootErrorFile));
    std::filesystem::remove_all(directory);
}

TEST(BootError, Hints) {
    EXPECT_EQ(boot_error_hint({"", "mount", ENOENT, ""}),
              "the host path for one of the mounts does not exist");
    EXPECT_EQ(boot_error_hint({"", "image", ENOENT, ""}),
              "rootfs not found — try `msb pull <image>` first");
    EXPECT_EQ(boot_error_hint({"", "network", EADDRINUSE, ""}),
              "a port is already bound — try a different host port or stop the other process");
    EXPECT_EQ(boot_error_hint({"", "other", ENOENT, ""}), std::nullopt);
}

}  // namespace
}  // namespace msb::contract
