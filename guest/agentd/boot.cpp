#include "agentd/boot.h"

#include <unistd.h>

#include <functional>
#include <string_view>

#include "agentd/entropy.h"
#include "agentd/failure.h"
#include "agentd/handoff.h"
#include "agentd/identity.h"
#include "agentd/mounts.h"
#include "agentd/network.h"
#include "agentd/rlimits.h"
#include "agentd/root.h"
#include "agentd/trust.h"
#include "agentd/user_mounts.h"
#include "base/time.h"
#include "protocol/bootstrap_rules.h"

namespace msb::agentd {

namespace {

// Runs one stage of the boot; its failure is the last thing this process says.
template <class Stage>
auto stage(std::string_view name, Stage run) {
    try {
        return run();
    } catch (const std::exception& error) {
        log_line(std::string(name) + " failed: " + error.what());
        ::_exit(1);
    }
}

void validate(const protocol::Bootstrap& bootstrap) {
    if (auto broken = protocol::validate_bootstrap(bootstrap)) throw config_error(*broken);
}

void send_default_user(BootChannel& channel, const protocol::Bootstrap& bootstrap) {
    protocol::DefaultUser root;
    // Without a user there is nothing to look up, and the first read of a file on the new root would
    // only delay the answer.
    if (!bootstrap.user) return channel.send(protocol::InitResolved{.default_user = root});
    Identity user = resolve_identity(std::nullopt, bootstrap.user);
    channel.send(protocol::InitResolved{.default_user = {.uid = user.uid, .gid = user.gid}});
}

void initialise(BootChannel& channel, const protocol::Bootstrap& bootstrap, Booted& booted) {
    apply_sandbox_rlimits(bootstrap.rlimits);
    // With a root of its own the guest gets its essentials there; /dev, /proc and /sys, which
    // assembling needs, are mounted already.
    if (!bootstrap.block_root) mount_essential();
    mount_runtime_directory(bootstrap);
    UniqueFd runtime_directory;
    if (bootstrap.block_root) {
        booted.upper_fs = assemble_root(*bootstrap.block_root);
        runtime_directory = enter_new_root();
    }
    send_default_user(channel, bootstrap);
    // The host answers while this goes on: the first directory made on a disk alone costs 13 ms under emulation.
    if (bootstrap.block_root) furnish_new_root(runtime_directory);
    std::vector<UserMount> mounts = plan_user_mounts(bootstrap);
    channel.receive_init_ack();
    mount_user_mounts(mounts);
    set_up_identity(bootstrap);
    set_up_network(bootstrap.network);
    install_certificates(booted.config.environment);
    set_up_shell_and_run();
}

}  // namespace

Booted boot() {
    stage("early init", [] { mount_early(); });
    BootChannel channel(stage("console open", [] { return open_port(kAgentPort); }));
    Booted booted;
    booted.runtime_port = open_optional_port(kRuntimePort);
    protocol::Bootstrap bootstrap =
        stage("bootstrap receive", [&] { return channel.receive_bootstrap(); });
    mix_entropy(bootstrap.entropy);
    stage("bootstrap validation", [&] { validate(bootstrap); });
    booted.config.environment =
        agent_environment(Environment::from(environ), bootstrap.default_env);
    booted.config.user = bootstrap.user;
    booted.config.default_cwd = bootstrap.default_cwd;
    booted.config.restricted = bootstrap.security_profile == protocol::SecurityProfile::kRestricted;
    booted.config.handed_off = bootstrap.handoff_init.has_value();

    std::int64_t start = boottime_ns();
    stage("init", [&] { initialise(channel, bootstrap, booted); });
    booted.init_time_ns = static_cast<std::uint64_t>(boottime_ns() - start);
    if (bootstrap.handoff_init)
        stage("handoff", [&] { hand_off(*bootstrap.handoff_init, booted.config.environment); });
    booted.reader = std::move(channel.reader());
    booted.port = channel.release_port();
    return booted;
}

}  // namespace msb::agentd
