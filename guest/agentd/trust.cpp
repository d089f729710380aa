#include "agentd/trust.h"

#include <array>
#include <cerrno>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/error.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

constexpr std::array kAnchorDirectories = {"/usr/local/share/ca-certificates",
                                           "/etc/pki/ca-trust/source/anchors"};
constexpr std::array kBundles = {"/etc/ssl/certs/ca-certificates.crt",
                                 "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
constexpr const char* kInterceptionCa = "/.msb/tls/ca.pem";
constexpr const char* kHostCas = "/.msb/tls/host-cas.pem";

constexpr std::string_view kBlockBegin = "# >>> microsandbox scripts path >>>";
constexpr std::string_view kBlockEnd = "# <<< microsandbox scripts path <<<";
constexpr std::string_view kBlockBody =
    "case \":$PATH:\" in\n"
    "  *:/.msb/scripts:*) ;;\n"
    "  *) export PATH=\"/.msb/scripts:$PATH\" ;;\n"
    "esac\n";

void place_anchors(const std::string& pem, const std::string& stem) {
    for (const char* directory : kAnchorDirectories) {
        int err = make_directories(directory);
        for (const char* suffix : {".pem", ".crt"}) {
            if (err == 0) err = write_file(std::string(directory) + "/" + stem + suffix, pem, 0644);
        }
        if (err != 0)
            log_line("cannot place " + stem + " in " + directory + ": " + os_error_text(err));
    }
}

std::string bundle_path() {
    for (const char* bundle : kBundles) {
        if (exists(bundle)) return bundle;
    }
    return kBundles.front();
}

void append_to_bundle(const std::string& path, std::string_view pem) {
    auto current = read_regular(path);
    if (!current && current.error() != ENOENT)
        throw init_error("failed to read " + path + ": " + os_error_text(current.error()));
    std::string bundle = current.value_or(std::string());
    std::string extended = with_certificates(bundle, pem);
    std::string_view added = std::string_view(extended).substr(bundle.size());
    int err = make_directories(parent_path(path));
    if (err == 0 && !added.empty()) err = append_file(path, added, 0644);
    if (err != 0) throw init_error("failed to append to " + path + ": " + os_error_text(err));
}

// False when the host sent no such file.
bool install(const char* source, const std::string& stem, const std::string& bundle) {
    auto pem = read_regular(source);
    if (!pem) return false;
    place_anchors(*pem, stem);
    append_to_bundle(bundle, *pem);
    return true;
}

}  // namespace

std::string with_certificates(std::string_view bundle, std::string_view pem) {
    std::string result(bundle);
    std::string_view body = trim(pem);
    if (body.empty() || bundle.find(body) != std::string_view::npos) return result;
    if (!result.empty() && result.back() != '\n') result += '\n';
    result += pem;
    if (result.back() != '\n') result += '\n';
    return result;
}

void install_certificates(Environment& environment) {
    if (!exists(kInterceptionCa) && !exists(kHostCas)) return;
    std::string bundle = bundle_path();
    if (install(kInterceptionCa, "microsandbox-ca", bundle)) {
        for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
            environment.set(name, bundle);
        environment.set("NODE_EXTRA_CA_CERTS", kInterceptionCa);
    }
    install(kHostCas, "microsandbox-host-cas", bundle);
}

std::string with_scripts_block(std::string_view profile) {
    std::string result(profile);
    if (profile.find(kBlockBegin) != std::string_view::npos &&
        profile.find(kBlockEnd) != std::string_view::npos)
        return result;
    if (!result.empty() && result.back() != '\n') result += '\n';
    result +=
        std::string(kBlockBegin) + "\n" + std::string(kBlockBody) + std::string(kBlockEnd) + "\n";
    return result;
}

void set_up_shell_and_run() {
    int err = make_directories("/etc");
    auto profile = read_regular("/etc/profile");
    if (err == 0 && !profile && profile.error() != ENOENT) err = profile.error();
    if (err == 0) {
        std::string current = profile.value_or(std::string());
        std::string wanted = with_scripts_block(current);
        if (wanted != current)
            err =
                append_file("/etc/profile", std::string_view(wanted).substr(current.size()), 0644);
    }
    if (err != 0) throw init_error("failed to update /etc/profile: " + os_error_text(err));
    for (const char* directory : {"/run", "/run/microsandbox"}) {
        if (int failed = make_directories(directory))
            throw init_error("failed to create " + std::string(directory) + ": " +
                             os_error_text(failed));
    }
}

}  // namespace msb::agentd
