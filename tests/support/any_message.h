// Every message of the protocol as one variant, for tests that treat them all alike.
#pragma once

#include <cstddef>
#include <expected>
#include <utility>
#include <variant>

#include "protocol/codec.h"

namespace msb::test {

// In the order of MessageType: the index is the type.
using AnyMessage =
    std::variant<protocol::Ready, protocol::InitResolved, protocol::InitAck, protocol::Shutdown,
                 protocol::ClientDisconnected, protocol::ClockSync, protocol::Ping, protocol::Pong,
                 protocol::Touch, protocol::Touched, protocol::ErrorMessage, protocol::ExecRequest,
                 protocol::ExecStarted, protocol::ExecStdin, protocol::ExecStdinError,
                 protocol::ExecStdout, protocol::ExecStderr, protocol::ExecExited,
                 protocol::ExecFailed, protocol::ExecResize, protocol::ExecSignal,
                 protocol::FsRequest, protocol::FsResponse, protocol::FsData, protocol::TcpConnect,
                 protocol::TcpConnected, protocol::TcpData, protocol::TcpEof, protocol::TcpClose,
                 protocol::TcpClosed, protocol::TcpFailed, protocol::Bootstrap,
                 protocol::RuntimeHeartbeat, protocol::RuntimeCpuTarget, protocol::RuntimeCpuState,
                 protocol::RuntimeFlow>;

inline constexpr std::size_t kMessageTypes = std::variant_size_v<AnyMessage>;
static_assert(kMessageTypes == std::to_underlying(protocol::MessageType::kRuntimeFlow) + 1);

inline protocol::MessageType type_of(const AnyMessage& message) {
    return std::visit([](const auto& m) { return std::remove_cvref_t<decltype(m)>::kType; },
                      message);
}

inline std::expected<AnyMessage, protocol::DecodeError> decode_any(protocol::MessageType type,
                                                                   protocol::ByteView payload) {
    std::expected<AnyMessage, protocol::DecodeError> result =
        std::unexpected(protocol::DecodeError{"no such type"});
    [&]<std::size_t... I>(std::index_sequence<I...>) {
        const auto decode = [&]<std::size_t Index>() {
            if (Index != std::to_underlying(type)) return;
            using M = std::variant_alternative_t<Index, AnyMessage>;
            static_assert(std::to_underlying(M::kType) == Index);
            auto decoded = protocol::decode_payload<M>(payload);
            if (decoded)
                result = AnyMessage(std::move(*decoded));
            else
                result = std::unexpected(std::move(decoded.error()));
        };
        (decode.template operator()<I>(), ...);
    }(std::make_index_sequence<kMessageTypes>{});
    return result;
}

inline bool append_any(protocol::ByteBuffer& out, std::uint32_t id, const AnyMessage& message,
                       std::uint8_t generation = protocol::kGeneration) {
    return std::visit([&](const auto& m) { return protocol::append_frame(out, id, m, generation); },
                      message);
}

inline protocol::ByteBuffer payload_of(const AnyMessage& message) {
    protocol::ByteBuffer out;
    std::visit([&](const auto& m) { protocol::append_payload(out, m); }, message);
    return out;
}

}  // namespace msb::test
