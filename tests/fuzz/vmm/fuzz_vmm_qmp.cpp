// What a compromised engine can send: its control channel and the guest's console.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "vmm/console.h"
#include "vmm/qmp.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::vmm;
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    // In chunks whose size the input chooses: cutting into lines must not depend on it.
    const std::size_t chunk = size == 0 ? 1 : data[0] + std::size_t{1};
    QmpLineBuffer lines;
    std::string rejoined;
    for (std::size_t at = 0; at < input.size(); at += chunk) {
        if (!lines.append(input.substr(at, chunk))) return 0;
        while (const auto line = lines.next_line()) {
            rejoined += *line;
            const auto message = parse_qmp_message(*line);
            if (message && message->thread_ids.size() > kMaxQmpVcpus) std::abort();
        }
    }
    if (rejoined.size() > input.size()) std::abort();
    ConsoleWatcher watcher;
    for (std::size_t at = 0; at < input.size(); at += chunk)
        watcher.feed(input.substr(at, chunk));
    if (watcher.panic_line().size() > 512) std::abort();
    return 0;
}
