#include "image/credentials.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "base/encoding.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "image/http.h"

namespace msb::image {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// ---- config.json

BasicCredentials read_configured(const ConfiguredAuth& auth, const std::string& registry,
                                 const fs::path& secrets) {
    auto fail = [&](const std::string& what) {
        throw Error(ErrorCode::kInvalidConfig, "registry auth for " + registry + ": " + what);
    };
    int sources =
        auth.store.has_value() + auth.password_env.has_value() + auth.secret_name.has_value();
    if (sources == 0) fail("entry has no credential source");
    if (sources > 1) fail("entry defines multiple credential sources");
    if (auth.store) {
        // As upstream's published Linux binaries: built without an OS keyring.
        throw Error(ErrorCode::kInvalidConfig,
                    "secure OS credential storage is disabled; enable the `keyring` feature to use "
                    "it for `" +
                        registry + "`");
    }
    if (auth.password_env) {
        const char* value = std::getenv(auth.password_env->c_str());
        if (value == nullptr) fail("environment variable `" + *auth.password_env + "` is not set");
        return {auth.username, value};
    }
    fs::path path = secrets / *auth.secret_name;
    if (auth.secret_name->empty() || auth.secret_name->contains('/') || *auth.secret_name == "." ||
        *auth.secret_name == "..")
        fail("failed to read secret `" + path.string() + "`: the name is not a plain file name");
    try {
        std::string secret = read_file(path, kMaxSecretBytes);
        return {auth.username, std::string(trim(secret))};
    } catch (const Error& e) {
        fail("failed to read secret `" + path.string() + "`: " + e.detail());
    }
    return {};
}

// ---- Docker's config.json and its helpers

std::vector<std::string> docker_keys(const std::string& registry) {
    std::vector<std::string> keys{registry, "https://" + registry};
    if (registry == "docker.io" || registry == "index.docker.io" ||
        registry == "registry-1.docker.io") {
        for (const char* key :
             {"index.docker.io", "https://index.docker.io", "https://index.docker.io/v1/",
              "registry-1.docker.io", "https://registry-1.docker.io"}) {
            if (std::ranges::find(keys, key) == keys.end()) keys.emplace_back(key);
        }
    }
    return keys;
}

std::optional<fs::path> docker_config_file(const CredentialSources& sources) {
    if (sources.docker_config_directory) return *sources.docker_config_directory / "config.json";
    const char* directory = std::getenv("DOCKER_CONFIG");
    if (directory != nullptr && *directory != '\0') return fs::path(directory) / "config.json";
    const char* home = std::getenv("HOME");
    if (home == nullptr || *home == '\0') return std::nullopt;
    return fs::path(home) / ".docker/config.json";
}

std::optional<std::string> find_program(const std::string& name) {
    const char* path = std::getenv("PATH");
    for (std::string_view directory : split(path == nullptr ? "/usr/bin:/bin" : path, ':')) {
        if (!directory.starts_with('/')) continue;
        std::string candidate = std::string(directory) + "/" + name;
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    return std::nullopt;
}

// A helper process in a session of its own; gone, with its children, when this is.
class Helper {
  public:
    Helper(const std::string& program, const std::string& input) {
        PipeFds in = make_pipe();
        PipeFds out = make_pipe();
        SpawnOptions options;
        options.argv = {program, "get"};
        options.fds = {{in.read.get(), 0}, {out.write.get(), 1}};
        options.new_session = true;
        options.reset_signals = true;
        pid_ = spawn(options);
        output_ = std::move(out.read);
        in.read.reset();
        // A key is far smaller than a pipe's buffer: this does not wait. A helper that has closed its end must not
        // kill us with SIGPIPE, so the signal is swallowed here.
        sigset_t pipe_signal;
        sigset_t before;
        ::sigemptyset(&pipe_signal);
        ::sigaddset(&pipe_signal, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
        if (write_all(in.write.get(), input) == EPIPE) {
            timespec now{};
            ::sigtimedwait(&pipe_signal, nullptr, &now);
        }
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    Helper(const Helper&) = delete;
    ~Helper() {
        if (pid_ > 0) wait();
    }

    // What it wrote, if it ended well in time.
    std::optional<std::string> output(Clock::time_point deadline, const std::stop_token& stop) {
        std::string text;
        std::array<char, 4096> buffer;
        for (;;) {
            if (stop.stop_requested()) throw_cancelled();
            auto left =
                std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
            if (left.count() <= 0) return std::nullopt;
            pollfd ready{output_.get(), POLLIN, 0};
            int timeout = static_cast<int>(std::min<std::int64_t>(left.count(), 100));
            if (::poll(&ready, 1, timeout) <= 0) continue;
            ssize_t n = ::read(output_.get(), buffer.data(), buffer.size());
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return std::nullopt;
            if (n == 0) break;
            text.append(buffer.data(), static_cast<std::size_t>(n));
            if (text.size() > kMaxHelperOutput) return std::nullopt;
        }
        return exited_well(deadline, stop) ? std::optional(text) : std::nullopt;
    }

  private:
    // Its output has ended; the process itself may still linger.
    bool exited_well(Clock::time_point deadline, const std::stop_token& stop) {
        while (Clock::now() < deadline && !stop.stop_requested()) {
            siginfo_t info{};
            if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
                return false;
            if (info.si_pid == pid_) return wait() == 0;
            ::poll(nullptr, 0, 5);
        }
        return false;
    }

    int wait() {
        // It leads its own process group, and until it is reaped here the number is its own.
        ::kill(-pid_, SIGKILL);
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return status;
    }

    pid_t pid_ = -1;
    UniqueFd output_;
};

// nullopt: it has none, gives an identity token, or failed.
std::optional<BasicCredentials> ask_helper(const std::string& name, const std::string& key,
                                           const CredentialSources& sources,
                                           const std::stop_token& stop) {
    auto refuse = [&](std::string_view why) -> std::optional<BasicCredentials> {
        log(LogLevel::kWarn, "image::credentials", "docker-credential-{} for {}: {}", name, key,
            why);
        return std::nullopt;
    };
    bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("._-").contains(c);
    });
    if (!plain) return refuse("not a helper's name");
    std::optional<std::string> program = find_program("docker-credential-" + name);
    if (!program) return refuse("not found on PATH");
    try {
        Helper helper(*program, key);
        std::optional<std::string> output =
            helper.output(Clock::now() + sources.helper_timeout, stop);
        if (!output) return refuse("failed, or took too long");
        json::Value value = json::parse(*output);
        json::Reader reader(value, "credential");
        BasicCredentials credentials{reader.string("Username"), reader.string("Secret")};
        if (credentials.username == "<token>") return refuse("gives an identity token");
        return credentials;
    } catch (const json::ParseError&) {
        return refuse("gave no credential");
    } catch (const Error& e) {
        if (e.code() == ErrorCode::kCancelled) throw;
        return refuse(e.detail());
    }
}

// "user:password" in base64, or the two members beside it.
std::optional<BasicCredentials> read_auth_entry(const json::Value& entry) {
    json::Reader reader(entry, "AuthConfig");
    if (auto encoded = reader.optional_string("auth"); encoded && !encoded->empty()) {
        std::optional<std::string> decoded = base64_decode(*encoded);
        if (!decoded) return std::nullopt;
        while (decoded->ends_with('\0'))
            decoded->pop_back();
        std::size_t colon = decoded->find(':');
        if (colon == std::string::npos) return std::nullopt;
        return BasicCredentials{decoded->substr(0, colon), decoded->substr(colon + 1)};
    }
    auto username = reader.optional_string("username");
    auto password = reader.optional_string("password");
    if (username && password) return BasicCredentials{*username, *password};
    return std::nullopt;
}

std::optional<BasicCredentials> from_docker_config(const json::Value& config,
                                                   const std::string& key,
                                                   const CredentialSources& sources,
                                                   const std::stop_token& stop) {
    json::Reader reader(config, "DockerConfig");
    if (reader.has("credHelpers")) {
        json::Reader helpers(reader.raw("credHelpers"), "a map");
        if (auto name = helpers.optional_string(key)) return ask_helper(*name, key, sources, stop);
    }
    if (reader.has("auths")) {
        json::Reader auths(reader.raw("auths"), "a map");
        if (auths.has(key)) {
            json::Reader entry(auths.raw(key), "AuthConfig");
            auto identity = entry.optional_string("identitytoken");
            if (identity && !identity->empty()) return std::nullopt;
            if (auto found = read_auth_entry(auths.raw(key))) return found;
        }
    }
    auto store = reader.optional_string("credsStore");
    if (store && !store->empty()) return ask_helper(*store, key, sources, stop);
    return std::nullopt;
}

std::optional<BasicCredentials> from_docker(const CredentialSources& sources,
                                            const std::string& registry,
                                            const std::stop_token& stop) {
    std::optional<fs::path> path = docker_config_file(sources);
    std::error_code ec;
    if (!path || !fs::exists(*path, ec)) return std::nullopt;
    try {
        json::Value config = json::parse(read_file(*path, kMaxDockerConfigBytes));
        for (const std::string& key : docker_keys(registry)) {
            if (auto found = from_docker_config(config, key, sources, stop)) return found;
        }
    } catch (const json::ParseError& e) {
        log(LogLevel::kWarn, "image::credentials", "{}: {}", path->string(), e.what());
    } catch (const Error& e) {
        if (e.code() == ErrorCode::kCancelled) throw;
        log(LogLevel::kWarn, "image::credentials", "{}: {}", path->string(), e.detail());
    }
    return std::nullopt;
}

}  // namespace

std::optional<BasicCredentials> resolve_credentials(const CredentialSources& sources,
                                                    const std::string& registry,
                                                    std::stop_token stop) {
    if (sources.explicit_credentials) return sources.explicit_credentials;
    if (sources.anonymous) return std::nullopt;
    auto configured = sources.configured.find(registry);
    if (configured != sources.configured.end())
        return read_configured(configured->second, registry, sources.secrets_directory);
    return from_docker(sources, registry, stop);
}

}  // namespace msb::image
