// Loads and saves image archives in a cache directory: what tests and benchmarks of image::load_archive() and
// save_archive() run as a process of its own.
//
// usage: image_archive load CACHE FILE|- [--tag REFERENCE]... [--events]
//        image_archive save CACHE docker|oci FILE|- REFERENCE...
//
// load prints "REFERENCE MANIFEST-DIGEST cached|loaded" for each reference; with --events one line per event before it.
// Exit status 1 and the error's text on standard error when something fails.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "image/archive.h"

namespace {

using namespace msb::image;
using Arguments = std::vector<std::string>;

void print_event(const PullEvent& event) {
    std::printf("%s layer=%zu/%zu bytes=%llu\n", std::string(to_string(event.kind)).c_str(),
                event.layer_index, event.layer_count, static_cast<unsigned long long>(event.bytes));
}

void load(const Arguments& arguments) {
    LoadOptions options;
    for (std::size_t i = 3; i < arguments.size(); ++i) {
        if (arguments[i] == "--events") {
            options.events = print_event;
        } else if (arguments[i] == "--tag") {
            options.tags.push_back(arguments.at(++i));
        } else {
            throw std::invalid_argument("unknown flag " + arguments[i]);
        }
    }
    Cache cache(arguments.at(1));
    const std::string& file = arguments.at(2);
    auto loaded = file == "-" ? load_archive(cache, STDIN_FILENO, options)
                              : load_archive(cache, std::filesystem::path(file), options);
    for (const LoadedReference& one : loaded)
        std::printf("%s %s %s\n", one.reference.c_str(), one.image->manifest_digest.c_str(),
                    one.cached ? "cached" : "loaded");
}

void save(const Arguments& arguments) {
    Cache cache(arguments.at(1));
    ArchiveFormat format = arguments.at(2) == "oci" ? ArchiveFormat::kOci : ArchiveFormat::kDocker;
    const std::string& file = arguments.at(3);
    auto images = find_images_to_save(cache, Arguments(arguments.begin() + 4, arguments.end()));
    if (file == "-") {
        save_archive(cache, images, format, STDOUT_FILENO);
    } else {
        save_archive(cache, images, format, std::filesystem::path(file));
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    Arguments arguments(argv + 1, argv + argc);
    try {
        if (arguments.at(0) == "load") {
            load(arguments);
        } else {
            save(arguments);
        }
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "error: %s\n", e.what());
        return 1;
    }
}
