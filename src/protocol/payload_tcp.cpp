// Payloads of core.tcp.* messages (spec/protocol.md section 5).
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace detail {

template <>
struct Schema<TcpConnect> {
    static constexpr std::tuple fields{field("host", &TcpConnect::host),
                                       field("port", &TcpConnect::port)};
};

template <>
struct Schema<TcpFailed> {
    static constexpr std::tuple fields{field("error", &TcpFailed::error)};
};

}  // namespace detail

MSB_PROTOCOL_INSTANTIATE(TcpConnect)
MSB_PROTOCOL_INSTANTIATE(TcpConnected)
MSB_PROTOCOL_INSTANTIATE(TcpData)
MSB_PROTOCOL_INSTANTIATE(TcpEof)
MSB_PROTOCOL_INSTANTIATE(TcpClose)
MSB_PROTOCOL_INSTANTIATE(TcpClosed)
MSB_PROTOCOL_INSTANTIATE(TcpFailed)

}  // namespace msb::protocol
