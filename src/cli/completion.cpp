// One walk over the command table per shell. The scripts complete subcommands, flags, closed sets of values, files
// where a flag takes a path, and sandbox names (asked from `msb list -q`).
#include "cli/completion.h"

#include <functional>
#include <vector>

namespace msb::cli {

namespace {

constexpr std::string_view kHelpText = "Show help";
constexpr std::string_view kTreeText = "Show the commands and flags as a tree";

// A command and the words that lead to it: "msb", "msb run", "msb self doctor".
struct Node {
    std::vector<std::string> words;
    const Command* command;
};

void collect(std::vector<Node>& nodes, const Node& node) {
    nodes.push_back(node);
    for (const Command& subcommand : node.command->subcommands) {
        if (subcommand.hidden) continue;
        Node child = node;
        child.words.emplace_back(subcommand.name);
        child.command = &subcommand;
        collect(nodes, child);
    }
}

std::vector<Node> visible_nodes(const Command& root) {
    std::vector<Node> nodes;
    collect(nodes, {{std::string(root.name)}, &root});
    return nodes;
}

std::string joined(const std::vector<std::string>& words, std::string_view separator) {
    std::string text;
    for (const auto& word : words)
        text += (text.empty() ? "" : std::string(separator)) + word;
    return text;
}

void for_each_flag(const Command& command, const std::function<void(const Arg&)>& visit) {
    for_each_arg(command, [&](const Arg& arg) {
        if (is_flag(arg) && is_listed(arg)) visit(arg);
    });
    for (const Arg& flag : kLogFlags)
        visit(flag);
}

// What stands where a positional does.
enum class Words { kNone, kSandboxes, kFiles, kChoices };
Words positional_words(const Command& command, const Arg** choices = nullptr) {
    Words words = Words::kNone;
    for_each_arg(command, [&](const Arg& arg) {
        if (arg.kind != ArgKind::kPositional || words != Words::kNone) return;
        if (arg.type == ValueType::kChoice) {
            words = Words::kChoices;
            if (choices) *choices = &arg;
        } else {
            words = arg.name == "NAME" || arg.name == "NAMES" ? Words::kSandboxes : Words::kFiles;
        }
    });
    return words;
}

std::string choice_words(const Arg& arg) {
    std::string text;
    for (auto choice : arg.choices)
        text += (text.empty() ? "" : " ") + std::string(choice);
    return text;
}

// Between single quotes, with `quote` standing for a quote inside.
std::string single_quoted(std::string_view text, std::string_view quote) {
    std::string quoted = "'";
    for (char c : text)
        quoted += c == '\'' ? std::string(quote) : std::string(1, c);
    return quoted + "'";
}

std::string bash_script(const Command& root) {
    std::string walk, words, values;
    for (const Node& node : visible_nodes(root)) {
        const std::string id = joined(node.words, "__");
        std::string list;
        for (const Command& sub : node.command->subcommands) {
            if (sub.hidden) continue;
            const std::string name(sub.name);
            walk += "            " + id + "," + name;
            if (!sub.alias.empty()) walk += "|" + id + "," + std::string(sub.alias);
            walk += ") command=" + id + "__" + name + " ;;\n";
            list += name + " ";
            if (!sub.alias.empty()) list += std::string(sub.alias) + " ";
        }
        if (!node.command->subcommands.empty()) list += "help ";
        for_each_flag(*node.command, [&](const Arg& arg) {
            list += "--" + std::string(arg.name) + " ";
            if (arg.letter) list += std::string("-") + arg.letter + " ";
            if (arg.kind != ArgKind::kOption) return;
            values += "        " + id + ",--" + std::string(arg.name);
            if (arg.letter) values += "|" + id + ",-" + arg.letter;
            values += arg.choices.empty() ? ") compopt -o default 2>/dev/null; return ;;\n"
                                          : ") COMPREPLY=($(compgen -W \"" + choice_words(arg) +
                                                "\" -- \"$current\")); return ;;\n";
        });
        list += "--tree --help -h";
        const Arg* choices = nullptr;
        switch (positional_words(*node.command, &choices)) {
            case Words::kSandboxes:
                list += " $(msb list -q 2>/dev/null)";
                break;
            case Words::kChoices:
                list += " " + choice_words(*choices);
                break;
            default:
                break;
        }
        words += "        " + id + ") words=\"" + list + "\" ;;\n";
    }
    return "_msb() {\n"
           "    local current=\"${COMP_WORDS[COMP_CWORD]}\" "
           "previous=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
           "    local command=msb words=\"\" i\n"
           "    COMPREPLY=()\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        if [[ ${COMP_WORDS[i]} == -- ]]; then return; fi\n"
           "        case \"$command,${COMP_WORDS[i]}\" in\n" +
           walk +
           "        esac\n"
           "    done\n"
           "    case \"$command,$previous\" in\n" +
           values +
           "    esac\n"
           "    case \"$command\" in\n" +
           words +
           "    esac\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
           "}\n"
           "complete -o bashdefault -o default -F _msb msb\n";
}

std::string zsh_escape(std::string_view text) {
    std::string escaped;
    for (char c : text) {
        if (c == '[' || c == ']' || c == ':' || c == '\\' || c == '`' || c == '$') escaped += '\\';
        escaped += c;
    }
    return escaped;
}

std::string zsh_flag(const Arg& arg) {
    const std::string text = "[" + zsh_escape(arg.help) + "]";
    std::string value;
    if (arg.kind == ArgKind::kOption) {
        value = ":" + zsh_escape(arg.value_name) + ":";
        value += arg.choices.empty() ? "_default" : "(" + choice_words(arg) + ")";
    }
    const std::string repeat = arg.repeatable ? "*" : "";
    std::string lines;
    if (arg.letter)
        lines +=
            "        " +
            single_quoted(repeat + "-" + arg.letter + (value.empty() ? "" : "+") + text + value,
                          "'\\''") +
            " \\\n";
    lines += "        " +
             single_quoted(
                 repeat + "--" + std::string(arg.name) + (value.empty() ? "" : "=") + text + value,
                 "'\\''") +
             " \\\n";
    return lines;
}

std::string zsh_script(const Command& root) {
    std::string functions;
    for (const Node& node : visible_nodes(root)) {
        const std::string id = "_" + joined(node.words, "__");
        std::string flags;
        for_each_flag(*node.command, [&](const Arg& arg) { flags += zsh_flag(arg); });
        flags += "        '--tree[" + zsh_escape(kTreeText) +
                 "]' \\\n        '(-h --help)'{-h,--help}'[" + zsh_escape(kHelpText) + "]' \\\n";
        functions += id + "() {\n    local context state line ret=1\n    typeset -A opt_args\n";
        if (!node.command->subcommands.empty()) {
            std::string commands, cases;
            for (const Command& sub : node.command->subcommands) {
                if (sub.hidden) continue;
                const std::string name(sub.name);
                commands +=
                    "        " + single_quoted(name + ":" + zsh_escape(sub.about), "'\\''") + "\n";
                cases += "            " + name +
                         (sub.alias.empty() ? "" : "|" + std::string(sub.alias)) + ") " + id +
                         "__" + name + " && ret=0 ;;\n";
            }
            functions += "    local -a commands=(\n" + commands +
                         "    )\n    _arguments -s -S -C \\\n" + flags +
                         "        '1:command:->command' '*::arguments:->arguments' && ret=0\n"
                         "    case $state in\n"
                         "        command) _describe -t commands 'command' commands && ret=0 ;;\n"
                         "        arguments) case $words[1] in\n" +
                         cases + "        esac ;;\n    esac\n    return ret\n}\n";
            continue;
        }
        std::string rest = "_files";
        const Arg* choices = nullptr;
        switch (positional_words(*node.command, &choices)) {
            case Words::kSandboxes:
                rest = "_msb_sandboxes";
                break;
            case Words::kChoices:
                rest = "(" + choice_words(*choices) + ")";
                break;
            default:
                break;
        }
        functions += "    _arguments -s -S \\\n" + flags + "        '*:argument:" + rest + "'\n}\n";
    }
    return "#compdef msb\n\n_msb_sandboxes() {\n    local -a names=(${(f)\"$(msb list -q "
           "2>/dev/null)\"})\n"
           "    _describe -t sandboxes 'sandbox' names\n}\n" +
           functions +
           "if [ \"$funcstack[1]\" = \"_msb\" ]; then\n    _msb \"$@\"\nelse\n    compdef _msb "
           "msb\nfi\n";
}

std::string fish_quote(std::string_view text) {
    std::string quoted = "'";
    for (char c : text) {
        if (c == '\'' || c == '\\') quoted += '\\';
        quoted += c;
    }
    return quoted + "'";
}

std::string fish_script(const Command& root) {
    std::string lines;
    for (const Node& node : visible_nodes(root)) {
        const std::string condition = "-n '__fish_msb_at " + joined(node.words, " ") + "'";
        const std::string base = "complete -c msb " + condition;
        if (positional_words(*node.command) != Words::kFiles) lines += base + " -f\n";
        for (const Command& sub : node.command->subcommands) {
            if (sub.hidden) continue;
            lines += base + " -a " + fish_quote(sub.name) + " -d " + fish_quote(sub.about) + "\n";
        }
        for_each_flag(*node.command, [&](const Arg& arg) {
            lines += base + (arg.letter ? std::string(" -s ") + arg.letter : "") + " -l " +
                     std::string(arg.name);
            if (arg.kind == ArgKind::kOption)
                lines += arg.choices.empty() ? " -r" : " -x -a " + fish_quote(choice_words(arg));
            lines += " -d " + fish_quote(arg.help) + "\n";
        });
        lines += base + " -l tree -d " + fish_quote(kTreeText) + "\n" + base + " -s h -l help -d " +
                 fish_quote(kHelpText) + "\n";
        const Arg* choices = nullptr;
        const Words words = positional_words(*node.command, &choices);
        if (words == Words::kSandboxes)
            lines += base + " -a '(msb list -q 2>/dev/null)' -d sandbox\n";
        if (words == Words::kChoices)
            lines += base + " -a " + fish_quote(choice_words(*choices)) + "\n";
    }
    std::string aliases;
    for (const Node& node : visible_nodes(root))
        if (!node.command->alias.empty())
            aliases += "            case " + std::string(node.command->alias) +
                       "\n                set word " + std::string(node.command->name) + "\n";
    // __fish_msb_at WORDS: the subcommand typed so far is exactly WORDS.
    return "function __fish_msb_at\n"
           "    set -l known msb\n"
           "    for word in (commandline -opc)[2..-1]\n"
           "        string match -q -- '-*' $word; and continue\n"
           "        switch $word\n" +
           aliases +
           "        end\n"
           "        test (count $known) -eq 1; and set -a known $word; and continue\n"
           "        test \"$known[2]\" = self -a (count $known) -eq 2; and set -a known $word\n"
           "    end\n"
           "    test \"$known\" = \"$argv\"\n"
           "end\n" +
           lines;
}

std::string elvish_script(const Command& root) {
    std::string cases;
    for (const Node& node : visible_nodes(root)) {
        cases += "        &" + single_quoted(joined(node.words, ";"), "''") + "= {\n";
        const auto candidate = [&](const std::string& word, std::string_view text) {
            cases += "            cand " + single_quoted(word, "''") + " " +
                     single_quoted(text, "''") + "\n";
        };
        for_each_flag(*node.command, [&](const Arg& arg) {
            if (arg.letter) candidate(std::string("-") + arg.letter, arg.help);
            candidate("--" + std::string(arg.name), arg.help);
        });
        candidate("--tree", kTreeText);
        candidate("--help", kHelpText);
        for (const Command& sub : node.command->subcommands)
            if (!sub.hidden) candidate(std::string(sub.name), sub.about);
        cases += "        }\n";
    }
    return "use builtin;\nuse str;\n\n"
           "set edit:completion:arg-completer[msb] = {|@words|\n"
           "    fn cand {|text desc|\n"
           "        edit:complex-candidate $text &display=$text'  '$desc\n"
           "    }\n"
           "    var command = 'msb'\n"
           "    for word $words[1..-1] {\n"
           "        if (str:has-prefix $word '-') {\n"
           "            break\n"
           "        }\n"
           "        set command = $command';'$word\n"
           "    }\n"
           "    var completions = [\n" +
           cases +
           "    ]\n"
           "    if (has-key $completions $command) {\n"
           "        $completions[$command]\n"
           "    }\n"
           "}\n";
}

std::string powershell_script(const Command& root) {
    std::string cases;
    for (const Node& node : visible_nodes(root)) {
        cases += "        " + single_quoted(joined(node.words, ";"), "''") + " {\n";
        const auto result = [&](const std::string& word, std::string_view kind,
                                std::string_view text) {
            const std::string quoted = single_quoted(word, "''");
            cases += "            [CompletionResult]::new(" + quoted + ", " + quoted +
                     ", [CompletionResultType]::" + std::string(kind) + ", " +
                     single_quoted(text, "''") + ")\n";
        };
        for_each_flag(*node.command, [&](const Arg& arg) {
            if (arg.letter) result(std::string("-") + arg.letter, "ParameterName", arg.help);
            result("--" + std::string(arg.name), "ParameterName", arg.help);
        });
        result("--tree", "ParameterName", kTreeText);
        result("--help", "ParameterName", kHelpText);
        for (const Command& sub : node.command->subcommands)
            if (!sub.hidden) result(std::string(sub.name), "ParameterValue", sub.about);
        cases += "            break\n        }\n";
    }
    return "using namespace System.Management.Automation\n"
           "using namespace System.Management.Automation.Language\n\n"
           "Register-ArgumentCompleter -Native -CommandName 'msb' -ScriptBlock {\n"
           "    param($wordToComplete, $commandAst, $cursorPosition)\n"
           "    $words = @('msb')\n"
           "    for ($i = 1; $i -lt $commandAst.CommandElements.Count; $i++) {\n"
           "        $element = $commandAst.CommandElements[$i].ToString()\n"
           "        if ($element.StartsWith('-') -or $element -eq $wordToComplete) { break }\n"
           "        $words += $element\n"
           "    }\n"
           "    $completions = @(switch ($words -join ';') {\n" +
           cases +
           "    })\n"
           "    $completions.Where{ $_.CompletionText -like \"$wordToComplete*\" } | Sort-Object "
           "-Property ListItemText\n"
           "}\n";
}

}  // namespace

std::string completion_script(const Command& root, std::string_view shell) {
    if (shell == "bash") return bash_script(root);
    if (shell == "zsh") return zsh_script(root);
    if (shell == "fish") return fish_script(root);
    if (shell == "elvish") return elvish_script(root);
    return powershell_script(root);
}

}  // namespace msb::cli
