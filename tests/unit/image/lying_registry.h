// A registry on loopback that does what a test tells it: an HTTP/1.1 server whose every answer can be bent.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace msb::image::testing {

struct Request {
    std::string path;                            // with its query
    std::map<std::string, std::string> headers;  // names in lower case
    int count = 0;                               // how often this path was asked for before
    std::string header(const std::string& name) const {
        auto it = headers.find(name);
        return it == headers.end() ? "" : it->second;
    }
};

struct Reply {
    int status = 200;
    std::vector<std::string> headers;  // "Name: value"
    std::string body;
    std::optional<std::size_t> cut_after;  // body bytes, then the connection is closed
    bool endless = false;                  // the body again and again, without a Content-Length
    bool stall = false;  // after cut_after bytes nothing comes, but the connection stays
};

class HttpServer {
  public:
    using Handler = std::function<Reply(const Request&)>;
    explicit HttpServer(Handler handler);
    ~HttpServer();

    std::uint16_t port() const { return port_; }
    std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
    std::vector<Request> requests() const;  // in the order of arrival
    std::vector<std::string> paths() const;

  private:
    void accept_loop();
    void serve(int fd);
    bool answer(int fd, const Request& request);

    Handler handler_;
    UniqueFd listener_;
    UniqueFd stopped_;  // an eventfd: readable once the server is to end
    std::uint16_t port_ = 0;
    mutable std::mutex mutex_;
    std::vector<Request> requests_;
    std::map<std::string, int> counts_;
    std::set<int> open_;
    std::vector<std::thread> connections_;
    std::thread acceptor_;
};

std::string sha256_digest(std::string_view text);
// A tar with one file of `size` pseudo-random bytes, told apart by `seed`.
std::string make_layer(std::string_view name, std::size_t size, unsigned seed);

// An image as a registry holds it.
struct TestImage {
    std::vector<std::string> layers;  // plain tars
    std::string config;
    std::string manifest;
    std::string manifest_digest;
};
TestImage make_image(std::vector<std::string> layers);

// Serves `repo`: manifest under "latest" and its digest, config, layers with Range support, and whatever is put into
// `extra`. `lie` may answer first.
class LyingRegistry {
  public:
    using Lie = std::function<std::optional<Reply>(const Request&)>;
    explicit LyingRegistry(TestImage image, Lie lie = {});

    const TestImage image;
    std::map<std::string, Reply> extra;  // by path; set before the first request

  private:
    Lie lie_;  // before the server, whose threads call it

  public:
    HttpServer server;

    std::string blob_path(std::size_t layer) const;
    std::string reference() const { return server.host() + "/repo:latest"; }
    // Answers as an honest registry would.
    Reply honest(const Request& request) const;
};

}  // namespace msb::image::testing
