// How payload structs become CBOR and back. Internal to src/protocol: included by the payload_*.cpp files only.
//
// Each struct's fields are listed once, in wire order, in a specialisation of Schema; the encoder and the decoder below
// both walk that list, so they cannot disagree. Nesting of the templates follows the nesting of the types, never the
// input.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/cbor.h"
#include "protocol/codec.h"

namespace msb::protocol::detail {

// --- describing types -------------------------------------------------------------------------------------------

enum class Presence : std::uint8_t {
    kRequired,   // always written; an error when missing
    kDefaulted,  // always written (an absent optional as null); the struct's default when missing
    kOmitted,    // left out when empty, absent or false; the struct's default when missing
};

template <class S, class T>
struct Field {
    std::string_view key;
    T S::* member;
    Presence presence;
};

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

// A required value, or an optional that is written as null when absent.
template <class S, class T>
constexpr Field<S, T> field(std::string_view key, T S::* member) {
    return {key, member, is_optional<T> ? Presence::kDefaulted : Presence::kRequired};
}
template <class S, class T>
constexpr Field<S, T> defaulted(std::string_view key, T S::* member) {
    return {key, member, Presence::kDefaulted};
}
template <class S, class T>
constexpr Field<S, T> omitted(std::string_view key, T S::* member) {
    return {key, member, Presence::kOmitted};
}

// Map with text keys: static constexpr std::tuple fields of Field.
template <class S>
struct Schema;
// Enum without data, a text: static constexpr std::array names, indexed by the enum's value.
template <class E>
struct EnumNames;
// Variant as a one-entry map {name: content}: static constexpr std::array names, indexed like the variant.
template <class V>
struct VariantNames;
// Variant of structs as one flat map whose first key is "kind": static constexpr std::array names.
template <class V>
struct KindNames;
// Struct written as its only member: static constexpr member pointer `member`.
template <class S>
struct Transparent;

template <class T>
concept HasSchema = requires { Schema<T>::fields; };
template <class T>
concept IsNamedEnum = requires { EnumNames<T>::names; };
template <class T>
concept IsNamedVariant = requires { VariantNames<T>::names; };
template <class T>
concept IsKindVariant = requires { KindNames<T>::names; };
template <class T>
concept IsTransparent = requires { Transparent<T>::member; };

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;
template <class T>
inline constexpr bool is_octets = false;
template <std::size_t N>
inline constexpr bool is_octets<std::array<std::uint8_t, N>> = true;

template <class M>
inline constexpr bool is_data_message = false;
template <MessageType Type>
inline constexpr bool is_data_message<DataMessage<Type>> = true;

inline constexpr std::string_view kKindKey = "kind";

// --- encoding ---------------------------------------------------------------------------------------------------

template <class T>
void encode_value(CborWriter& writer, const T& value);

template <class T>
bool is_left_out(const T& value) {
    if constexpr (is_optional<T>)
        return !value.has_value();
    else if constexpr (std::same_as<T, bool>)
        return !value;
    else
        return value.empty();
}

template <class S, class T>
bool is_written(const Field<S, T>& field, const S& value) {
    if constexpr (is_optional<T> || std::same_as<T, bool> || requires(const T& t) { t.empty(); })
        return field.presence != Presence::kOmitted || !is_left_out(value.*field.member);
    else
        return true;
}

template <class S, class T>
void encode_field(CborWriter& writer, const Field<S, T>& field, const S& value) {
    if (!is_written(field, value)) return;
    writer.text(field.key);
    encode_value(writer, value.*field.member);
}

// `kind` is empty for plain structs.
template <HasSchema S>
void encode_struct(CborWriter& writer, const S& value, std::string_view kind = {}) {
    std::apply(
        [&](const auto&... fields) {
            writer.map((std::size_t{0} + ... + std::size_t{is_written(fields, value)}) +
                       (kind.empty() ? 0 : 1));
            if (!kind.empty()) {
                writer.text(kKindKey);
                writer.text(kind);
            }
            (encode_field(writer, fields, value), ...);
        },
        Schema<S>::fields);
}

template <class T>
void encode_value(CborWriter& writer, const T& value) {
    if constexpr (std::same_as<T, bool>) {
        writer.boolean(value);
    } else if constexpr (std::unsigned_integral<T>) {
        writer.unsigned_integer(value);
    } else if constexpr (std::signed_integral<T>) {
        writer.signed_integer(value);
    } else if constexpr (std::same_as<T, std::string>) {
        writer.text(value);
    } else if constexpr (std::same_as<T, Bytes>) {
        writer.bytes(value.span());
    } else if constexpr (std::same_as<T, std::vector<std::byte>>) {
        writer.bytes(value);
    } else if constexpr (is_octets<T>) {
        writer.array(value.size());
        for (const std::uint8_t octet : value)
            writer.unsigned_integer(octet);
    } else if constexpr (is_optional<T>) {
        value ? encode_value(writer, *value) : writer.null();
    } else if constexpr (is_vector<T>) {
        writer.array(value.size());
        for (const auto& item : value)
            encode_value(writer, item);
    } else if constexpr (IsNamedEnum<T>) {
        writer.text(EnumNames<T>::names[static_cast<std::size_t>(value)]);
    } else if constexpr (IsNamedVariant<T>) {
        writer.map(1);
        writer.text(VariantNames<T>::names[value.index()]);
        std::visit([&](const auto& content) { encode_value(writer, content); }, value);
    } else if constexpr (IsKindVariant<T>) {
        const std::string_view kind = KindNames<T>::names[value.index()];
        std::visit([&](const auto& content) { encode_struct(writer, content, kind); }, value);
    } else if constexpr (IsTransparent<T>) {
        encode_value(writer, value.*Transparent<T>::member);
    } else {
        encode_struct(writer, value);
    }
}

// --- decoding ---------------------------------------------------------------------------------------------------

template <class T>
bool decode_value(CborReader& reader, T& value);

inline bool fail_unknown_name(CborReader& reader, std::string_view name) {
    return reader.fail("unknown variant `" + std::string(name) + "`");
}

// Index of `name` in `names`, or names.size().
template <std::size_t N>
std::size_t find_name(const std::array<std::string_view, N>& names,
                      std::string_view name) noexcept {
    std::size_t index = 0;
    while (index < N && names[index] != name)
        ++index;
    return index;
}

template <class S, class T>
bool decode_field(CborReader& reader, const Field<S, T>& field, std::uint32_t bit,
                  std::uint32_t& seen, S& value) {
    if ((seen & bit) != 0) return reader.fail("duplicate field `" + std::string(field.key) + "`");
    seen |= bit;
    return decode_value(reader, value.*field.member) || reader.fail_in(field.key);
}

template <class S, class T>
bool check_present(CborReader& reader, const Field<S, T>& field, std::uint32_t bit,
                   std::uint32_t seen) {
    if (field.presence != Presence::kRequired || (seen & bit) != 0) return true;
    return reader.fail("missing field `" + std::string(field.key) + "`");
}

template <HasSchema S>
bool decode_struct(CborReader& reader, S& value) {
    constexpr std::size_t kFields =
        std::tuple_size_v<std::remove_cvref_t<decltype(Schema<S>::fields)>>;
    static_assert(kFields <= 32, "`seen` has one bit for each field");
    const auto with_fields = [&]<std::size_t... I>(std::index_sequence<I...>) {
        CborReader::Container map;
        if (!reader.enter_map(map)) return false;
        [[maybe_unused]] std::uint32_t seen = 0;  // not used by structs without fields
        for (std::string_view key; reader.next_key(map, key);) {
            bool read = false;
            const bool known = ((std::get<I>(Schema<S>::fields).key == key &&
                                 (read = decode_field(reader, std::get<I>(Schema<S>::fields),
                                                      std::uint32_t{1} << I, seen, value),
                                  true)) ||
                                ...);
            if (!(known ? read : reader.skip())) return false;
        }
        return !reader.failed() && (check_present(reader, std::get<I>(Schema<S>::fields),
                                                  std::uint32_t{1} << I, seen) &&
                                    ...);
    };
    return with_fields(std::make_index_sequence<kFields>{});
}

// Makes the variant hold its `index`th alternative and gives that to `decode`.
template <class V, class Decode>
bool decode_alternative(V& value, std::size_t index, Decode decode) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
        bool decoded = false;
        static_cast<void>(
            ((I == index && (decoded = decode(value.template emplace<I>()), true)) || ...));
        return decoded;
    }(std::make_index_sequence<std::variant_size_v<V>>{});
}

template <IsNamedVariant V>
bool decode_named_variant(CborReader& reader, V& value) {
    std::string_view name;
    if (!reader.enter_variant(name)) return false;
    const std::size_t index = find_name(VariantNames<V>::names, name);
    if (index == VariantNames<V>::names.size()) return fail_unknown_name(reader, name);
    const auto content = [&](auto& alternative) { return decode_value(reader, alternative); };
    if (!decode_alternative(value, index, content)) return reader.fail_in(name);
    reader.leave_variant();
    return true;
}

// Reads the text under the one key "kind" of the map at the cursor, wherever it stands, and puts the cursor back.
inline bool peek_kind(CborReader& reader, std::string_view& kind, std::string& storage) {
    const CborReader::Mark start = reader.mark();
    CborReader::Container map;
    if (!reader.enter_map(map)) return false;
    bool found = false;
    for (std::string_view key; reader.next_key(map, key);) {
        if (key != kKindKey) {
            if (!reader.skip()) return false;
        } else if (std::exchange(found, true)) {
            return reader.fail("duplicate field `kind`");
        } else if (!reader.text(kind, storage)) {
            return reader.fail_in(kKindKey);
        }
    }
    if (reader.failed()) return false;
    if (!found) return reader.fail("missing field `kind`");
    reader.rewind(start);
    return true;
}

template <IsKindVariant V>
bool decode_kind_variant(CborReader& reader, V& value) {
    std::string_view kind;
    std::string storage;
    if (!peek_kind(reader, kind, storage)) return false;
    const std::size_t index = find_name(KindNames<V>::names, kind);
    if (index == KindNames<V>::names.size()) return fail_unknown_name(reader, kind);
    return decode_alternative(value, index,
                              [&](auto& content) { return decode_struct(reader, content); });
}

template <IsNamedEnum E>
bool decode_enum(CborReader& reader, E& value) {
    std::string_view name;
    std::string storage;
    if (!reader.text(name, storage)) return false;
    const std::size_t index = find_name(EnumNames<E>::names, name);
    if (index == EnumNames<E>::names.size()) return fail_unknown_name(reader, name);
    value = static_cast<E>(index);
    return true;
}

template <std::size_t N>
bool decode_octets(CborReader& reader, std::array<std::uint8_t, N>& value) {
    Bytes bytes;
    if (!reader.bytes(bytes)) return false;
    if (bytes.size() != N)
        return reader.fail("expected " + std::to_string(N) + " octets, found " +
                           std::to_string(bytes.size()));
    for (std::size_t i = 0; i < N; ++i)
        value[i] = std::to_integer<std::uint8_t>(bytes.span()[i]);
    return true;
}

template <class T>
bool decode_list(CborReader& reader, std::vector<T>& list) {
    CborReader::Container array;
    if (!reader.enter_array(array)) return false;
    // No reserve(): the declared length is a claim. Each item costs the sender at least a byte of the frame.
    while (reader.next_item(array))
        if (!decode_value(reader, list.emplace_back())) return false;
    return !reader.failed();
}

template <class T>
bool decode_value(CborReader& reader, T& value) {
    if constexpr (std::same_as<T, bool>) {
        return reader.boolean(value);
    } else if constexpr (std::integral<T>) {
        return reader.integer(value);
    } else if constexpr (std::same_as<T, std::string>) {
        return reader.text(value);
    } else if constexpr (std::same_as<T, Bytes>) {
        return reader.bytes(value);
    } else if constexpr (std::same_as<T, std::vector<std::byte>>) {
        Bytes bytes;
        if (!reader.bytes(bytes)) return false;
        value.assign(bytes.span().begin(), bytes.span().end());
        return true;
    } else if constexpr (is_octets<T>) {
        return decode_octets(reader, value);
    } else if constexpr (is_optional<T>) {
        if (reader.take_null()) return true;
        return !reader.failed() && decode_value(reader, value.emplace());
    } else if constexpr (is_vector<T>) {
        return decode_list(reader, value);
    } else if constexpr (IsNamedEnum<T>) {
        return decode_enum(reader, value);
    } else if constexpr (IsNamedVariant<T>) {
        return decode_named_variant(reader, value);
    } else if constexpr (IsKindVariant<T>) {
        return decode_kind_variant(reader, value);
    } else if constexpr (IsTransparent<T>) {
        return decode_value(reader, value.*Transparent<T>::member);
    } else {
        return decode_struct(reader, value);
    }
}

// --- frames (envelope.cpp) --------------------------------------------------------------------------------------

// Where append_frame() stands between the envelope's head and its payload.
struct OpenFrame {
    std::size_t start;    // of the frame in the buffer
    std::size_t payload;  // of the payload, behind a byte string head of kGuessedPayloadHead bytes
};
OpenFrame begin_frame(ByteBuffer& out, std::uint32_t id, MessageType type, std::uint8_t generation);
// Puts the lengths right. False, and nothing appended, when the frame would be too large.
bool finish_frame(ByteBuffer& out, OpenFrame frame);
// Room for `more` bytes without giving up geometric growth.
void reserve_more(ByteBuffer& out, std::size_t more);

// --- descriptions shared by families ----------------------------------------------------------------------------

template <>
struct Schema<Rlimit> {
    static constexpr std::tuple fields{field("resource", &Rlimit::resource),
                                       field("soft", &Rlimit::soft), field("hard", &Rlimit::hard)};
};

template <MessageType Type>
struct Schema<EmptyMessage<Type>> {
    static constexpr std::tuple<> fields{};
};

template <MessageType Type>
struct Schema<DataMessage<Type>> {
    static constexpr std::tuple fields{field("data", &DataMessage<Type>::data)};
};

}  // namespace msb::protocol::detail

namespace msb::protocol {

template <class M>
void append_payload(ByteBuffer& out, const M& message) {
    CborWriter writer(out);
    if constexpr (std::same_as<M, Shutdown>)
        writer.null();
    else
        detail::encode_value(writer, message);
}

template <class M>
bool append_frame(ByteBuffer& out, std::uint32_t id, const M& message, std::uint8_t generation) {
    if constexpr (detail::is_data_message<M>) {
        const auto data = message.data.span();
        detail::reserve_more(out, kMaxDataFrameHead + data.size());
        if (!append_data_frame_head(out, id, M::kType, data.size(), generation)) return false;
        out.insert(out.end(), data.begin(), data.end());
        return true;
    } else {
        const detail::OpenFrame frame = detail::begin_frame(out, id, M::kType, generation);
        append_payload(out, message);
        return detail::finish_frame(out, frame);
    }
}

template <class M>
std::expected<M, DecodeError> decode_payload(ByteView payload) {
    M message{};
    if constexpr (!std::same_as<
                      M,
                      Shutdown>) {  // its payload is never decoded (spec/protocol.md section 2.2)
        CborReader reader(payload);
        if (!detail::decode_value(reader, message))
            return std::unexpected(DecodeError{reader.error()});
    }
    return message;
}

}  // namespace msb::protocol

// The definitions that codec.h promises for one message type.
#define MSB_PROTOCOL_INSTANTIATE(M)                                                    \
    template bool append_frame<M>(ByteBuffer&, std::uint32_t, const M&, std::uint8_t); \
    template void append_payload<M>(ByteBuffer&, const M&);                            \
    template std::expected<M, DecodeError> decode_payload<M>(ByteView);
