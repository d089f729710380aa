#include "agentd/network.h"

#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "agentd/netlink.h"
#include "base/error.h"
#include "base/fd.h"

namespace msb::agentd {

namespace {

constexpr const char* kResolvConf = "/etc/resolv.conf";

// Interface ioctls of netdevice(7).
class Interface {
  public:
    explicit Interface(const std::string& name)
        : name_(name), socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        if (!socket_) throw init_error("open a configuration socket: " + syscall_error_text(errno));
        if (name.size() >= IFNAMSIZ) throw init_error("interface name too long: " + name);
        name.copy(request_.ifr_name, IFNAMSIZ - 1);
        call(SIOCGIFINDEX, "SIOCGIFINDEX");
        index_ = static_cast<unsigned>(request_.ifr_ifindex);
    }

    unsigned index() const { return index_; }
    void set_mac(const std::array<std::uint8_t, 6>& mac) {
        request_.ifr_hwaddr = {};
        request_.ifr_hwaddr.sa_family = ARPHRD_ETHER;
        std::memcpy(request_.ifr_hwaddr.sa_data, mac.data(), mac.size());
        call(SIOCSIFHWADDR, "SIOCSIFHWADDR");
    }
    void set_mtu(int mtu) {
        request_.ifr_mtu = mtu;
        call(SIOCSIFMTU, "SIOCSIFMTU");
    }
    void bring_up() {
        call(SIOCGIFFLAGS, "SIOCGIFFLAGS");
        request_.ifr_flags = static_cast<short>(request_.ifr_flags | IFF_UP);
        call(SIOCSIFFLAGS, "SIOCSIFFLAGS");
    }

  private:
    void call(unsigned long command, const char* command_name) {
        if (::ioctl(socket_.get(), command, &request_) != 0)
            throw init_error(std::string(command_name) + " failed for " + name_ + ": " +
                             syscall_error_text(errno));
    }

    std::string name_;
    UniqueFd socket_;
    ifreq request_{};
    unsigned index_ = 0;
};

const char* family_name(int family) {
    return family == AF_INET ? "IPv4" : "IPv6";
}

void add_address(Netlink& netlink, const Netlink::Address& address) {
    int err = netlink.add_address(address);
    if (err == 0) return;
    throw init_error("failed to add " + std::string(family_name(address.family)) + " address " +
                     address_text(address.bytes) + "/" + std::to_string(address.prefix_len) + ": " +
                     syscall_error_text(err));
}

void add_default_route(Netlink& netlink, int family, std::span<const std::uint8_t> gateway) {
    if (int err = netlink.add_default_route(family, gateway))
        throw init_error("failed to add " + std::string(family_name(family)) +
                         " default route via " + address_text(gateway) + ": " +
                         syscall_error_text(err));
}

// Writes through a symbolic link as upstream does, but makes the directory a dangling link points
// into, and replaces a link that cannot be written through.
void write_resolv_conf(const std::string& content) {
    make_directories("/etc");
    int err = write_file(kResolvConf, content, 0644);
    if (err != 0) {
        char target[PATH_MAX];
        ssize_t n = ::readlink(kResolvConf, target, sizeof target);
        if (n > 0) {
            std::string link(target, static_cast<std::size_t>(n));
            make_directories(parent_path(link.front() == '/' ? link : "/etc/" + link));
            err = write_file(kResolvConf, content, 0644);
            if (err != 0 && ::unlink(kResolvConf) == 0)
                err = write_file(kResolvConf, content, 0644);
        }
    }
    if (err == 0 && ::chmod(kResolvConf, 0644) != 0) err = errno;
    if (err != 0)
        throw init_error("failed to write " + std::string(kResolvConf) + ": " + os_error_text(err));
}

// The kernel gives lo 127.0.0.1/8 and ::1/128 by itself when it comes up (devinet.c, addrconf.c): asking
// again over netlink would only cost time.
void set_up_loopback() {
    Interface lo("lo");
    lo.bring_up();
}

}  // namespace

std::string address_text(std::span<const std::uint8_t> bytes) {
    char text[INET6_ADDRSTRLEN];
    int family = bytes.size() == 4 ? AF_INET : AF_INET6;
    return ::inet_ntop(family, bytes.data(), text, sizeof text) == nullptr ? "" : text;
}

std::string resolv_conf(const protocol::GuestNetwork& network) {
    std::string text;
    if (network.ipv4 && network.ipv4->dns)
        text += "nameserver " + address_text(*network.ipv4->dns) + "\n";
    if (network.ipv6 && network.ipv6->dns)
        text += "nameserver " + address_text(*network.ipv6->dns) + "\n";
    return text;
}

void set_up_network(const std::optional<protocol::GuestNetwork>& network) {
    set_up_loopback();
    if (!network) return;
    Netlink netlink;
    Interface interface(network->interface);
    interface.set_mac(network->mac);
    interface.set_mtu(network->mtu);
    if (const auto& v4 = network->ipv4)
        add_address(netlink, {AF_INET, v4->address, v4->prefix_len, interface.index()});
    if (const auto& v6 = network->ipv6)
        add_address(netlink, {AF_INET6, v6->address, v6->prefix_len, interface.index()});
    interface.bring_up();
    if (network->ipv4) add_default_route(netlink, AF_INET, network->ipv4->gateway);
    if (network->ipv6) add_default_route(netlink, AF_INET6, network->ipv6->gateway);
    std::string resolvers = resolv_conf(*network);
    if (!resolvers.empty()) write_resolv_conf(resolvers);
}

}  // namespace msb::agentd
