#include "agentd/identity.h"

#include <arpa/inet.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "agentd/network.h"
#include "base/error.h"

namespace msb::agentd {

namespace {

void write_config(const std::string& path, const std::string& content) {
    int err = write_file(path, content, 0644);
    if (err == 0 && ::chmod(path.c_str(), 0644) != 0) err = errno;
    if (err != 0) throw init_error("failed to write " + path + ": " + os_error_text(err));
}

void set_hostname(const std::string& name) {
    if (::sethostname(name.data(), name.size()) != 0)
        throw init_error("sethostname(" + name + "): " + syscall_error_text(errno));
    write_config("/etc/hostname", name + "\n");
}

void make_world_writable(const std::string& path) {
    int err = make_directories(path);
    if (err == 0 && !is_directory(path)) err = ENOTDIR;
    if (err == 0 && ::chmod(path.c_str(), 01777) != 0) err = errno;
    if (err != 0) throw init_error("failed to set up " + path + ": " + os_error_text(err));
}

}  // namespace

std::string hosts_file(const protocol::Bootstrap& bootstrap) {
    std::string own = bootstrap.hostname ? " " + *bootstrap.hostname : "";
    std::string text = "127.0.0.1\tlocalhost" + own + "\n" +
                       "::1\tlocalhost ip6-localhost ip6-loopback" + own + "\n";
    if (bootstrap.host_alias && bootstrap.network) {
        const protocol::GuestNetwork& network = *bootstrap.network;
        if (network.ipv4)
            text += address_text(network.ipv4->gateway) + "\t" + *bootstrap.host_alias + "\n";
        if (network.ipv6)
            text += address_text(network.ipv6->gateway) + "\t" + *bootstrap.host_alias + "\n";
    }
    text +=
        "fe00::\tip6-localnet\n"
        "ff00::\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\n"
        "ff02::2\tip6-allrouters\n";
    return text;
}

void set_up_identity(const protocol::Bootstrap& bootstrap) {
    if (int err = make_directories("/etc"))
        throw init_error("failed to create /etc: " + os_error_text(err));
    write_config("/etc/hosts", hosts_file(bootstrap));
    if (bootstrap.hostname) set_hostname(*bootstrap.hostname);
    make_world_writable("/tmp");
    make_world_writable("/var/tmp");
}

}  // namespace msb::agentd
