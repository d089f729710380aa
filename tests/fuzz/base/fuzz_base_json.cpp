// Strict JSON: whatever parses must print and parse again to the same value.
#include <cstdlib>

#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    msb::json::Value value;
    try {
        value = msb::json::parse(text);
    } catch (const msb::json::ParseError&) {
        return 0;
    }
    std::string printed = msb::json::dump(value);
    if (msb::json::dump(msb::json::parse(printed)) != printed) std::abort();
    return 0;
}
