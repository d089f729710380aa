// Names to addresses, from the guest's /etc/hosts and /etc/resolv.conf.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

namespace msb::agentd {

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;
    int family() const { return storage.ss_family; }
};

// An address in numbers needs no look-up and never blocks; empty for anything else.
std::vector<SocketAddress> numeric_address(const std::string& host, std::uint16_t port);

// Blocks for as long as the guest's resolvers take: worker threads only. The error is the text behind
// "connect H:P: ".
std::expected<std::vector<SocketAddress>, std::string> resolve(const std::string& host,
                                                               std::uint16_t port);

}  // namespace msb::agentd
