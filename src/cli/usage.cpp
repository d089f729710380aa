#include "cli/usage.h"

#include <algorithm>

namespace msb::cli {

namespace {

constexpr std::size_t kHelpColumn = 36;  // help of longer labels goes to the next line

bool contains(const std::vector<const Arg*>& list, const Arg& arg) {
    return std::find(list.begin(), list.end(), &arg) != list.end();
}

std::string command_path(const std::vector<const Command*>& path) {
    std::string text;
    for (const Command* command : path)
        text += (text.empty() ? "" : " ") + std::string(command->name);
    return text;
}

std::string positional_usage(const Arg& arg, bool used) {
    const std::string name(arg.value_name);
    if (arg.kind == ArgKind::kTrailing)
        return used ? "-- <" + name + ">..." : "[-- <" + name + ">...]";
    const bool required = used || arg.required_unless == "-";
    return (required ? "<" + name + ">" : "[" + name + "]") + (arg.repeatable ? "..." : "");
}

void append_positionals(std::string& text, const Command& command,
                        const std::vector<const Arg*>& used) {
    for_each_arg(command, [&](const Arg& arg) {
        if (!is_flag(arg)) text += " " + positional_usage(arg, contains(used, arg));
    });
    if (!command.subcommands.empty()) text += " <COMMAND>";
}

struct Row {
    std::string label;
    std::string text;
};

std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    }));
}

void append_rows(std::string& page, std::string_view title, const std::vector<Row>& rows) {
    if (rows.empty()) return;
    std::size_t column = 0;
    for (const Row& row : rows)
        column = std::max(column, std::min(width(row.label), kHelpColumn));
    page += "\n" + std::string(title) + ":\n";
    for (const Row& row : rows) {
        page += "  " + row.label;
        if (row.text.empty()) {
            page += "\n";
        } else if (width(row.label) > column) {
            page += "\n" + std::string(column + 4, ' ') + row.text + "\n";
        } else {
            page += std::string(column - width(row.label) + 2, ' ') + row.text + "\n";
        }
    }
}

Row option_row(const Arg& arg) {
    Row row{(arg.letter ? "" : "    ") + flag_label(arg), std::string(arg.help)};
    if (arg.choices.empty() || arg.choices.size() == 1) return row;
    row.text += " [";
    for (std::size_t i = 0; i < arg.choices.size(); ++i)
        row.text += (i ? ", " : "") + std::string(arg.choices[i]);
    row.text += "]";
    return row;
}

Row command_row(const Command& command) {
    Row row{std::string(command.name), std::string(command.about)};
    if (!command.alias.empty()) row.text += " [alias: " + std::string(command.alias) + "]";
    return row;
}

void append_commands(std::string& page, const Command& command) {
    struct Heading {
        Section section;
        std::string_view title;
    };
    static constexpr Heading kHeadings[] = {{Section::kSandboxes, "Sandboxes"},
                                            {Section::kImages, "Images"},
                                            {Section::kStorage, "Storage"},
                                            {Section::kInstallation, "Installation"},
                                            {Section::kOther, "Other"}};
    const Row help_row{"help", "Show this page, or the page of a command"};
    if (command.id != CommandId::kRoot) {
        std::vector<Row> rows;
        for (const Command& subcommand : command.subcommands)
            if (!subcommand.hidden) rows.push_back(command_row(subcommand));
        rows.push_back(help_row);
        return append_rows(page, "Commands", rows);
    }
    for (const Heading& heading : kHeadings) {
        std::vector<Row> rows;
        for (const Command& subcommand : command.subcommands)
            if (!subcommand.hidden && subcommand.section == heading.section)
                rows.push_back(command_row(subcommand));
        if (heading.section == Section::kOther) rows.push_back(help_row);
        append_rows(page, heading.title, rows);
    }
}

// One line of the tree before its description is put in a column.
struct TreeLine {
    std::string item;
    std::string_view text;
};

void append_tree(std::vector<TreeLine>& lines, const Command& command, const std::string& prefix,
                 bool root) {
    struct Item {
        std::string label;
        std::string_view text;
        const Command* subcommand;
    };
    std::vector<Item> items;
    for_each_arg(command, [&](const Arg& arg) {
        if (!is_listed(arg) || is_flag(arg)) return;
        const std::string name(arg.value_name);
        if (arg.kind == ArgKind::kTrailing) {
            items.push_back({"[-- " + name + "...]", arg.help, nullptr});
        } else {
            const bool required = arg.required_unless == "-";
            items.push_back({required ? "<" + name + ">" : "[" + name + "]", arg.help, nullptr});
        }
    });
    const auto add_flag = [&](const Arg& arg) {
        if (!is_listed(arg) || !is_flag(arg)) return;
        std::string label = flag_label(arg);
        const auto value = label.find('<');
        for (auto i = value; i < label.size(); ++i)
            if (label[i] >= 'a' && label[i] <= 'z')
                label[i] = static_cast<char>(label[i] - 'a' + 'A');
        items.push_back({label, arg.help, nullptr});
    };
    if (root)
        for (const Arg& flag : kLogFlags)
            add_flag(flag);
    for_each_arg(command, add_flag);
    for (const Command& subcommand : command.subcommands) {
        if (subcommand.hidden) continue;
        std::string label(subcommand.name);
        if (!subcommand.alias.empty()) label += " (aliases: " + std::string(subcommand.alias) + ")";
        items.push_back({label, subcommand.about, &subcommand});
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
        const bool last = i + 1 == items.size();
        lines.push_back({prefix + (last ? "└── " : "├── ") + items[i].label, items[i].text});
        if (items[i].subcommand)
            append_tree(lines, *items[i].subcommand, prefix + (last ? "    " : "│   "), false);
    }
}

}  // namespace

std::string flag_label(const Arg& arg) {
    std::string label;
    if (arg.letter) label = std::string("-") + arg.letter + ", ";
    label += "--" + std::string(arg.name);
    if (arg.kind == ArgKind::kOption) label += " <" + std::string(arg.value_name) + ">";
    return label;
}

std::string help_usage(const std::vector<const Command*>& path) {
    std::string text = command_path(path) + " [OPTIONS]";
    for_each_arg(*path.back(), [&](const Arg& arg) {
        if (arg.kind == ArgKind::kOption && arg.required_unless == "-")
            text += " --" + std::string(arg.name) + " <" + std::string(arg.value_name) + ">";
    });
    append_positionals(text, *path.back(), {});
    return text;
}

std::string smart_usage(const std::vector<const Command*>& path,
                        const std::vector<const Arg*>& used) {
    if (used.empty()) return help_usage(path);
    std::string text = command_path(path);
    for (const Arg* arg : used) {
        if (!is_flag(*arg) || arg->hidden) continue;
        text += " --" + std::string(arg->name);
        if (arg->kind == ArgKind::kOption) text += " <" + std::string(arg->value_name) + ">";
    }
    append_positionals(text, *path.back(), used);
    return text;
}

std::string help_page(const std::vector<const Command*>& path) {
    const Command& command = *path.back();
    std::string page = std::string(command.about) + "\n\nUsage: " + help_usage(path) + "\n";
    append_commands(page, command);

    std::vector<Row> arguments;
    std::vector<Row> options;
    for_each_arg(command, [&](const Arg& arg) {
        if (!is_listed(arg)) return;
        if (is_flag(arg)) return options.push_back(option_row(arg));
        arguments.push_back({positional_usage(arg, false), std::string(arg.help)});
    });
    options.push_back({"    --tree", "Show the commands and flags as a tree"});
    for (const Arg& flag : kLogFlags)
        options.push_back(option_row(flag));
    options.push_back({"-h, --help", "Show this page"});
    if (command.id == CommandId::kRoot) options.push_back({"-V, --version", "Show the version"});
    append_rows(page, "Arguments", arguments);
    append_rows(page, "Options", options);
    return page;
}

std::string command_tree(const Command& root, const std::vector<std::string>& words) {
    const Command* command = &root;
    std::string text(root.name);
    for (const auto& word : words) {
        const Command* next = find_subcommand(*command, word);
        if (!next || next->hidden) continue;
        command = next;
        text += " " + word;
    }
    std::vector<TreeLine> lines;
    append_tree(lines, *command, "", command == &root);
    std::size_t column = 0;
    for (const auto& line : lines)
        column = std::max(column, width(line.item));
    text += "\n";
    for (const auto& line : lines) {
        text += line.item;
        if (!line.text.empty())
            text += std::string(column - width(line.item) + 2, ' ') + std::string(line.text);
        text += "\n";
    }
    return text;
}

}  // namespace msb::cli
