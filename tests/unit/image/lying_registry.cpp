#include "lying_registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <stdexcept>

#include "base/hash.h"
#include "base/text.h"

namespace msb::image::testing {

namespace {

// MSG_NOSIGNAL: clients of these tests hang up at any time.
bool send_all(int fd, std::string_view data) {
    while (!data.empty()) {
        ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
        if (n <= 0) return false;
        data.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

std::optional<std::string> read_head(int fd) {
    std::string head;
    char c = 0;
    while (!head.ends_with("\r\n\r\n")) {
        if (::recv(fd, &c, 1, 0) != 1) return std::nullopt;
        head += c;
    }
    return head;
}

Request parse_request(const std::string& head) {
    Request request;
    std::vector<std::string_view> lines = split(head, '\n');
    request.path = std::string(split(lines[0], ' ').at(1));
    for (std::string_view line : std::span(lines).subspan(1)) {
        std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        std::string name(line.substr(0, colon));
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
        request.headers[name] = trim(line.substr(colon + 1));
    }
    return request;
}

}  // namespace

HttpServer::HttpServer(Handler handler)
    : handler_(std::move(handler)),
      listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      stopped_(::eventfd(0, EFD_CLOEXEC)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), raw, length) != 0 || ::listen(listener_.get(), 64) != 0 ||
        ::getsockname(listener_.get(), raw, &length) != 0)
        throw std::runtime_error("cannot listen on loopback");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_loop(); });
}

HttpServer::~HttpServer() {
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(stopped_.get(), &one, sizeof one);
    acceptor_.join();
    {
        std::lock_guard guard(mutex_);
        for (int fd : open_)
            ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& connection : connections_)
        connection.join();
}

void HttpServer::accept_loop() {
    for (;;) {
        pollfd fds[] = {{listener_.get(), POLLIN, 0}, {stopped_.get(), POLLIN, 0}};
        if (::poll(fds, 2, -1) < 0) continue;
        if (fds[1].revents != 0) return;
        int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) continue;
        std::lock_guard guard(mutex_);
        open_.insert(fd);
        connections_.emplace_back([this, fd] { serve(fd); });
    }
}

void HttpServer::serve(int fd) {
    while (auto head = read_head(fd)) {
        Request request = parse_request(*head);
        {
            std::lock_guard guard(mutex_);
            request.count = counts_[request.path]++;
            requests_.push_back(request);
        }
        if (!answer(fd, request)) break;
    }
    std::lock_guard guard(mutex_);
    open_.erase(fd);
    ::close(fd);
}

bool HttpServer::answer(int fd, const Request& request) {
    Reply reply = handler_(request);
    std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Whatever\r\n";
    for (const std::string& header : reply.headers)
        head += header + "\r\n";
    if (reply.endless)
        head += "Connection: close\r\n";
    else
        head += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
    if (!send_all(fd, head + "\r\n")) return false;
    if (reply.endless) {
        while (send_all(fd, reply.body)) {
        }
        return false;
    }
    std::string_view body = reply.body;
    if (!send_all(fd, body.substr(0, reply.cut_after.value_or(body.size())))) return false;
    if (reply.stall) {
        // Until the client gives up or the test ends.
        pollfd fds[] = {{fd, POLLIN | POLLRDHUP, 0}, {stopped_.get(), POLLIN, 0}};
        ::poll(fds, 2, -1);
        return false;
    }
    return !reply.cut_after;
}

std::vector<Request> HttpServer::requests() const {
    std::lock_guard guard(mutex_);
    return requests_;
}

std::vector<std::string> HttpServer::paths() const {
    std::vector<std::string> paths;
    for (const Request& request : requests())
        paths.push_back(request.path);
    return paths;
}

std::string sha256_digest(std::string_view text) {
    return "sha256:" + sha256_hex(text);
}

std::string make_layer(std::string_view name, std::size_t size, unsigned seed) {
    std::string header(512, '\0');
    auto field = [&](std::size_t at, std::string_view text) {
        header.replace(at, text.size(), text);
    };
    char octal[16];
    std::snprintf(octal, sizeof octal, "%011zo", size);
    field(0, name);
    field(100, "0000644");
    field(108, "0000000");
    field(116, "0000000");
    field(124, octal);
    field(136, "14524770400");
    field(148, "        ");
    field(156, "0");
    field(257, std::string_view("ustar\00000", 8));
    unsigned sum = 0;
    for (char c : header)
        sum += static_cast<unsigned char>(c);
    std::snprintf(octal, sizeof octal, "%06o", sum);
    field(148, std::string_view(octal, 7));
    std::mt19937 random(seed);
    std::string data(size, '\0');
    std::ranges::generate(data, [&] { return static_cast<char>(random()); });
    data.resize((size + 511) / 512 * 512, '\0');
    return header + data + std::string(1024, '\0');
}

TestImage make_image(std::vector<std::string> layers) {
    TestImage image;
    std::string diff_ids;
    std::string descriptors;
    for (const std::string& layer : layers) {
        const char* comma = diff_ids.empty() ? "" : ",";
        diff_ids += comma + ("\"" + sha256_digest(layer) + "\"");
        descriptors +=
            comma +
            std::string(R"({"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":")") +
            sha256_digest(layer) + R"(","size":)" + std::to_string(layer.size()) + "}";
    }
    image.config =
        R"({"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[)" +
        diff_ids + "]}}";
    image.manifest =
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
        sha256_digest(image.config) + R"(","size":)" + std::to_string(image.config.size()) +
        R"(},"layers":[)" + descriptors + "]}";
    image.manifest_digest = sha256_digest(image.manifest);
    image.layers = std::move(layers);
    return image;
}

LyingRegistry::LyingRegistry(TestImage held, Lie lie)
    : image(std::move(held)), lie_(std::move(lie)), server([this](const Request& request) {
          if (lie_) {
              if (auto reply = lie_(request)) return *reply;
          }
          return honest(request);
      }) {}

std::string LyingRegistry::blob_path(std::size_t layer) const {
    return "/v2/repo/blobs/" + sha256_digest(image.layers.at(layer));
}

Reply LyingRegistry::honest(const Request& request) const {
    if (auto it = extra.find(request.path); it != extra.end()) return it->second;
    if (request.path == "/v2/") return {200, {}, "{}", {}, false, false};
    if (request.path == "/v2/repo/manifests/latest" ||
        request.path == "/v2/repo/manifests/" + image.manifest_digest)
        return {
            200,  {"Docker-Content-Digest: " + image.manifest_digest}, image.manifest, {}, false,
            false};
    if (request.path == "/v2/repo/blobs/" + sha256_digest(image.config))
        return {200, {}, image.config, {}, false, false};
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
        if (request.path != blob_path(i)) continue;
        std::string range = request.header("range");
        if (range.empty()) return {200, {}, image.layers[i], {}, false, false};
        std::size_t from = std::stoul(range.substr(6));
        std::string size = std::to_string(image.layers[i].size());
        if (from >= image.layers[i].size())
            return {416, {"Content-Range: bytes */" + size}, "", {}, false, false};
        return {206,
                {"Content-Range: bytes " + std::to_string(from) + "-" +
                 std::to_string(image.layers[i].size() - 1) + "/" + size},
                image.layers[i].substr(from),
                {},
                false,
                false};
    }
    return {404, {},    R"({"errors":[{"code":"NOT_FOUND","message":"no such thing"}]})",
            {},  false, false};
}

}  // namespace msb::image::testing
