// The `patches` of a configuration document.
#include "state/config_fields.h"
#include "state/document_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 8> kPatchKinds = {"Text",    "File",  "CopyFile", "CopyDir",
                                                         "Symlink", "Mkdir", "Remove",   "Append"};

std::optional<std::uint32_t> read_mode(const Reader& reader) {
    return reader.optional_integer<std::uint32_t>("mode");
}

std::string read_bytes(const Value& value) {
    std::string bytes;
    for (const Value& item : json::expect_array(value))
        bytes.push_back(static_cast<char>(json::to_integer<std::uint8_t>(item)));
    return bytes;
}

Value write_bytes(const std::string& bytes) {
    Value value = Value::array();
    for (const char byte : bytes)
        value.push_back(static_cast<std::uint8_t>(byte));
    return value;
}

struct PatchWriter {
    Value operator()(const TextPatch& patch) const {
        Value body = Value::object();
        body["path"] = patch.path;
        body["content"] = patch.content;
        body["mode"] = or_null(patch.mode);
        body["replace"] = patch.replace;
        return tagged("Text", std::move(body));
    }
    Value operator()(const FilePatch& patch) const {
        Value body = Value::object();
        body["path"] = patch.path;
        body["content"] = write_bytes(patch.content);
        body["mode"] = or_null(patch.mode);
        body["replace"] = patch.replace;
        return tagged("File", std::move(body));
    }
    Value operator()(const CopyFilePatch& patch) const {
        Value body = Value::object();
        body["src"] = patch.src;
        body["dst"] = patch.dst;
        body["mode"] = or_null(patch.mode);
        body["replace"] = patch.replace;
        return tagged("CopyFile", std::move(body));
    }
    Value operator()(const CopyDirPatch& patch) const {
        Value body = Value::object();
        body["src"] = patch.src;
        body["dst"] = patch.dst;
        body["replace"] = patch.replace;
        return tagged("CopyDir", std::move(body));
    }
    Value operator()(const SymlinkPatch& patch) const {
        Value body = Value::object();
        body["target"] = patch.target;
        body["link"] = patch.link;
        body["replace"] = patch.replace;
        return tagged("Symlink", std::move(body));
    }
    Value operator()(const MkdirPatch& patch) const {
        Value body = Value::object();
        body["path"] = patch.path;
        body["mode"] = or_null(patch.mode);
        return tagged("Mkdir", std::move(body));
    }
    Value operator()(const RemovePatch& patch) const {
        Value body = Value::object();
        body["path"] = patch.path;
        return tagged("Remove", std::move(body));
    }
    Value operator()(const AppendPatch& patch) const {
        Value body = Value::object();
        body["path"] = patch.path;
        body["content"] = patch.content;
        return tagged("Append", std::move(body));
    }

  private:
    static Value tagged(const char* tag, Value body) {
        Value value = Value::object();
        value[tag] = std::move(body);
        return value;
    }
};

}  // namespace

Patch patch_from_json(const Value& value) {
    const Tagged tagged = read_tagged(value, "Patch");
    const Reader reader(tagged.value, tagged.tag);
    switch (json::to_variant(Value(std::string(tagged.tag)),
                             std::span<const std::string_view>(kPatchKinds))) {
        case 0:
            return TextPatch{reader.string("path"), reader.string("content"), read_mode(reader),
                             reader.boolean("replace")};
        case 1:
            return FilePatch{reader.string("path"), read_bytes(reader.raw("content")),
                             read_mode(reader), reader.boolean("replace")};
        case 2:
            return CopyFilePatch{reader.string("src"), reader.string("dst"), read_mode(reader),
                                 reader.boolean("replace")};
        case 3:
            return CopyDirPatch{reader.string("src"), reader.string("dst"),
                                reader.boolean("replace")};
        case 4:
            return SymlinkPatch{reader.string("target"), reader.string("link"),
                                reader.boolean("replace")};
        case 5:
            return MkdirPatch{reader.string("path"), read_mode(reader)};
        case 6:
            return RemovePatch{reader.string("path")};
        default:
            return AppendPatch{reader.string("path"), reader.string("content")};
    }
}

Value to_json(const Patch& patch) {
    return std::visit(PatchWriter{}, patch);
}

}  // namespace msb::state
