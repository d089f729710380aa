// Pulls one image into a cache directory: what tests and benchmarks of image::pull() run as a process of its own.
//
// usage: image_pull CACHE REFERENCE [--insecure] [--always] [--never] [--force] [--ca FILE] [--user NAME:PASSWORD]
//                   [--docker-config DIRECTORY] [--events]
//
// Prints the manifest digest and "cached" or "pulled"; with --events one line per event before it. Exit status 1 and the
// error's text on standard error when the pull fails.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "image/pull.h"

namespace {

using namespace msb::image;

void print_event(const PullEvent& event) {
    std::printf("%s layer=%zu bytes=%llu\n", std::string(to_string(event.kind)).c_str(),
                event.layer_index, static_cast<unsigned long long>(event.bytes));
}

int run(const std::vector<std::string>& arguments) {
    Reference reference = parse_reference(arguments.at(1));
    PullOptions options;
    for (std::size_t i = 2; i < arguments.size(); ++i) {
        const std::string& flag = arguments[i];
        if (flag == "--insecure") {
            options.insecure_hosts.insert(reference.registry);
        } else if (flag == "--always") {
            options.policy = PullPolicy::kAlways;
        } else if (flag == "--never") {
            options.policy = PullPolicy::kNever;
        } else if (flag == "--force") {
            options.force = true;
        } else if (flag == "--events") {
            options.events = print_event;
        } else if (flag == "--ca") {
            options.ca_certificates.push_back(
                read_ca_certificates(arguments.at(++i), msb::ErrorCode::kCustom));
        } else if (flag == "--docker-config") {
            options.credentials.docker_config_directory = arguments.at(++i);
        } else if (flag == "--user") {
            const std::string& user = arguments.at(++i);
            std::size_t colon = user.find(':');
            options.credentials.explicit_credentials =
                BasicCredentials{user.substr(0, colon), user.substr(colon + 1)};
        } else {
            throw std::invalid_argument("unknown flag " + flag);
        }
    }
    Cache cache(arguments.at(0));
    PulledImage pulled = pull(cache, reference, options);
    std::printf("%s %s\n", pulled.image.manifest_digest.c_str(),
                pulled.cached ? "cached" : "pulled");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::exception& e) {
        std::fprintf(stderr, "error: %s\n", e.what());
        return 1;
    }
}
