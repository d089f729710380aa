// The `image` part of a configuration document, and the root disk inside it.
#include "state/config_fields.h"
#include "state/config_json.h"
#include "state/document_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 4> kRootDiskKinds = {"managed", "tmpfs", "disk-image",
                                                            "flat"};
constexpr std::array<std::string_view, 3> kCloneStrategies = {"auto", "copy", "reflink"};
constexpr std::array<std::string_view, 3> kImageKinds = {"Bind", "Oci", "DiskImage"};

BindImage read_bind(const Value& value) {
    const Reader reader(value, "BindRootfsSource");
    return {reader.string("path"), reader.boolean_or("follow_root_symlinks", false)};
}

OciImage read_oci(const Value& value) {
    const Reader reader(value, "OciRootfsSource");
    return {reader.string("reference"),
            read_optional<RootDisk>(reader, "root_disk", root_disk_from_json)};
}

DiskImage read_disk_image(const Value& value) {
    const Reader reader(value, "DiskImageRootfsSource");
    return {reader.string("path"), disk_format_from_json(reader.raw("format")),
            reader.optional_string("fstype")};
}

struct ImageWriter {
    Value operator()(const OciImage& image) const {
        Value body = Value::object();
        body["reference"] = image.reference;
        if (image.root_disk) body["root_disk"] = to_json(*image.root_disk);
        return tagged("Oci", std::move(body));
    }
    Value operator()(const BindImage& image) const {
        Value body = Value::object();
        body["path"] = image.path;
        body["follow_root_symlinks"] = image.follow_root_symlinks;
        return tagged("Bind", std::move(body));
    }
    Value operator()(const DiskImage& image) const {
        Value body = Value::object();
        body["path"] = image.path;
        body["format"] = to_string(image.format);
        body["fstype"] = or_null(image.fstype);
        return tagged("DiskImage", std::move(body));
    }

  private:
    static Value tagged(const char* tag, Value body) {
        Value value = Value::object();
        value[tag] = std::move(body);
        return value;
    }
};

struct RootDiskWriter {
    Value operator()(const ManagedRootDisk& disk) const {
        Value value = start("managed");
        set_if(value, "size_mib", disk.size_mib);
        return value;
    }
    Value operator()(const TmpfsRootDisk& disk) const {
        Value value = start("tmpfs");
        set_if(value, "size_mib", disk.size_mib);
        return value;
    }
    Value operator()(const DiskImageRootDisk& disk) const {
        Value value = start("disk-image");
        value["path"] = disk.path;
        value["format"] = to_string(disk.format);
        set_if(value, "fstype", disk.fstype);
        return value;
    }
    Value operator()(const FlatRootDisk& disk) const {
        Value value = start("flat");
        set_if(value, "size_mib", disk.size_mib);
        set_if(value, "fstype", disk.fstype);
        if (disk.clone != CloneStrategy::kAuto)
            value["clone"] = variant_name(disk.clone, kCloneStrategies);
        return value;
    }

  private:
    static Value start(const char* kind) {
        Value value = Value::object();
        value["kind"] = kind;
        return value;
    }
};

}  // namespace

RootDisk root_disk_from_json(const Value& value) {
    const Reader reader(value, "RootDisk");
    const auto size = [&] { return reader.optional_integer<std::uint32_t>("size_mib"); };
    switch (
        json::to_variant(reader.raw("kind"), std::span<const std::string_view>(kRootDiskKinds))) {
        case 0:
            return ManagedRootDisk{size()};
        case 1:
            return TmpfsRootDisk{size()};
        case 2:
            return DiskImageRootDisk{reader.string("path"),
                                     disk_format_from_json(reader.raw("format")),
                                     reader.optional_string("fstype")};
        default:
            return FlatRootDisk{
                size(), reader.optional_string("fstype"),
                read_variant_or(reader, "clone", kCloneStrategies, CloneStrategy::kAuto)};
    }
}

Value to_json(const RootDisk& disk) {
    return std::visit(RootDiskWriter{}, disk);
}

Image image_from_json(const Value& value) {
    const Tagged tagged = read_tagged(value, "RootfsSource");
    switch (json::to_variant(Value(std::string(tagged.tag)),
                             std::span<const std::string_view>(kImageKinds))) {
        case 0:
            return read_bind(tagged.value);
        case 1:
            return read_oci(tagged.value);
        default:
            return read_disk_image(tagged.value);
    }
}

Value to_json(const Image& image) {
    return std::visit(ImageWriter{}, image);
}

}  // namespace msb::state
