#include "agentd/resolver.h"

#include <netdb.h>
#include <nss.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace msb::agentd {

namespace {

std::expected<std::vector<SocketAddress>, int> look_up(const std::string& host, std::uint16_t port,
                                                       int flags) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
    if (error != 0) return std::unexpected(error);
    std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
    std::vector<SocketAddress> addresses;
    for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
        SocketAddress address;
        if (entry->ai_addrlen > sizeof address.storage) continue;
        std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
        address.size = entry->ai_addrlen;
        addresses.push_back(address);
    }
    return addresses;
}

// "files" and "dns" are part of a static libc; anything else an image's nsswitch.conf names would be
// loaded from that image, whose libc need not be ours.
void confine_name_services() {
    [[maybe_unused]] static const int once = __nss_configure_lookup("hosts", "files dns");
}

}  // namespace

std::vector<SocketAddress> numeric_address(const std::string& host, std::uint16_t port) {
    return look_up(host, port, AI_NUMERICHOST).value_or(std::vector<SocketAddress>());
}

std::expected<std::vector<SocketAddress>, std::string> resolve(const std::string& host,
                                                               std::uint16_t port) {
    if (host.find('\0') != std::string::npos)
        return std::unexpected("file name contained an unexpected NUL byte");
    confine_name_services();
    auto addresses = look_up(host, port, 0);
    if (addresses && !addresses->empty()) return std::move(*addresses);
    int error = addresses ? EAI_NONAME : addresses.error();
    if (error == EAI_SYSTEM) return std::unexpected(os_error_text(errno));
    return std::unexpected("failed to lookup address information: " +
                           std::string(::gai_strerror(error)));
}

}  // namespace msb::agentd
