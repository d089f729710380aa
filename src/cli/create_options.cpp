#include "cli/create_options.h"

#include <algorithm>

#include "cli/values_net.h"

namespace msb::cli {

namespace {

// Files apply in the order they are named, whatever their kind.
void read_conf_files(CreateOptions& options, const Matches& matches) {
    for (const auto& occurrence : matches.occurrences()) {
        const auto scope = conf_scope(occurrence.arg->name);
        if (!scope) continue;
        for (const auto& path : occurrence.values)
            merge_conf(options.conf, read_conf(*scope, path));
    }
    check_conf(options.conf);
}

void parse_resources(CreateOptions& options, const Matches& matches) {
    const auto cpus = [&](std::string_view name) -> std::optional<std::uint8_t> {
        if (const auto count = matches.number(name)) return static_cast<std::uint8_t>(*count);
        return std::nullopt;
    };
    options.cpus = cpus("cpus");
    options.max_cpus = cpus("max-cpus");
    if (const auto size = matches.value("memory")) options.memory_mib = parse_size_mib(*size);
    if (const auto size = matches.value("max-memory"))
        options.max_memory_mib = parse_size_mib(*size);
    options.cpu_placement = matches.value("cpu-placement");
    options.placement_profile = matches.value("placement-profile");
    options.thp = matches.value("thp");
}

void parse_files(CreateOptions& options, const Matches& matches) {
    for (const auto& text : matches.values("volume"))
        options.mounts.push_back(parse_volume(text));
    for (const auto& text : matches.values("mount-dir"))
        options.mounts.push_back(parse_mount_dir(text));
    for (const auto& text : matches.values("mount-file"))
        options.mounts.push_back(parse_mount_file(text));
    for (const auto& text : matches.values("mount-disk"))
        options.mounts.push_back(parse_mount_disk(text));
    for (const auto& text : matches.values("mount-named"))
        options.mounts.push_back(parse_mount_named(text));
    for (const auto& text : matches.values("tmpfs"))
        options.mounts.push_back(parse_tmpfs(text));
    if (const auto text = matches.value("root-disk")) options.root_disk = parse_root_disk(*text);
    if (const auto text = matches.value("oci-upper-size"))
        options.root_disk = parse_root_disk(*text);
}

void parse_patches(CreateOptions& options, const Matches& matches) {
    for (const auto& text : matches.values("copy"))
        options.copies.push_back(parse_copy(text, CopyKind::kAny));
    for (const auto& text : matches.values("copy-file"))
        options.copies.push_back(parse_copy(text, CopyKind::kFile));
    for (const auto& text : matches.values("copy-dir"))
        options.copies.push_back(parse_copy(text, CopyKind::kDirectory));
    for (const auto& text : matches.values("mkdir"))
        options.mkdirs.push_back(parse_guest_path(text, "--mkdir"));
    for (const auto& text : matches.values("rm"))
        options.removals.push_back(parse_guest_path(text, "--rm"));
}

void parse_process(CreateOptions& options, const Matches& matches) {
    options.workdir = matches.value("workdir");
    options.shell = matches.value("shell");
    if (options.shell) check_shell(*options.shell);
    options.user = matches.value("user");
    options.hostname = matches.value("hostname");
    options.entrypoint = matches.value("entrypoint");
    for (const auto& text : matches.values("env"))
        options.env.push_back(parse_env(text));
    for (const auto& text : matches.values("label"))
        options.labels.push_back(parse_label(text));
    options.scripts = collect_scripts(
        matches.values("script"), matches.values("script-raw"), matches.values("script-path"),
        options.shell.value_or(options.conf.shell.value_or("/bin/sh")));
}

void parse_init(CreateOptions& options, const Matches& matches) {
    options.init = matches.value("init");
    if (!options.init) return;
    if (*options.init != "auto" && !options.init->starts_with('/'))
        fail_value("--init must be an absolute path or `auto`, got: " + *options.init);
    options.init_args = matches.values("init-arg");
    for (const auto& text : matches.values("init-env"))
        options.init_env.push_back(parse_env(text));
}

void parse_runtime(CreateOptions& options, const Matches& matches) {
    if (const auto text = matches.value("pull"))
        options.pull = parse_named(*text, "pull policy", {"always", "if-missing", "never"});
    if (const auto text = matches.value("log-level"))
        options.log_level =
            parse_named(*text, "log level", {"error", "warn", "info", "debug", "trace"});
    if (const auto text = matches.value("max-duration"))
        options.max_duration_secs = parse_seconds(*text);
    if (const auto text = matches.value("idle-timeout"))
        options.idle_timeout_secs = parse_seconds(*text);
    options.security = matches.value("security");
    options.deployment_profile = matches.value("deployment-profile");
}

// Checked and dropped: every one of these flags is refused below.
void check_network(CreateOptions& options, const Matches& matches) {
    for (const auto& text : matches.values("vsock"))
        (void)parse_vsock(text);
    for (const auto& text : matches.values("port"))
        (void)parse_port(text);
    for (const auto& text : matches.values("secret"))
        (void)parse_secret(text);
    (void)parse_net_profiles(matches.values("net"));
    for (const auto& text : matches.values("net-rule"))
        (void)parse_net_rules(text);
    for (const auto* flag : {"net-default", "net-default-egress", "net-default-ingress"})
        if (const auto text = matches.value(flag))
            (void)parse_net_default(*text, "--" + std::string(flag));
    for (const auto& text : matches.values("dns-nameserver"))
        (void)parse_nameserver(text);
    if (const auto text = matches.value("net-ipv4-pool")) (void)parse_pool(*text, false);
    if (const auto text = matches.value("net-ipv6-pool")) (void)parse_pool(*text, true);
    for (const std::string side : {"net-egress-", "net-ingress-"}) {
        if (const auto text = matches.value(side + "bandwidth"))
            (void)parse_bandwidth(*text, "--" + side + "bandwidth");
        if (const auto text = matches.value(side + "bandwidth-burst"))
            (void)parse_bandwidth(*text, "--" + side + "bandwidth-burst");
        if (const auto text = matches.value(side + "ops"))
            (void)parse_ops(*text, "--" + side + "ops");
    }
    if (const auto text = matches.value("proxy")) (void)parse_proxy(*text);
    for (const auto& text : matches.values("tls-upstream-ca-cert-for"))
        (void)parse_scoped_ca(text);
    if (const auto text = matches.value("on-secret-violation"))
        (void)parse_named(*text, "violation action",
                          {"block", "block-and-log", "block-and-terminate", "passthrough"});
    options.no_net = matches.has("no-net");
}

void refuse_later_flags(const Matches& matches) {
    for (const auto& occurrence : matches.occurrences())
        if (occurrence.arg->later)
            fail_value("`--" + std::string(occurrence.arg->name) +
                       "` is not supported by this build yet");
}

}  // namespace

CreateOptions parse_create_options(const Matches& matches) {
    CreateOptions options;
    options.image = matches.value("IMAGE");
    options.name = matches.value("name");
    read_conf_files(options, matches);
    if (!options.image && !options.conf.image && !matches.has("from-snapshot"))
        fail_value(
            "missing required sandbox field `image`; provide an image argument or set `image` in "
            "--conf");
    parse_resources(options, matches);
    options.replace = matches.has("replace") || matches.has("replace-with-timeout");
    if (const auto text = matches.value("replace-with-timeout"))
        options.replace_grace = parse_milliseconds(*text, "--replace-with-timeout");
    parse_files(options, matches);
    parse_process(options, matches);
    parse_patches(options, matches);
    parse_init(options, matches);
    parse_runtime(options, matches);
    check_network(options, matches);
    refuse_later_flags(matches);
    return options;
}

std::string ignored_creation_flags(const Matches& matches) {
    static constexpr std::string_view kNotCreation[] = {
        "IMAGE",         "COMMAND",       "name",          "quiet",
        "detach",        "tty",           "no-tty",        "timeout",
        "rlimit",        "detach-keys",   "label",         "deployment-profile",
        "net-ipv4-pool", "net-ipv6-pool", "from-snapshot", "error",
        "warn",          "info",          "debug",         "trace"};
    const bool creation =
        std::any_of(matches.occurrences().begin(), matches.occurrences().end(), [](const auto& o) {
            return std::find(std::begin(kNotCreation), std::end(kNotCreation), o.arg->name) ==
                   std::end(kNotCreation);
        });
    if (!matches.has("from-snapshot")) return creation ? "creation flags" : "";
    return creation ? "--from-snapshot and creation flags" : "--from-snapshot";
}

CommandOptions parse_command_options(const Matches& matches) {
    CommandOptions options;
    for (const auto& text : matches.values("rlimit"))
        options.rlimits.push_back(parse_rlimit(text));
    if (const auto text = matches.value("timeout")) options.timeout_secs = parse_seconds(*text);
    return options;
}

}  // namespace msb::cli
