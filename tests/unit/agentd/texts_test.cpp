// Pure texts and tables: hosts, resolv.conf, profile block, certificates, errors, limits, heartbeat.
#include <gmock/gmock.h>

#include <cerrno>

#include "agentd/clock.h"
#include "agentd/cpus.h"
#include "agentd/exec_error.h"
#include "agentd/fs_service.h"
#include "agentd/identity.h"
#include "agentd/network.h"
#include "agentd/rlimits.h"
#include "agentd/runtime_channel.h"
#include "agentd/trust.h"

namespace msb::agentd {
namespace {

protocol::GuestNetwork network() {
    protocol::GuestNetwork result;
    result.interface = "eth0";
    result.ipv4 = protocol::Ipv4Config{.address = {100, 96, 0, 2},
                                       .prefix_len = 30,
                                       .gateway = {100, 96, 0, 1},
                                       .dns = {{100, 96, 0, 1}}};
    result.ipv6 = protocol::Ipv6Config{};
    result.ipv6->gateway = {0xfd, 0x42, 0x6d, 0x73, 0, 0x62, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    result.ipv6->dns = result.ipv6->gateway;
    return result;
}

TEST(Hosts, EightLinesOfTheSpec) {  // conformance check 18
    protocol::Bootstrap bootstrap;
    bootstrap.hostname = "worker-01";
    bootstrap.host_alias = "host.microsandbox.internal";
    bootstrap.network = network();
    EXPECT_EQ(hosts_file(bootstrap),
              "127.0.0.1\tlocalhost worker-01\n"
              "::1\tlocalhost ip6-localhost ip6-loopback worker-01\n"
              "100.96.0.1\thost.microsandbox.internal\n"
              "fd42:6d73:62::1\thost.microsandbox.internal\n"
              "fe00::\tip6-localnet\n"
              "ff00::\tip6-mcastprefix\n"
              "ff02::1\tip6-allnodes\n"
              "ff02::2\tip6-allrouters\n");
    EXPECT_TRUE(hosts_file({}).starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"));
}

TEST(ResolvConf, OneLinePerFamily) {
    EXPECT_EQ(resolv_conf(network()), "nameserver 100.96.0.1\nnameserver fd42:6d73:62::1\n");
    EXPECT_EQ(resolv_conf({}), "");
}

TEST(Profile, BlockIsAddedOnce) {
    std::string once = with_scripts_block("umask 022");
    EXPECT_TRUE(
        once.starts_with("umask 022\n# >>> microsandbox scripts path >>>\ncase \":$PATH:\" in\n"));
    EXPECT_TRUE(once.ends_with("esac\n# <<< microsandbox scripts path <<<\n"));
    EXPECT_EQ(with_scripts_block(once), once);
}

TEST(Certificates, AppendedWithANewlineAndNotTwice) {
    EXPECT_EQ(with_certificates("OLD", "NEW\n"), "OLD\nNEW\n");
    EXPECT_EQ(with_certificates("", "NEW"), "NEW\n");
    EXPECT_EQ(with_certificates("OLD\nNEW\n", "NEW\n"), "OLD\nNEW\n");
    EXPECT_EQ(with_certificates("OLD\n", " \n"), "OLD\n");
}

TEST(ExecErrors, KindsOfErrnoValues) {
    using enum protocol::ExecFailedKind;
    const std::pair<int, protocol::ExecFailedKind> table[] = {{ENOENT, kNotFound},
                                                              {ENOTDIR, kBadCwd},
                                                              {EACCES, kPermissionDenied},
                                                              {EPERM, kPermissionDenied},
                                                              {ENOEXEC, kNotExecutable},
                                                              {EISDIR, kNotExecutable},
                                                              {ETXTBSY, kNotExecutable},
                                                              {E2BIG, kBadArgs},
                                                              {ELOOP, kBadArgs},
                                                              {ENAMETOOLONG, kBadArgs},
                                                              {EFAULT, kBadArgs},
                                                              {EMFILE, kResourceLimit},
                                                              {ENFILE, kResourceLimit},
                                                              {EAGAIN, kResourceLimit},
                                                              {ENOMEM, kOutOfMemory},
                                                              {EINVAL, kOther},
                                                              {EIO, kOther}};
    for (auto [err, kind] : table)
        EXPECT_EQ(exec_failed_kind(err), kind) << err;
}

TEST(ExecErrors, NamesOnlyWhereUpstreamHasThem) {
    protocol::ExecFailed failed = spawn_failure(ENOENT, "a\"b", "execvp");
    EXPECT_EQ(failed.message, "spawn \"a\\\"b\": No such file or directory (os error 2)");
    EXPECT_EQ(failed.errno_name, "ENOENT");
    EXPECT_EQ(failed.stage, "execvp");
    EXPECT_EQ(spawn_failure(EDOM, "x", "execvp").errno_name, std::nullopt);
    EXPECT_EQ(stdin_failure(EPIPE).message, "io error: Broken pipe (os error 32)");
    EXPECT_EQ(stdin_failure(EPIPE).errno_name, "EPIPE");
    EXPECT_EQ(stdin_failure(ENOENT).errno_name, std::nullopt);
}

TEST(Rlimits, NamesAreCaseInsensitiveAndNumbered) {
    EXPECT_EQ(rlimit_number("cpu"), 0);
    EXPECT_EQ(rlimit_number("NoFile"), RLIMIT_NOFILE);
    EXPECT_EQ(rlimit_number("rttime"), 15);
    EXPECT_EQ(rlimit_number("files"), std::nullopt);
    auto limits = resource_limits({{"bogus", 1, 2}, {"AS", 3, 4}});
    ASSERT_EQ(limits.size(), 1u);
    EXPECT_EQ(limits[0].resource, static_cast<int>(RLIMIT_AS));
}

TEST(Heartbeat, JsonInTheOrderOfTheSpec) {
    protocol::RuntimeHeartbeat beat{.heartbeat_seq = 1,
                                    .activity_seq = 56,
                                    .timestamp_ns = 1'763'766'561'822'049'210,
                                    .last_activity_ns = 1'763'766'561'000'000'000,
                                    .active_exec_sessions = 2,
                                    .active_fs_streams = 0,
                                    .active_tcp_streams = 1,
                                    .activity_counters = {14, 42, 583, 0, 7}};
    EXPECT_EQ(heartbeat_json(beat),
              "{\"heartbeat_seq\":1,\"activity_seq\":56,"
              "\"timestamp\":\"2025-11-21T23:09:21.822049210Z\","
              "\"last_activity\":\"2025-11-21T23:09:21Z\","
              "\"active_exec_sessions\":2,\"active_fs_streams\":0,\"active_tcp_streams\":1,"
              "\"activity_counters\":{\"host_messages\":14,\"guest_messages\":42,"
              "\"exec_output_bytes\":583,\"fs_bytes\":0,\"tcp_bytes\":7}}");
}

TEST(Cpus, ListsAreCounted) {
    EXPECT_EQ(count_cpus("0\n"), 1u);
    EXPECT_EQ(count_cpus("0-2,5,7-8\n"), 6u);
    EXPECT_EQ(count_cpus(""), 0u);
    EXPECT_EQ(count_cpus("3-1"), 0u);
    EXPECT_EQ(count_cpus("0-99999999"), 0u);
}

TEST(Clock, StepsOnlyBeyondAHundredMilliseconds) {
    EXPECT_FALSE(clock_needs_step(1'000'000'000, 1'100'000'000));
    EXPECT_TRUE(clock_needs_step(1'000'000'000, 1'100'000'001));
    EXPECT_TRUE(clock_needs_step(1'000'000'000, 0));
    EXPECT_FALSE(clock_needs_step(0, UINT64_MAX));  // no such time
}

TEST(FsService, SlotsOfIds) {  // conformance check 21
    EXPECT_EQ(relay_slot(0), kNoSlot);
    EXPECT_EQ(relay_slot(1), 0u);
    EXPECT_EQ(relay_slot(33554431), 0u);
    EXPECT_EQ(relay_slot(33554432), 1u);
}

}  // namespace
}  // namespace msb::agentd
