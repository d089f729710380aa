// Files of the guest that the agent reads as root: passwd, group, the mount table, superblocks, PATH,
// profile, certificate bundles, CPU lists. The first byte chooses the parser.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agentd/cpus.h"
#include "agentd/devices.h"
#include "agentd/environment.h"
#include "agentd/teardown.h"
#include "agentd/trust.h"
#include "agentd/users.h"

namespace {

using namespace msb::agentd;

void require(bool condition) {
    if (!condition) std::abort();
}

void users(std::string_view text) {
    if (auto entry = passwd_by_uid(text, 1000)) require(entry->uid == 1000);
    if (auto entry = passwd_by_name(text, "alice")) require(entry->name == "alice");
    group_by_name(text, "wheel");
    require(supplementary_groups(text, "alice", 7).front() == 7);
}

void mounts(std::string_view text) {
    for (const MountEntry& entry : parse_mounts(text))
        holds_data(entry.type);
    block_filesystems(text);
}

void texts(std::string_view text) {
    std::string profile = with_scripts_block(text);
    require(with_scripts_block(profile) == profile);
    require(profile.starts_with(text));
    std::string path = with_scripts_directory(text);
    require(with_scripts_directory(path) == path);
    executable_candidates("ls", text);
    std::string bundle = with_certificates("OLD\n", text);
    require(with_certificates(bundle, text) == bundle);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 5) {
        case 0:
            users(text);
            break;
        case 1:
            mounts(text);
            break;
        case 2:
            detect_filesystem(std::as_bytes(std::span(text.data(), text.size())));
            break;
        case 3:
            texts(text);
            break;
        default:
            count_cpus(text);
            break;
    }
    return 0;
}
