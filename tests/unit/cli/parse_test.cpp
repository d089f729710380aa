// clap's rules and texts (spec/cli.md sections 1.1 and 11) against the real command table.
#include "cli/parse.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "cli/create_options.h"
#include "cli/usage.h"
#include "value_error.h"

namespace msb::cli {
namespace {

std::vector<std::string> words(std::string_view line) {
    std::vector<std::string> list;
    for (auto word : split(line, ' '))
        if (!word.empty()) list.emplace_back(word == "''" ? "" : word);
    return list;
}

Invocation parse(std::string_view line) {
    return parse_command_line(root_command(), words(line));
}

std::string first_line(const std::string& text) {
    return text.substr(0, text.find('\n'));
}

struct ErrorCase {
    std::string line;
    std::string text;  // without "error: "
};

TEST(Parse, ErrorsAreClaps) {
    const ErrorCase cases[] = {
        {"lst", "unrecognized subcommand 'lst'"},
        {"run alpine extra", "unexpected argument 'extra' found"},
        {"run --from-snapshot x alpine",
         "the argument '--from-snapshot <PATH_OR_NAME>' cannot be used with '[IMAGE]'"},
        {"run alpine --from-snap x",
         "the argument '[IMAGE]' cannot be used with '--from-snapshot <PATH_OR_NAME>'"},
        {"run alpine -t --no-tty", "the argument '--tty' cannot be used with '--no-tty'"},
        {"run alpine --no-tty -t", "the argument '--no-tty' cannot be used with '--tty'"},
        {"run -c 300 alpine", "invalid value '300' for '--cpus <CPUS>': 300 is not in 0..=255"},
        {"run --cpus=-1 alpine", "invalid value '-1' for '--cpus <CPUS>': -1 is not in 0..=255"},
        {"run -c abc alpine",
         "invalid value 'abc' for '--cpus <CPUS>': invalid digit found in string"},
        {"run --cpus -1 alpine", "unexpected argument '-1' found"},
        {"run --cpus", "a value is required for '--cpus <CPUS>' but none was supplied"},
        {"run --cpus --name x", "a value is required for '--cpus <CPUS>' but none was supplied"},
        {"run -c 300 --bogus", "unexpected argument '--bogus' found"},
        {"run --thp foo alpine", "invalid value 'foo' for '--thp <POLICY>'"},
        {"run --cpu-placement=zz a",
         "invalid value 'zz' for '--cpu-placement <POLICY>': unknown CPU placement: zz (expected: "
         "inherit, auto, spread, "
         "compact)"},
        {"run --conf= a", "a value is required for '--conf <PATH>' but none was supplied"},
        {"run -n a -n b alpine", "the argument '--name <NAME>' cannot be used multiple times"},
        {"run -q -q alpine", "the argument '--quiet' cannot be used multiple times"},
        {"run -qq alpine", "the argument '--quiet' cannot be used multiple times"},
        {"run --no-net --net public a",
         "the argument '--no-net' cannot be used with '--net <PROFILE>'"},
        {"run --root-disk 8G --oci-upper-size 8G",
         "the argument '--root-disk <SPEC>' cannot be used with '--oci-upper-size <SIZE>'"},
        {"run ./x.raw --init-arg a", "the following required arguments were not provided:"},
        {"run --tty=1 a", "unexpected value '1' for '--tty' found; no more were expected"},
        {"create alpine -- ls", "unexpected argument 'ls' found"},
        {"create alpine -d", "unexpected argument '-d' found"},
        {"ls -q=1", "unexpected argument '-=' found"},
        {"ls -qx", "unexpected argument '-x' found"},
        {"ls --format xml", "invalid value 'xml' for '--format <FORMAT>'"},
        {"ls --format=", "a value is required for '--format <FORMAT>' but none was supplied"},
        {"ls --forma json", "unexpected argument '--forma' found"},
        {"ls -V", "unexpected argument '-V' found"},
        {"ls -- x", "unexpected argument 'x' found"},
        {"ls -", "unexpected argument '-' found"},
        {"start", "the following required arguments were not provided:"},
        {"exec x ls", "unexpected argument 'ls' found"},
        {"exec x --stream -t -- ls", "the argument '--stream' cannot be used with '--tty'"},
        {"copy a", "the following required arguments were not provided:"},
        {"status x -a", "the argument '[NAME]' cannot be used with '--all'"},
        {"logs x --color auto --no-color",
         "the argument '--color <COLOR>' cannot be used with '--no-color'"},
        {"logs x --tail -1", "unexpected argument '-1' found"},
        {"logs x --source stdout,foo", "invalid value 'foo' for '--source <SOURCE>'"},
        {"stop x --timeout 99999999999999999999",
         "invalid value '99999999999999999999' for '--timeout <TIMEOUT>': number too large to fit "
         "in target type"},
        {"completion foo", "invalid value 'foo' for '<SHELL>'"},
        {"--info", "'msb' requires a subcommand but one was not provided"},
        {"--info --debug ls", "the argument '--info' cannot be used with '--debug'"},
        {"ls --info --debug", "the argument '--info' cannot be used with '--debug'"},
        {"self --info", "'msb self' requires a subcommand but one was not provided"},
        {"-- ls", "unexpected argument 'ls' found"},
        {"-x", "unexpected argument '-x' found"},
        {"help run foo", "unrecognized subcommand 'foo'"},
        {"''", "unrecognized subcommand ''"},
    };
    for (const auto& [line, text] : cases) {
        const auto invocation = parse(line);
        EXPECT_EQ(invocation.kind, Invocation::Kind::kError) << line;
        EXPECT_EQ(invocation.exit_code, 2) << line;
        EXPECT_EQ(first_line(invocation.error), "error: " + text) << line;
    }
}

TEST(Parse, ErrorsHaveClapsLayout) {
    EXPECT_EQ(parse("ls --forma json").error,
              "error: unexpected argument '--forma' found\n\n"
              "  tip: a similar argument exists: '--format'\n\n"
              "Usage: msb list --format <FORMAT>\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("run --thp foo alpine").error,
              "error: invalid value 'foo' for '--thp <POLICY>'\n"
              "  [possible values: always, madvise, never]\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("ls --format jsn").error,
              "error: invalid value 'jsn' for '--format <FORMAT>'\n"
              "  [possible values: json]\n\n"
              "  tip: a similar value exists: 'json'\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("start").error,
              "error: the following required arguments were not provided:\n"
              "  <NAMES>...\n\n"
              "Usage: msb start <NAMES>...\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("run alpine -t --no-tty").error,
              "error: the argument '--tty' cannot be used with '--no-tty'\n\n"
              "Usage: msb run --tty <IMAGE> [-- <COMMAND>...]\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("run alpine extra").error,
              "error: unexpected argument 'extra' found\n\n"
              "Usage: msb run [OPTIONS] [IMAGE] [-- <COMMAND>...]\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("lst").error,
              "error: unrecognized subcommand 'lst'\n\n"
              "  tip: some similar subcommands exist: 'stop', 'ls', 'list'\n\n"
              "Usage: msb [OPTIONS] <COMMAND>\n\n"
              "For more information, try '--help'.\n");
    EXPECT_EQ(parse("run ./x.raw --socks5-username a").error,
              "error: the following required arguments were not provided:\n"
              "  --proxy <socks[4|5]://IP:PORT>\n"
              "  --socks5-password-env <ENV_VAR>\n\n"
              "Usage: msb run --proxy <socks[4|5]://IP:PORT> --socks5-username <USERNAME> "
              "--socks5-password-env <ENV_VAR> "
              "<IMAGE> [-- <COMMAND>...]\n\n"
              "For more information, try '--help'.\n");
}

TEST(Parse, ValuesComeInEveryForm) {
    const auto invocation = parse("run -dtn box -c2 -m=1G --name-x");
    EXPECT_EQ(invocation.kind, Invocation::Kind::kError);
    const auto run = parse(
        "run -dt -nbox -c=2 --memory 1G ./d.raw -e A=1 --env=B=2 --init auto --init-arg --foo -- "
        "-x --tree-no a");
    ASSERT_EQ(run.kind, Invocation::Kind::kRun) << run.error;
    EXPECT_EQ(run.path.back()->id, CommandId::kRun);
    EXPECT_TRUE(run.matches.has("detach") && run.matches.has("tty"));
    EXPECT_EQ(run.matches.value("name"), "box");
    EXPECT_EQ(run.matches.number("cpus"), 2u);
    EXPECT_EQ(run.matches.values("env"), (std::vector<std::string>{"A=1", "B=2"}));
    EXPECT_EQ(run.matches.values("init-arg"), std::vector<std::string>{"--foo"});
    EXPECT_EQ(run.matches.values("COMMAND"), (std::vector<std::string>{"-x", "--tree-no", "a"}));
    EXPECT_EQ(run.matches.value("IMAGE"), "./d.raw");
}

TEST(Parse, LogFlagsStandAnywhere) {
    EXPECT_EQ(parse("--debug ls").log_flag, "debug");
    EXPECT_EQ(parse("ls --warn").log_flag, "warn");
    EXPECT_EQ(parse("ls").log_flag, std::nullopt);
}

TEST(Parse, HelpVersionAndTreeEndParsing) {
    EXPECT_EQ(parse("").kind, Invocation::Kind::kHelp);
    EXPECT_EQ(parse("--info -h").kind, Invocation::Kind::kHelp);
    EXPECT_EQ(parse("help logs").path.back()->id, CommandId::kLogs);
    EXPECT_EQ(parse("ls --help extra").path.back()->id, CommandId::kList);
    EXPECT_EQ(parse("-V").kind, Invocation::Kind::kVersion);
    EXPECT_EQ(parse("exec x -- ls --tree").kind, Invocation::Kind::kTree);
    const auto bare = parse("self");
    EXPECT_EQ(bare.kind, Invocation::Kind::kHelp);
    EXPECT_TRUE(bare.to_stderr);
    EXPECT_EQ(bare.exit_code, 2);
}

// Upstream 0.6.18's answers, taken from its binary.
TEST(Parse, ImageCommandsAnswerAsUpstreamDoes) {
    const ErrorCase cases[] = {
        {"pull",
         "the following required arguments were not provided:\n  <REFERENCE>\n\n"
         "Usage: msb pull <REFERENCE>\n"},
        {"pull -q",
         "the following required arguments were not provided:\n  <REFERENCE>\n\n"
         "Usage: msb pull --quiet <REFERENCE>\n"},
        {"pull a b", "unexpected argument 'b' found\n\nUsage: msb pull [OPTIONS] <REFERENCE>\n"},
        {"pull --materialize x a",
         "invalid value 'x' for '--materialize <MATERIALIZE>'\n"
         "  [possible values: layered, flat, all]\n"},
        {"pull --ca-certs", "a value is required for '--ca-certs <PATH>' but none was supplied\n"},
        {"load a", "unexpected argument 'a' found\n\nUsage: msb load [OPTIONS]\n"},
        {"load --input= ", "a value is required for '--input <PATH>' but none was supplied\n"},
        {"save",
         "the following required arguments were not provided:\n  <REFERENCES>...\n\n"
         "Usage: msb save <REFERENCES>...\n"},
        {"save a --format tar",
         "invalid value 'tar' for '--format <FORMAT>'\n  [possible values: docker, oci]\n"},
        {"image list --format yaml",
         "invalid value 'yaml' for '--format <FORMAT>'\n  [possible values: json]\n"},
        {"images x", "unexpected argument 'x' found\n\nUsage: msb images [OPTIONS]\n"},
        {"rmi",
         "the following required arguments were not provided:\n  <REFERENCES>...\n\n"
         "Usage: msb rmi <REFERENCES>...\n"},
        {"registry login",
         "the following required arguments were not provided:\n  --username <USERNAME>\n"
         "  <REGISTRY>\n\nUsage: msb registry login --username <USERNAME> <REGISTRY>\n"},
        {"registry login host",
         "the following required arguments were not provided:\n  --username <USERNAME>\n\n"
         "Usage: msb registry login --username <USERNAME> <REGISTRY>\n"},
        {"registry login a b",
         "unexpected argument 'b' found\n\n"
         "Usage: msb registry login [OPTIONS] --username <USERNAME> <REGISTRY>\n"},
        {"registry list -q",
         "unexpected argument '-q' found\n\nUsage: msb registry list [OPTIONS]\n"},
        {"regs x", "unexpected argument 'x' found\n\nUsage: msb registries [OPTIONS]\n"},
        {"image lst", "unrecognized subcommand 'lst'\n"},
    };
    for (const auto& [line, text] : cases) {
        const auto invocation = parse(line);
        EXPECT_EQ(invocation.exit_code, 2) << line;
        EXPECT_TRUE(invocation.error.starts_with("error: " + text)) << line << "\n"
                                                                    << invocation.error;
    }
}

TEST(Parse, ImageCommandsHaveTheirOtherNames) {
    const std::pair<std::string, CommandId> names[] = {{"pull a", CommandId::kPull},
                                                       {"image pull a", CommandId::kPull},
                                                       {"load", CommandId::kLoad},
                                                       {"image load", CommandId::kLoad},
                                                       {"save a", CommandId::kSave},
                                                       {"image save a b", CommandId::kSave},
                                                       {"images", CommandId::kImageList},
                                                       {"image ls", CommandId::kImageList},
                                                       {"rmi a", CommandId::kImageRemove},
                                                       {"image rm a b", CommandId::kImageRemove},
                                                       {"regs", CommandId::kRegistryList},
                                                       {"registries", CommandId::kRegistryList},
                                                       {"registry ls", CommandId::kRegistryList}};
    for (const auto& [line, id] : names) {
        const auto invocation = parse(line);
        EXPECT_EQ(invocation.kind, Invocation::Kind::kRun) << line << "\n" << invocation.error;
        EXPECT_EQ(invocation.path.back()->id, id) << line;
    }
    EXPECT_EQ(parse("load -i a -t x -t y").matches.values("tag"),
              (std::vector<std::string>{"x", "y"}));
}

TEST(Parse, CommandsOfLaterIssuesAreNamed) {
    for (const std::string line :
         {"volume", "snapshot ls", "volume create d --size 1G", "ssh", "metrics"}) {
        const auto invocation = parse(line);
        EXPECT_EQ(invocation.kind, Invocation::Kind::kError) << line;
        EXPECT_EQ(invocation.exit_code, 1) << line;
        EXPECT_EQ(invocation.error, "error: `msb " + line.substr(0, line.find(' ')) +
                                        "` is not supported by this build yet\n");
    }
}

// Rows of spec/cli.md section 11 whose errors come from values: exit 1.
TEST(CreateOptions, RefuseWithTheContractsTexts) {
    const ErrorCase cases[] = {
        {"run -m 1T alpine",
         "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
        {"run -m abcG alpine", "invalid size: invalid float literal"},
        {"run -v foo alpine", "volume must be in format source:/guest[:options]"},
        {"run -v a:/b:zz alpine", "mount option \"zz\" must be a flag or key=value"},
        {"run -v a:/b,ro alpine",
         "volume options must use source:guest:options syntax, for example a:/b:ro"},
        {"create x -v /tmp:/x:uid=1", "mount options `uid` and `gid` must be specified together"},
        {"run --mount-named x:/y:kind=disk a", "mount-named kind=disk requires size=..."},
        {"run --init foo alpine", "--init must be an absolute path or `auto`, got: foo"},
        {"run --pull x alpine", "invalid pull policy: x (expected: always, if-missing, never)"},
        {"run --log-level x alpine",
         "invalid log level: x (expected: error, warn, info, debug, trace)"},
        {"run --max-duration 1.5h alpine", "invalid digit found in string"},
        {"run -e NOPE_CLI alpine", "environment variable 'NOPE_CLI' not set"},
        {"run --root-disk flat: alpine", "--root-disk: flat: requires a size or option after ':'"},
        {"run -p 70000:80 alpine", "invalid host port: 70000"},
        {"run --net all,public a", "--net `all` cannot be combined with public, private, or host"},
        {"run --net-rule alow@public a",
         "`alow` is not a recognized action. Expected `allow` or `deny`. Did you mean `allow`?"},
        {"run --secret FOO alpine", "secret must be in format ENV@HOST[,HOST...]"},
        {"run --script a=1 --script-raw a=2 x", "script name 'a' specified more than once"},
        {"run --copy-dir /etc/passwd:/x a", "--copy-dir: /etc/passwd is not a directory"},
        {"run --conf /nonexist a",
         "failed to read sandbox configuration /nonexist: No such file or directory (os error 2)"},
        {"run --on-secret-violation zz a",
         "invalid violation action: zz (expected: block, block-and-log, block-and-terminate, "
         "passthrough)"},
        {"run --replace-with-timeout zz a",
         "--replace-with-timeout: invalid digit found in string"},
    };
    for (const auto& [line, text] : cases) {
        const auto invocation = parse(line);
        ASSERT_EQ(invocation.kind, Invocation::Kind::kRun) << line << "\n" << invocation.error;
        EXPECT_EQ(error_of([&] { return parse_create_options(invocation.matches); }), text) << line;
    }
}

// What would weaken isolation if it were ignored must never be.
TEST(CreateOptions, FlagsOfLaterIssuesAreRefusedByName) {
    const std::pair<std::string, std::string> cases[] = {
        {"-p 80:80", "port"},
        {"-v /tmp:/x", "volume"},
        {"--net none", "net"},
        {"--net-rule deny@any", "net-rule"},
        {"--net-default deny", "net-default"},
        {"--secret A@h", "secret"},
        {"--trust-host-cas", "trust-host-cas"},
        {"--net-strict", "net-strict"},
        {"--tls-intercept", "tls-intercept"},
        {"--max-connections 3", "max-connections"},
        {"--proxy socks5://1.2.3.4:1", "proxy"},
        {"--vsock /a:1", "vsock"},
        {"--mount-dir /tmp:/x", "mount-dir"},
        {"--mount-named a:/b", "mount-named"},
    };
    for (const auto& [flags, name] : cases) {
        const auto invocation = parse("run ./x.raw " + flags);
        ASSERT_EQ(invocation.kind, Invocation::Kind::kRun) << flags << "\n" << invocation.error;
        EXPECT_EQ(error_of([&] { return parse_create_options(invocation.matches); }),
                  "`--" + name + "` is not supported by this build yet");
    }
    const auto snapshot = parse("run --from-snapshot x");
    EXPECT_EQ(error_of([&] { return parse_create_options(snapshot.matches); }),
              "`--from-snapshot` is not supported by this build yet");
}

TEST(CreateOptions, KnowsWhatReuseIgnores) {
    EXPECT_EQ(ignored_creation_flags(
                  parse("run -n x -d -q --timeout 5 --label a=b alpine -- ls").matches),
              "");
    EXPECT_EQ(ignored_creation_flags(parse("run -n x -m 1G").matches), "creation flags");
    EXPECT_EQ(ignored_creation_flags(parse("run -n x --from-snapshot s").matches),
              "--from-snapshot");
    EXPECT_EQ(ignored_creation_flags(parse("run -n x --from-snapshot s -e A=1").matches),
              "--from-snapshot and creation flags");
}

TEST(Help, NamesEveryCommandInItsSection) {
    const auto page = help_page({&root_command()});
    for (const auto* title : {"Sandboxes:", "Images:", "Installation:", "Other:", "Options:"})
        EXPECT_NE(page.find(std::string("\n") + title), std::string::npos) << title;
    EXPECT_EQ(page.find("sandbox  "), std::string::npos) << "hidden commands stay hidden";
    EXPECT_EQ(page.find("volume"), std::string::npos)
        << "commands this build lacks are not offered";
    const auto images = page.substr(page.find("\nImages:\n"));
    std::size_t at = 0;
    for (const std::string command : {"image", "pull", "load", "save", "registry"}) {
        EXPECT_GT(images.find("\n  " + command + " "), at) << command;
        at = images.find("\n  " + command + " ");
    }
    for (const Command& command : root_command().subcommands) {
        if (command.hidden) continue;
        EXPECT_NE(page.find("\n  " + std::string(command.name) + " "), std::string::npos)
            << command.name;
        EXPECT_FALSE(command.about.empty());
    }
}

}  // namespace
}  // namespace msb::cli
