// The few rtnetlink requests the agent makes (rtnetlink(7)): add an address, add a default route.
#pragma once

#include <cstdint>
#include <span>

#include "base/fd.h"

namespace msb::agentd {

class Netlink {
  public:
    // open() failed: every request returns that errno.
    Netlink();

    struct Address {
        int family;                           // AF_INET or AF_INET6
        std::span<const std::uint8_t> bytes;  // 4 or 16, network order
        std::uint8_t prefix_len;
        unsigned interface_index;
    };
    // 0 or the errno (EEXIST when it is there already).
    int add_address(const Address& address);
    int add_default_route(int family, std::span<const std::uint8_t> gateway);

  private:
    struct Request;
    int transact(Request& request);

    UniqueFd socket_;
    int open_error_ = 0;
    std::uint32_t sequence_ = 0;
};

}  // namespace msb::agentd
