// tree_list ROOT [SKIP...]: every entry below ROOT, one line each, in byte order; what is mounted there and what SKIP names
// (paths relative to ROOT, with all below) is left out. Runs on the host and, as it is static, as the only file of a guest;
// equal trees give equal lists.
//
//   path type mode uid gid size content links rdev target xattrs
//
// Bytes outside [!-~] are %XX. `content` is FNV-1a-64 of the bytes of a file; `links` is the first path of a file with
// several names, "-" else.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "tree_list: %s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(1);
}

std::string escaped(const std::string& text) {
    std::string out;
    for (unsigned char c : text) {
        if (c > ' ' && c < 0x7f && c != '%') {
            out += static_cast<char>(c);
        } else {
            char hex[4];
            std::snprintf(hex, sizeof hex, "%%%02X", c);
            out += hex;
        }
    }
    return out.empty() ? "-" : out;
}

std::string content_hash(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) fail(path);
    std::uint64_t hash = 0xcbf29ce484222325;
    static unsigned char buffer[65536];
    ssize_t n = 0;
    while ((n = ::read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; ++i)
            hash = (hash ^ buffer[i]) * 0x100000001b3;
    if (n < 0) fail(path);
    ::close(fd);
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    return text;
}

// "name=value,..." sorted; overlayfs' own ones are not part of the tree.
std::string xattrs(const std::string& path) {
    ssize_t size = ::llistxattr(path.c_str(), nullptr, 0);
    if (size <= 0) return "-";
    std::string names(static_cast<std::size_t>(size), '\0');
    size = ::llistxattr(path.c_str(), names.data(), names.size());
    if (size < 0) fail(path);
    std::map<std::string, std::string> found;
    for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
        const std::string name(names.c_str() + at);
        at += name.size() + 1;
        if (name.starts_with("trusted.overlay.") || name == "security.selinux") continue;
        char value[65536];
        const ssize_t length = ::lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
        if (length < 0) fail(path + " " + name);
        found[name].assign(value, static_cast<std::size_t>(length));
    }
    std::string text;
    for (const auto& [name, value] : found)
        text += (text.empty() ? "" : ",") + escaped(name) + "=" + escaped(value);
    return text.empty() ? "-" : text;
}

struct Lister {
    std::string root;
    std::set<std::string> skip;
    dev_t device = 0;
    std::map<ino_t, std::string> first_name;

    void entry(const std::string& relative) {
        const std::string path = root + "/" + relative;
        struct stat info{};
        if (::lstat(path.c_str(), &info) != 0) fail(path);
        const bool directory = S_ISDIR(info.st_mode);
        // A mount. (On an overlay, files that are no directories have the device of their layer.)
        if (directory && info.st_dev != device) return;
        const bool file = S_ISREG(info.st_mode);
        std::string links = "-";
        if (!directory && info.st_nlink > 1)
            links = first_name.emplace(info.st_ino, relative).first->second;
        std::string target = "-";
        if (S_ISLNK(info.st_mode)) {
            char text[4097];
            const ssize_t n = ::readlink(path.c_str(), text, sizeof text);
            if (n < 0) fail(path);
            target.assign(text, static_cast<std::size_t>(n));
        }
        const bool device_node = S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode);
        std::printf("%s %o %o %u %u %lld %s %s %u:%u %s %s\n", escaped(relative).c_str(),
                    info.st_mode & S_IFMT, info.st_mode & 07777, info.st_uid, info.st_gid,
                    directory ? 0LL : static_cast<long long>(info.st_size),
                    file ? content_hash(path).c_str() : "-", escaped(links).c_str(),
                    device_node ? major(info.st_rdev) : 0, device_node ? minor(info.st_rdev) : 0,
                    escaped(target).c_str(), xattrs(path).c_str());
        if (directory) children(relative);
    }

    void children(const std::string& relative) {
        const std::string path = root + "/" + relative;
        DIR* stream = ::opendir(path.c_str());
        if (stream == nullptr) fail(path);
        std::vector<std::string> names;
        while (const dirent* found = ::readdir(stream)) {
            const std::string name = found->d_name;
            if (name != "." && name != "..") names.push_back(name);
        }
        ::closedir(stream);
        std::sort(names.begin(), names.end());
        for (const std::string& name : names) {
            const std::string child = relative.empty() ? name : relative + "/" + name;
            if (!skip.contains(child)) entry(child);
        }
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: tree_list ROOT [SKIP...]\n");
        return 2;
    }
    Lister lister;
    lister.root = argv[1];
    for (int i = 2; i < argc; ++i)
        lister.skip.insert(argv[i]);
    struct stat info{};
    if (::lstat(argv[1], &info) != 0) fail(argv[1]);
    lister.device = info.st_dev;
    lister.children("");
    return 0;
}
