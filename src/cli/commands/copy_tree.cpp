#include "cli/commands/copy_tree.h"

#include "base/text.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

struct Frame {
    std::string path;
    std::vector<std::string> names;
    std::size_t next = 0;
};

std::string child_path(const std::string& directory, const std::string& name) {
    return directory.ends_with('/') ? directory + name : directory + "/" + name;
}

}  // namespace

void check_component(std::string_view name) {
    const bool bad = name.empty() || name == "." || name == ".." ||
                     name.find('/') != std::string_view::npos ||
                     name.find('\0') != std::string_view::npos;
    if (bad) fail_value("refusing to create " + quoted(name) + ": not a file name");
}

std::string contained_link_target(const std::string& link, const std::string& target,
                                  std::size_t depth) {
    const auto refuse = [&] [[noreturn]] (const std::string& reason) {
        fail_value("refusing to create symlink " + link + " -> " + target + ": " + reason);
    };
    if (target.empty()) refuse("target is empty");
    if (target.size() > kMaxLinkTarget)
        fail_value("refusing to create symlink " + link + ": target is too long");
    if (target.find('\0') != std::string::npos)
        fail_value("refusing to create symlink " + link + ": target contains NUL");

    // The directories above the link are real ones, so leading ".." mean what they say. A ".." after a name may pass
    // through another link, whose depth nobody knows: refused.
    const bool absolute = target.front() == '/';
    std::size_t up = 0;
    bool below = absolute;
    std::string rooted;
    for (auto part : split(target, '/')) {
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            if (below || ++up > depth) refuse("target escapes the copy destination");
            continue;
        }
        below = true;
        rooted += (rooted.empty() ? "" : "/") + std::string(part);
    }
    if (!absolute) return target;
    std::string relative;
    for (std::size_t i = 0; i < depth; ++i)
        relative += i ? "/.." : "..";
    if (rooted.empty()) return relative.empty() ? "." : relative;
    return relative.empty() ? rooted : relative + "/" + rooted;
}

std::string base_name(const std::string& path) {
    std::string_view rest = path;
    while (rest.size() > 1 && rest.ends_with('/'))
        rest.remove_suffix(1);
    const auto name = rest.substr(rest.rfind('/') + 1);
    if (name.empty() || name == "." || name == "..")
        fail_value("cannot take a file name from " + path);
    return std::string(name);
}

void copy_tree(TreeSource& source, const std::string& path, TreeSink& sink,
               const std::string& name) {
    std::vector<Frame> stack;
    // Copies one entry; a directory is only entered.
    const auto visit = [&](const std::string& from, const std::string& to) {
        check_component(to);
        const NodeInfo info = source.info(from);
        switch (info.kind) {
            case NodeKind::kFile:
                return sink.file(to, info.mode,
                                 [&](const ChunkSink& chunk) { source.read(from, chunk); });
            case NodeKind::kLink:
                return sink.link(to, source.link_target(from));
            case NodeKind::kDirectory:
                if (stack.size() == kMaxCopyDepth)
                    fail_value("directory tree is too deep: " + from);
                sink.enter(to, info.mode);
                stack.push_back({from, source.names(from)});
                return;
            case NodeKind::kOther:
                fail_value("unsupported file type: " + from);
        }
    };
    visit(path, name);
    while (!stack.empty()) {
        Frame& top = stack.back();
        if (top.next == top.names.size()) {
            sink.leave();
            stack.pop_back();
            continue;
        }
        const std::string entry = top.names[top.next++];
        check_component(entry);
        visit(child_path(top.path, entry), entry);
    }
}

}  // namespace msb::cli
