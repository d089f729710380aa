// registry login, logout, list (spec/cli.md section 8, spec/images.md section 3.2).
//
// Like upstream's released Linux binary this build has no keyring, so `login` has nowhere to keep a password. It says so,
// and what to do instead; it asks for none that it could not keep.
#include <string.h>
#include <unistd.h>

#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "cli/commands/commands.h"
#include "cli/spinner.h"
#include "cli/style.h"
#include "cli/values.h"
#include "state/global_config.h"
#include "state/global_config_writer.h"
#include "state/home.h"

namespace msb::cli {

namespace {

constexpr std::size_t kMaxPassword = 64 * 1024;

std::string no_keyring(const std::string& registry) {
    return "secure OS credential storage is disabled; enable the `keyring` feature to use it for "
           "`" +
           registry + "`";
}

// Everything up to the end of standard input without the line breaks at its end.
void check_password_on_stdin() {
    std::string password;
    try {
        password = read_to_end(STDIN_FILENO, kMaxPassword);
    } catch (const Error&) {
        fail_value("failed to read password from stdin");
    }
    const bool empty = password.find_last_not_of("\r\n") == std::string::npos;
    ::explicit_bzero(password.data(), password.size());
    if (empty) fail_value("password/token cannot be empty");
}

std::string_view source_of(const state::RegistryAuth& auth) {
    std::vector<std::string_view> sources;
    if (auth.store) sources.emplace_back("keyring");
    if (auth.password_env) sources.emplace_back("password_env");
    if (auth.secret_name) sources.emplace_back("secret_name");
    if (sources.empty()) return "unset";
    return sources.size() == 1 ? sources.front() : "multiple";
}

}  // namespace

int registry_login_command(const Matches& matches) {
    const std::string registry = matches.value("REGISTRY").value();
    if (matches.has("password-stdin")) check_password_on_stdin();
    const auto secrets = state::load_local_config().home_paths().secrets() / "registries";
    print_block(
        "secure credential storage is unavailable for `" + registry + "`: " + no_keyring(registry),
        {"put the password into a file `" + (secrets / "NAME").string() + "` of mode 0600",
         "and name it in `" + state::config_file_path().string() +
             "`: {\"registries\":{\"hosts\":{\"" + registry + "\":{\"auth\":{\"username\":\"" +
             matches.value("username").value() + "\",\"secret_name\":\"NAME\"}}}}}",
         "or log in with `docker login` or `skopeo login`: ~/.docker/config.json is read too"});
    return 1;
}

int registry_logout_command(const Matches& matches) {
    const std::string registry = matches.value("REGISTRY").value();
    const auto file = state::config_file_path();
    const auto hosts = state::load_local_config_strict(file).registry_hosts;
    const auto host = hosts.find(registry);
    if (host == hosts.end() || !host->second.auth) {
        print_warning("no stored registry credentials found for `" + printable(registry) + "`");
        return 0;
    }
    // A build with a keyring has put the password there; the entry is what leads to it.
    if (host->second.auth->store) fail_value(no_keyring(registry));
    state::remove_registry_auth(file, registry);
    print_done("Logged out", registry, "");
    return 0;
}

int registry_list_command(const Matches&) {
    const auto config = state::load_local_config_strict(state::config_file_path());
    std::vector<std::vector<Cell>> rows;
    for (const auto& [registry, host] : config.registry_hosts)
        if (host.auth)
            rows.push_back({{printable(registry)},
                            {printable(host.auth->username)},
                            {std::string(source_of(*host.auth))}});
    write_out(rows.empty() ? "No registries configured.\n"
                           : render_table({"REGISTRY", "USERNAME", "SOURCE"}, rows));
    return 0;
}

}  // namespace msb::cli
