// Guest bytes, client bytes and blocked ports in any order, into the relay core. The input is a script of operations:
//   0 len16 bytes   from the guest          4 len16 bytes  from the first client     6 n  the guest takes n more bytes
//   1               clock sync              5 len16 bytes  from the second client    7    the guest takes everything
//   2               a client connects       3              the first client leaves   8 n  clients take n more bytes each
//   9               the guest is broken
// Invariant: what the relay writes to the guest is whole frames, whatever was cut where.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/relay.h"

namespace {

using namespace msb;
using namespace msb::runtime;

class Port : public RelayPort {
  public:
    std::optional<std::size_t> write_some(std::span<const std::byte> bytes) override {
        if (broken) return std::nullopt;
        const std::size_t count = std::min(bytes.size(), capacity);
        capacity -= count;
        if (keep) written.append(bytes.first(count));
        return count;
    }
    void set_reading(bool on) override { reading = on; }
    void closed() override { gone = true; }
    std::size_t capacity = SIZE_MAX;
    protocol::FrameReader written;
    bool keep = false, reading = true, broken = false, gone = false;
};

class Observer : public RelayObserver {
  public:
    void on_ready(const protocol::Ready&) override {}
    void on_boot_failure(const std::string&) override {}
    void on_shutdown_requested() override {}
    void on_client_flow(std::uint32_t, std::uint32_t, bool) override {}
};

class Tap : public ExecTap {
  public:
    void output(std::uint64_t, contract::LogSource, std::span<const std::byte> bytes) override {
        for (std::byte b : bytes)
            sum += std::to_integer<unsigned>(b);  // every byte is readable
    }
    void flush() override {}
    unsigned sum = 0;
};

struct Client {
    std::unique_ptr<Port> port = std::make_unique<Port>();
    unsigned slot = 0;
};

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size)
        : bytes_(reinterpret_cast<const std::byte*>(data), size) {}
    bool empty() const { return bytes_.empty(); }
    unsigned byte() {
        if (bytes_.empty()) return 0;
        const unsigned value = std::to_integer<unsigned>(bytes_.front());
        bytes_ = bytes_.subspan(1);
        return value;
    }
    std::span<const std::byte> block() {
        const std::size_t wanted = byte() << 8 | byte();
        const auto taken = bytes_.first(std::min(wanted, bytes_.size()));
        bytes_ = bytes_.subspan(taken.size());
        return taken;
    }

  private:
    std::span<const std::byte> bytes_;
};

void from_client(Relay& relay, Client& client, std::span<const std::byte> bytes) {
    if (client.port->gone || !client.port->reading || bytes.empty()) return;
    const auto buffer = relay.client_buffer(client.slot);
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    relay.client_received(client.slot, bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Port guest;
    guest.keep = true;
    Observer observer;
    Tap tap;
    auto relay = std::make_unique<Relay>(guest, observer, &tap);
    std::vector<Client> clients;
    const auto live = [&](std::size_t index) -> Client* {
        std::erase_if(clients, [](const Client& client) { return client.port->gone; });
        return index < clients.size() ? &clients[index] : nullptr;
    };
    for (Input input(data, size); !input.empty();) {
        const unsigned operation = input.byte() % 10;
        switch (operation) {
            case 0: {
                const auto bytes = input.block();
                const auto buffer = relay->guest_buffer();
                if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
                relay->guest_received(bytes.size());
                break;
            }
            case 1:
                relay->send_clock_sync(1);
                break;
            case 2: {
                Client client;
                if (const auto slot = relay->add_client(*client.port)) {
                    client.slot = *slot;
                    clients.push_back(std::move(client));
                }
                break;
            }
            case 3:
                if (Client* client = live(0)) relay->remove_client(client->slot);
                break;
            case 4:
            case 5: {
                const std::size_t index = operation - 4;
                const auto bytes = input.block();
                if (Client* client = live(index)) from_client(*relay, *client, bytes);
                break;
            }
            case 6:
                guest.capacity = input.byte();
                relay->guest_writable();
                break;
            case 7:
                guest.capacity = SIZE_MAX;
                relay->guest_writable();
                break;
            case 8: {
                const std::size_t capacity = input.byte();
                for (std::size_t i = 0; Client* client = live(i); ++i) {
                    client->port->capacity = capacity;
                    relay->client_writable(client->slot);
                }
                break;
            }
            default:
                guest.broken = true;
                break;
        }
    }
    if (!guest.broken) {
        guest.capacity = SIZE_MAX;
        relay->guest_writable();
        if (relay->guest_backlog() != 0) std::abort();
        while (guest.written.next()) {
        }
        if (guest.written.error() || guest.written.buffered() != 0) std::abort();
    }
    return 0;
}
