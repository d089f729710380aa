#include "agentd/netlink.h"

#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace msb::agentd {

namespace {

constexpr std::uint16_t kCreate = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
constexpr std::size_t kMaxAttributes = 64;  // two IPv6 attributes with headers: 40

}  // namespace

struct Netlink::Request {
    nlmsghdr header{};
    union {
        ifaddrmsg address;
        rtmsg route;
    } body{};
    std::array<std::byte, kMaxAttributes> attributes{};

    // `body_size` is NLMSG_ALIGNed for both bodies (8 and 12 bytes), so attributes follow directly.
    Request(std::uint16_t type, std::size_t body_size) {
        header.nlmsg_type = type;
        header.nlmsg_flags = kCreate;
        header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_LENGTH(body_size));
    }
    void add(std::uint16_t type, std::span<const std::uint8_t> value) {
        auto* at = reinterpret_cast<std::byte*>(this) + NLMSG_ALIGN(header.nlmsg_len);
        rtattr attribute{static_cast<std::uint16_t>(RTA_LENGTH(value.size())), type};
        std::memcpy(at, &attribute, sizeof attribute);
        std::memcpy(at + RTA_LENGTH(0), value.data(), value.size());
        header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_ALIGN(header.nlmsg_len) +
                                                      RTA_ALIGN(attribute.rta_len));
    }
};

Netlink::Netlink() : socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {
    if (!socket_) open_error_ = errno;
}

int Netlink::transact(Request& request) {
    if (open_error_ != 0) return open_error_;
    request.header.nlmsg_seq = ++sequence_;
    if (::send(socket_.get(), &request, request.header.nlmsg_len, 0) < 0) return errno;
    std::array<char, 4096> answer;
    for (;;) {
        ssize_t n = ::recv(socket_.get(), answer.data(), answer.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        nlmsghdr header;
        nlmsgerr error;
        if (static_cast<std::size_t>(n) < sizeof header + sizeof error) return EBADMSG;
        std::memcpy(&header, answer.data(), sizeof header);
        if (header.nlmsg_type != NLMSG_ERROR || header.nlmsg_seq != sequence_) continue;
        std::memcpy(&error, answer.data() + NLMSG_HDRLEN, sizeof error);
        return -error.error;
    }
}

int Netlink::add_address(const Address& address) {
    Request request(RTM_NEWADDR, sizeof(ifaddrmsg));
    request.body.address.ifa_family = static_cast<std::uint8_t>(address.family);
    request.body.address.ifa_prefixlen = address.prefix_len;
    request.body.address.ifa_scope = RT_SCOPE_UNIVERSE;
    request.body.address.ifa_index = address.interface_index;
    request.add(IFA_ADDRESS, address.bytes);
    if (address.family == AF_INET)
        request.add(IFA_LOCAL, address.bytes);
    else
        request.body.address.ifa_flags =
            IFA_F_NODAD;  // the peer is the VMM: nobody to collide with
    return transact(request);
}

int Netlink::add_default_route(int family, std::span<const std::uint8_t> gateway) {
    Request request(RTM_NEWROUTE, sizeof(rtmsg));
    request.body.route.rtm_family = static_cast<std::uint8_t>(family);
    request.body.route.rtm_table = RT_TABLE_MAIN;
    request.body.route.rtm_protocol = RTPROT_BOOT;
    request.body.route.rtm_scope = RT_SCOPE_UNIVERSE;
    request.body.route.rtm_type = RTN_UNICAST;
    request.add(RTA_GATEWAY, gateway);
    return transact(request);
}

}  // namespace msb::agentd
