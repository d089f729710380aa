// A stored configuration document as list, status and inspect show it. Documents come from the database, which other
// versions write too: what is missing or of another type shows as its default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace msb::cli {

struct MountView {
    std::string guest;
    std::string text;  // "disk:P (raw) [auto] (rw)"
};

struct ConfigView {
    std::string image = "-";
    bool oci = false;
    std::string root_disk;  // "" = none to show
    std::string command;    // entrypoint and cmd, joined by blanks; "" = none
    std::uint64_t cpus = 1;
    std::uint64_t max_cpus = 1;
    std::uint64_t memory_mib = 512;
    std::uint64_t max_memory_mib = 512;
    std::string cpu_placement = "inherit";
    std::string thp = "madvise";
    std::string security = "default";
    std::string deployment = "single-tenant";
    std::optional<std::string> workdir;
    std::optional<std::string> shell;
    std::vector<std::string> env;     // "K=V", in stored order
    std::vector<std::string> labels;  // "K=V", sorted
    std::vector<MountView> mounts;
    std::vector<std::string> ports;  // "127.0.0.1:8080->80/tcp"
};

// Never throws: an unreadable document gives the defaults.
ConfigView view_config(const std::string& json);

}  // namespace msb::cli
