// save_archive(): what goes in comes out again. spec/images.md sections 16.2 and 19.
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "archive_fixture.h"
#include "image/tar_reader.h"

namespace msb::image {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

using ArchiveSave = ArchiveTest;

// The members of a tar, read with our own reader.
std::vector<std::pair<TarEntry, std::string>> members_of(std::string_view tar) {
    StringSource source(tar);
    TarReader reader(source);
    std::vector<std::pair<TarEntry, std::string>> members;
    while (auto entry = reader.next()) {
        std::string content(entry->stored_size, '\0');
        std::size_t done = 0;
        while (std::size_t n =
                   reader.read_data(std::as_writable_bytes(std::span(content)).subspan(done)))
            done += n;
        members.emplace_back(*std::move(entry), std::move(content));
    }
    return members;
}

std::vector<std::string> paths_of(std::string_view tar) {
    std::vector<std::string> paths;
    for (const auto& [entry, content] : members_of(tar))
        paths.push_back(entry.path);
    return paths;
}

std::string member(std::string_view tar, std::string_view path) {
    for (const auto& [entry, content] : members_of(tar)) {
        if (entry.path == path) return content;
    }
    throw std::out_of_range(std::string(path));
}

// Every kind of entry an image can hold.
std::string layer_with_everything() {
    std::string long_name = "d/" + std::string(255, 'n');
    TarBuilder tar;
    tar.directory("d", 01777);
    tar.add("d/file", std::string(9000, 'x'), {.mode = 04755, .uid = 7, .gid = 8, .mtime = 99});
    tar.pax("path", long_name).file("x", "long");
    tar.hard_link("a-hard", "d/file");
    tar.hard_link("z-hard", "d/file");
    tar.pax("linkpath", std::string(300, 't')).symlink("d/link", "t");
    tar.add("char", "", {.type = '3', .mode = 0600, .major = 5, .minor = 300});
    tar.add("block", "", {.type = '4', .mode = 0600, .major = 300, .minor = 70000});
    tar.add("fifo", "", {.type = '6', .mode = 0644, .mtime = 5});
    tar.add("socket", "", {.type = '`', .mode = 0755});
    tar.pax("uid", "3000000").add("owned", "", {.type = '5', .mode = 0700, .gid = 70000});
    tar.add("owned/.wh.gone", "", {.mode = 0, .uid = 5, .mtime = 77});
    tar.file("owned/.wh..wh..opq", "");
    tar.pax("SCHILY.xattr.security.capability", std::string("\1\0\0\2 \n=", 7))
        .file("capable", "c");
    tar.pax("SCHILY.xattr.user.a", "1").pax("SCHILY.xattr.user.b", "2").directory("attributed");
    tar.file("caf\xc3\xa9 \xff\xfe", "not all names are text");
    tar.file("empty", "");
    return tar.finish();
}

// Checks 4 and 7 of section 19, and what upstream 0.6.18 `msb save` writes of the same image, whole.
TEST_F(ArchiveSave, GoldenArchivesAreUpstreams) {
    std::string layer = golden_layer();
    std::string config =
        R"({"architecture":"amd64","os":"linux","config":{"Cmd":["cat","/hello.txt"]},"rootfs":{"type":"layers","diff_ids":[")" +
        digest_of(layer) + R"("]}})";
    load(tar_of({{"manifest.json", R"([{"Config":"c","RepoTags":["golden:1"],"Layers":["l"]}])"},
                 {"c", config},
                 {"l", layer}}));
    std::string docker = save({"golden:1"});
    const std::string hex = "3170418b3b44bc9dfb589a280278ddd8a1e337c583b1748f679d36f5d49ba439";
    const std::string config_name =
        "4e1c3ab187fae7ae55b4bf40de1eab49c00562f7c40d3b57ad32b5f5ff63af96.json";
    EXPECT_THAT(paths_of(docker), ElementsAre("manifest.json", config_name, hex + "/VERSION",
                                              hex + "/json", hex + "/layer.tar"));
    EXPECT_EQ(sha256_hex(member(docker, hex + "/layer.tar")), hex);
    EXPECT_EQ(sha256_hex(docker),
              "fc69b315d4c0e3049b57fb00bc7ae77fa5539ca31dfe626037b4a0684c6bab49");
    EXPECT_EQ(sha256_hex(save({"golden:1"}, ArchiveFormat::kOci)),
              "607656d706168038912282c8fc09338edaeffe0c501d17640d2ff64aed0f1a72");
}

// A layer that is saved and loaded again gives the same layer image, byte for byte, though its tar is another.
TEST_F(ArchiveSave, EverythingComesBack) {
    std::string tar = layer_with_everything();
    load(docker_archive({tar}, {"x:1"}));
    std::string original = read_file(cache_->layer_image(digest_of(tar)));
    for (ArchiveFormat format : {ArchiveFormat::kDocker, ArchiveFormat::kOci}) {
        std::string archive = save({"x:1"}, format);
        EXPECT_EQ(save({"x:1"}, format), archive);
        Cache first = *std::exchange(cache_, Cache(directory_ / std::to_string(int(format))));
        auto loaded = load(archive);
        EXPECT_THAT(names(loaded), ElementsAre("x:1 loaded"));
        const CachedLayer& layer = loaded[0].image->layers.at(0);
        EXPECT_NE(layer.diff_id, digest_of(tar));
        EXPECT_TRUE(read_file(cache_->layer_image(layer.diff_id)) == original);
        // Saving what was saved changes nothing any more.
        EXPECT_TRUE(save({"x:1"}, format) == archive);
        cache_ = first;
    }
}

TEST_F(ArchiveSave, LayersAsGnuTars) {
    std::string tar = layer_with_everything();
    load(docker_archive({tar}, {"x:1"}));
    std::string archive = save({"x:1"});
    std::string layer;
    for (const auto& [entry, content] : members_of(archive)) {
        if (entry.path.ends_with("/layer.tar")) layer = content;
    }
    auto members = members_of(layer);
    std::map<std::string, TarEntry> by_path;
    std::vector<std::string> order;
    for (const auto& [entry, content] : members) {
        by_path[entry.path] = entry;
        order.push_back(entry.path);
    }
    // Byte order, directories before what they hold, their marker first.
    EXPECT_THAT(order, ElementsAre("a-hard", "attributed", "block", "caf\xc3\xa9 \xff\xfe",
                                   "capable", "char", "d", "d/file", "d/link",
                                   "d/" + std::string(255, 'n'), "empty", "fifo", "owned",
                                   "owned/.wh..wh..opq", "owned/.wh.gone", "socket", "z-hard"));
    EXPECT_EQ(by_path["a-hard"].type, '0');  // the first name is the file
    EXPECT_EQ(by_path["a-hard"].mode, 04755U);
    EXPECT_EQ(by_path["d/file"].type, '1');
    EXPECT_EQ(by_path["d/file"].link_target, "a-hard");
    EXPECT_EQ(by_path["z-hard"].link_target, "a-hard");
    EXPECT_EQ(by_path["d/link"].link_target, std::string(300, 't'));
    EXPECT_EQ(by_path["block"].device_minor, 70000U);
    EXPECT_EQ(by_path["socket"].type, '`');
    EXPECT_EQ(by_path["owned"].uid, 3000000U);
    EXPECT_EQ(by_path["owned/.wh.gone"].mode, 0U);
    EXPECT_EQ(by_path["owned/.wh.gone"].uid, 5U);
    EXPECT_EQ(by_path["owned/.wh.gone"].mtime, 77);
    EXPECT_EQ(by_path["owned/.wh..wh..opq"].uid, 3000000U);
    EXPECT_THAT(by_path["capable"].xattrs,
                ElementsAre(Xattr{"security.capability", std::string("\1\0\0\2 \n=", 7)}));
    EXPECT_EQ(by_path["attributed"].xattrs.size(), 2U);
}

TEST_F(ArchiveSave, SeveralImagesShareLayers) {
    std::string one = golden_layer();
    std::string two = TarBuilder().file("two", "2").finish();
    load(docker_archive({one}, {"a:1", "b:1"}));
    load(docker_archive({two, one, two}, {"c:1"}));
    std::string docker = save({"c:1", "a:1", "b:1"});
    std::vector<std::string> paths = paths_of(docker);
    EXPECT_EQ(paths.size(), 1 + 3 + 2 * 3U);  // a config for each name, each layer once
    EXPECT_EQ(paths[2], paths[3]);
    auto manifest = Json::parse(member(docker, "manifest.json"));
    EXPECT_EQ(manifest.at(0).at("RepoTags"), Json({"c:1"}));
    EXPECT_EQ(manifest.at(0).at("Layers").size(), 3U);
    EXPECT_EQ(manifest.at(0).at("Layers").at(0), manifest.at(0).at("Layers").at(2));

    std::string oci = save({"c:1", "a:1", "b:1"}, ArchiveFormat::kOci);
    EXPECT_EQ(paths_of(oci).size(), 4 + 2 * 2 + 2U);
    cache_.emplace(directory_ / "other");
    EXPECT_THAT(names(load(oci)), ElementsAre("c:1 loaded", "a:1 loaded", "b:1 loaded"));
    cache_.emplace(directory_ / "third");
    EXPECT_THAT(names(load(docker)), ElementsAre("c:1 loaded", "a:1 loaded", "b:1 loaded"));
}

TEST_F(ArchiveSave, TheConfigIsKept) {
    std::string layer = golden_layer();
    std::string config =
        R"({"rootfs":{"type":"layers","diff_ids":[")" + digest_of(layer) +
        R"("],"extra":1},"os":"plan9","zeta":[1.5,{"b":null,"a":18446744073709551615}],"history":[{"created_by":"é"}],"architecture":"arm64"})";
    load(tar_of({{"manifest.json", R"([{"Config":"c","RepoTags":["x"],"Layers":["l"]}])"},
                 {"c", config},
                 {"l", layer}}));
    std::string archive = save({"x"}, ArchiveFormat::kOci);
    Json index = Json::parse(member(archive, "index.json"));
    EXPECT_EQ(index["manifests"][0]["platform"],
              Json({{"architecture", "arm64"}, {"os", "plan9"}}));
    Json manifest = Json::parse(member(
        archive, "blobs/sha256/" + index["manifests"][0]["digest"].get<std::string>().substr(7)));
    std::string saved = member(
        archive, "blobs/sha256/" + manifest["config"]["digest"].get<std::string>().substr(7));
    EXPECT_EQ(
        saved,
        R"({"architecture":"arm64","history":[{"created_by":"é"}],"os":"plan9","rootfs":{"diff_ids":["sha256:3170418b3b44bc9dfb589a280278ddd8a1e337c583b1748f679d36f5d49ba439"],"type":"layers"},"zeta":[1.5,{"a":18446744073709551615,"b":null}]})");
}

TEST_F(ArchiveSave, Errors) {
    auto error = [&](const std::vector<std::string>& references) -> std::string {
        try {
            save(references);
        } catch (const Error& e) {
            return e.what();
        }
        return "saved";
    };
    EXPECT_EQ(error({"UP"}), "invalid image reference 'UP': invalid reference format");
    EXPECT_EQ(error({"absent:1"}), "image not found: absent:1");
    load(docker_archive({golden_layer()}, {"x:1"}));
    std::filesystem::path layer = cache_->layer_image(digest_of(golden_layer()));
    std::filesystem::remove(layer);
    EXPECT_EQ(error({"x:1"}), "image error: cache error at " + layer.native() +
                                  ": No such file or directory (os error 2)");
    std::ofstream(layer) << std::string(4096, 'x');
    EXPECT_THAT(error({"x:1"}), StartsWith("image error: not a usable EROFS image"));
}

TEST_F(ArchiveSave, AFileIsReplacedOnlyByAWholeArchive) {
    load(docker_archive({golden_layer()}, {"x:1"}));
    auto images = find_images_to_save(*cache_, std::vector<std::string>{"x:1"});
    std::filesystem::path path = directory_ / "out.tar";
    save_archive(*cache_, images, ArchiveFormat::kDocker, path);
    std::string archive = save({"x:1"});
    EXPECT_TRUE(read_file(path) == archive);
    EXPECT_EQ(std::filesystem::status(path).permissions() & std::filesystem::perms::group_read,
              std::filesystem::perms::group_read);

    std::filesystem::remove(cache_->layer_image(digest_of(golden_layer())));
    EXPECT_THROW(save_archive(*cache_, images, ArchiveFormat::kOci, path), Error);
    EXPECT_TRUE(read_file(path) == archive);
    try {
        save_archive(*cache_, {}, ArchiveFormat::kOci, directory_ / "missing/out.tar");
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(std::string(e.what()), "image error: cache error at " +
                                             (directory_ / "missing/out.tar").native() +
                                             ": No such file or directory (os error 2)");
    }
    EXPECT_THAT(std::distance(std::filesystem::directory_iterator(directory_), {}), 2);
}

TEST_F(ArchiveSave, ToAPipeAndToSomethingThatFails) {
    load(docker_archive({golden_layer()}, {"x:1"}));
    auto images = find_images_to_save(*cache_, std::vector<std::string>{"x:1"});
    std::filesystem::path fifo = directory_ / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    std::string received;
    std::jthread reader([&] { received = read_file(fifo); });
    save_archive(*cache_, images, ArchiveFormat::kDocker, fifo);
    reader.join();
    EXPECT_TRUE(received == save({"x:1"}));
    try {
        save_archive(*cache_, images, ArchiveFormat::kDocker, "/dev/full");
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(std::string(e.what()),
                  "image error: write archive: No space left on device (os error 28)");
    }
}

TEST_F(ArchiveSave, Stops) {
    load(docker_archive({golden_layer()}, {"x:1"}));
    auto images = find_images_to_save(*cache_, std::vector<std::string>{"x:1"});
    std::stop_source source;
    source.request_stop();
    UniqueFd out = file_of("");
    try {
        save_archive(*cache_, images, ArchiveFormat::kDocker, out.get(), source.get_token());
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kCancelled);
    }
    EXPECT_EQ(contents(out.get()), "");
}

}  // namespace
}  // namespace msb::image
