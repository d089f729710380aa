// The commands about images and registries (spec/cli.md section 8).
#include "cli/command_table.h"

namespace msb::cli {

namespace {

constexpr std::string_view kJsonOnly[] = {"json"};
constexpr std::string_view kArchiveFormats[] = {"docker", "oci"};
constexpr std::string_view kMaterialize[] = {"layered", "flat", "all"};

constexpr Arg kReference[] = {
    {.kind = ArgKind::kPositional,
     .name = "REFERENCE",
     .value_name = "REFERENCE",
     .help = "Image, by the name it was pulled or loaded under",
     .required_unless = "-"},
};
constexpr Arg kReferences[] = {
    {.kind = ArgKind::kPositional,
     .name = "REFERENCES",
     .value_name = "REFERENCES",
     .help = "Images, by the names they were pulled or loaded under",
     .required_unless = "-",
     .repeatable = true},
};
constexpr Arg kFormat[] = {
    {.kind = ArgKind::kOption,
     .name = "format",
     .value_name = "FORMAT",
     .help = "Output format (json)",
     .type = ValueType::kChoice,
     .choices = kJsonOnly},
};
constexpr Arg kNamesOnly[] = {
    {.name = "quiet", .letter = 'q', .help = "Show only image references"}};
constexpr Arg kQuiet[] = {{.name = "quiet", .letter = 'q', .help = "Print nothing but errors"}};

constexpr Arg kPull[] = {
    {.kind = ArgKind::kPositional,
     .name = "REFERENCE",
     .value_name = "REFERENCE",
     .help = "Image to fetch (debian, ghcr.io/owner/name:tag, 127.0.0.1:5000/app@sha256:...)",
     .required_unless = "-"},
    {.name = "force", .letter = 'f', .help = "Fetch and prepare it anew although it is cached"},
    {.name = "quiet", .letter = 'q', .help = "No progress display"},
    {.name = "insecure", .help = "Use plain HTTP to talk to the registry"},
    {.kind = ArgKind::kOption,
     .name = "ca-certs",
     .value_name = "PATH",
     .help = "PEM file of certificates to trust in addition to the system's"},
    {.kind = ArgKind::kOption,
     .name = "materialize",
     .value_name = "MATERIALIZE",
     .help = "What to prepare (default: flat if config.json's default root disk is, else layered)",
     .type = ValueType::kChoice,
     .choices = kMaterialize},
};
constexpr Arg kLoad[] = {
    {.kind = ArgKind::kOption,
     .name = "input",
     .letter = 'i',
     .value_name = "PATH",
     .help = "Archive to read, instead of standard input",
     .type = ValueType::kPath},
    {.kind = ArgKind::kOption,
     .name = "tag",
     .letter = 't',
     .value_name = "REF",
     .help = "Another name for the first image of the archive",
     .repeatable = true},
};
constexpr Arg kSave[] = {
    {.kind = ArgKind::kOption,
     .name = "format",
     .value_name = "FORMAT",
     .help = "Kind of archive (default: docker)",
     .type = ValueType::kChoice,
     .choices = kArchiveFormats},
    {.kind = ArgKind::kOption,
     .name = "output",
     .letter = 'o',
     .value_name = "PATH",
     .help = "Archive to write, instead of standard output",
     .type = ValueType::kPath},
};
constexpr Arg kRemove[] = {
    {.name = "force", .letter = 'f', .help = "Also an image that a sandbox was made from"}};
constexpr Arg kPrune[] = {{.name = "yes", .letter = 'y', .help = "Do not ask"}};

constexpr Arg kRegistry[] = {
    {.kind = ArgKind::kPositional,
     .name = "REGISTRY",
     .value_name = "REGISTRY",
     .help = "Host of the registry, with its port if it has one (ghcr.io, localhost:5000)",
     .required_unless = "-"},
};
constexpr Arg kLogin[] = {
    {.kind = ArgKind::kOption,
     .name = "username",
     .letter = 'u',
     .value_name = "USERNAME",
     .help = "User name at the registry",
     .required_unless = "-"},
    {.name = "password-stdin", .help = "Read the password or token from standard input"},
};

constexpr std::span<const Arg> kPullArgs[] = {kPull};
constexpr std::span<const Arg> kLoadArgs[] = {kLoad, kQuiet};
constexpr std::span<const Arg> kSaveArgs[] = {kReferences, kSave, kQuiet};
constexpr std::span<const Arg> kListArgs[] = {kFormat, kNamesOnly};
constexpr std::span<const Arg> kInspectArgs[] = {kReference, kFormat};
constexpr std::span<const Arg> kRemoveArgs[] = {kReferences, kRemove, kQuiet};
constexpr std::span<const Arg> kPruneArgs[] = {kPrune, kFormat, kQuiet};
constexpr std::span<const Arg> kLoginArgs[] = {kRegistry, kLogin};
constexpr std::span<const Arg> kLogoutArgs[] = {kRegistry};

constexpr std::string_view kPullAbout = "Fetch an image from a registry";
constexpr std::string_view kLoadAbout = "Read images from an archive (docker save, OCI layout)";
constexpr std::string_view kSaveAbout = "Write images into an archive";

constexpr Command kImageSubcommands[] = {
    {.id = CommandId::kPull, .name = "pull", .about = kPullAbout, .args = kPullArgs},
    {.id = CommandId::kImageList,
     .name = "list",
     .about = "List the images of this machine",
     .args = kListArgs,
     .alias = "ls"},
    {.id = CommandId::kImageInspect,
     .name = "inspect",
     .about = "Show the configuration and the layers of an image",
     .args = kInspectArgs},
    {.id = CommandId::kLoad, .name = "load", .about = kLoadAbout, .args = kLoadArgs},
    {.id = CommandId::kSave, .name = "save", .about = kSaveAbout, .args = kSaveArgs},
    {.id = CommandId::kImageRemove,
     .name = "remove",
     .about = "Delete images",
     .args = kRemoveArgs,
     .alias = "rm"},
    {.id = CommandId::kImagePrune,
     .name = "prune",
     .about = "Delete the images that no sandbox and no snapshot uses",
     .args = kPruneArgs},
};
constexpr Command kRegistrySubcommands[] = {
    {.id = CommandId::kRegistryLogin,
     .name = "login",
     .about = "Keep a password for a registry in the system's credential store",
     .args = kLoginArgs},
    {.id = CommandId::kRegistryLogout,
     .name = "logout",
     .about = "Forget the credentials configured for a registry",
     .args = kLogoutArgs},
    {.id = CommandId::kRegistryList,
     .name = "list",
     .about = "Show for which registries credentials are configured, and where they come from",
     .alias = "ls"},
};

}  // namespace

constexpr Command kPullCommand{.id = CommandId::kPull,
                               .name = "pull",
                               .about = kPullAbout,
                               .args = kPullArgs,
                               .section = Section::kImages};
constexpr Command kLoadCommand{.id = CommandId::kLoad,
                               .name = "load",
                               .about = kLoadAbout,
                               .args = kLoadArgs,
                               .section = Section::kImages};
constexpr Command kSaveCommand{.id = CommandId::kSave,
                               .name = "save",
                               .about = kSaveAbout,
                               .args = kSaveArgs,
                               .section = Section::kImages};
constexpr Command kImageCommand{.id = CommandId::kImage,
                                .name = "image",
                                .about = "Look after the images of this machine",
                                .subcommands = kImageSubcommands,
                                .section = Section::kImages};
constexpr Command kRegistryCommand{.id = CommandId::kRegistry,
                                   .name = "registry",
                                   .about = "Look after credentials for registries",
                                   .subcommands = kRegistrySubcommands,
                                   .section = Section::kImages};
constexpr Command kImagesCommand{.id = CommandId::kImageList,
                                 .name = "images",
                                 .about = "The same as `msb image list`",
                                 .args = kListArgs,
                                 .hidden = true};
constexpr Command kRmiCommand{.id = CommandId::kImageRemove,
                              .name = "rmi",
                              .about = "The same as `msb image remove`",
                              .args = kRemoveArgs,
                              .hidden = true};
constexpr Command kRegistriesCommand{.id = CommandId::kRegistryList,
                                     .name = "registries",
                                     .about = "The same as `msb registry list`",
                                     .alias = "regs",
                                     .hidden = true};

}  // namespace msb::cli
