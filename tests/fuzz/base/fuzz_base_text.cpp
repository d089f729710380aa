// Text that guests, users and other processes choose: UTF-8 repair, base64, timestamps, quoting.
#include <cstdlib>

#include "base/encoding.h"
#include "base/text.h"
#include "base/time.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    std::string repaired = msb::utf8_lossy(text);
    if (!msb::is_utf8(repaired)) std::abort();
    if (msb::is_utf8(text) && repaired != text) std::abort();
    for (msb::Base64 form : {msb::Base64::kStandardPadded, msb::Base64::kUrlUnpadded}) {
        if (msb::base64_decode(msb::base64_encode(text, form), form) != text) std::abort();
        if (auto decoded = msb::base64_decode(text, form);
            decoded && msb::base64_encode(*decoded, form) != text)
            std::abort();
    }
    if (auto moment = msb::parse_timestamp(text);
        moment && msb::parse_timestamp(msb::rfc3339_nanos(*moment)) != moment)
        std::abort();
    msb::quoted(text);
    return 0;
}
