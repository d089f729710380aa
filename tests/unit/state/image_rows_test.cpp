// spec/images.md section 17 and its conformance check 19, on the rows.
#include "state/image_rows.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "fixture.h"
#include "state/sandbox_rows.h"

namespace msb::state {
namespace {

using test::error_of;

ImageRecord image(const std::string& manifest, const std::vector<std::string>& diff_ids) {
    ImageRecord record;
    record.manifest_digest = manifest;
    record.architecture = "amd64";
    record.os = "linux";
    record.config.digest = manifest + "-config";
    for (const std::string& id : diff_ids)
        record.layers.push_back({id, id + "-blob", "application/x", 100, std::nullopt});
    return record;
}

class ImageRowsTest : public ::testing::Test {
  protected:
    void boot_from(const std::string& sandbox, const std::string& manifest) {
        const auto id = insert_starting(database_, sandbox, "{}", false, {});
        replace_rootfs(database_, id, manifest);
    }
    std::vector<std::string> names() {
        std::vector<std::string> references;
        for (const ImageRow& row : list_images(database_))
            references.push_back(row.reference);
        return references;
    }

    test::TempHome home_;
    Database database_ = home_.open();
};

TEST_F(ImageRowsTest, WhatAPullRecordsIsWhatInspectShows) {
    ImageRecord record = image("sha256:m", {"sha256:a", "sha256:b", "sha256:a"});
    record.config.env = {"PATH=/bin", "EMPTY="};
    record.config.cmd = std::vector<std::string>{"sh", "-c", "a \"b\""};
    record.config.working_dir = "/srv";
    record.config.labels = {{"k", "v"}, {"l", ""}};
    record.config.stop_signal = "SIGTERM";
    record_image(database_, "alpine", record);

    const ImageDetailRows detail = get_image_detail(database_, "alpine");
    EXPECT_EQ(detail.image.manifest_digest, "sha256:m");
    EXPECT_EQ(detail.image.architecture, "amd64");
    EXPECT_EQ(detail.image.layer_count, 3);
    EXPECT_EQ(detail.image.total_size_bytes, 300);
    EXPECT_TRUE(detail.image.created_at);
    ASSERT_TRUE(detail.config);
    EXPECT_EQ(detail.config->env, record.config.env);
    EXPECT_EQ(detail.config->cmd, record.config.cmd);
    EXPECT_EQ(detail.config->entrypoint, std::nullopt);
    EXPECT_EQ(detail.config->working_dir, "/srv");
    EXPECT_EQ(detail.config->labels, record.config.labels);
    EXPECT_EQ(detail.config->stop_signal, std::nullopt) << "upstream writes NULL here, always";
    ASSERT_EQ(detail.layers.size(), 3u);
    EXPECT_EQ(detail.layers[1].diff_id, "sha256:b");
    EXPECT_EQ(detail.layers[2].diff_id, "sha256:a") << "a layer may be used twice";
    EXPECT_EQ(detail.layers[2].compressed_size_bytes, 100);

    EXPECT_EQ(home_.query("SELECT media_type, variant, config_digest, layer_count FROM manifest"),
              "NULL|NULL|sha256:m-config|3");
    EXPECT_EQ(home_.query("SELECT env, cmd, entrypoint, labels, stop_signal FROM config"),
              R"(["PATH=/bin","EMPTY="]|["sh","-c","a \"b\""]|NULL|{"k":"v","l":""}|NULL)");
    EXPECT_EQ(home_.query("SELECT erofs_size_bytes FROM layer"), "NULL\nNULL");
}

TEST_F(ImageRowsTest, EmptyEnvAndLabelsAreNull) {
    record_image(database_, "scratch", image("sha256:m", {}));
    EXPECT_EQ(home_.query("SELECT env, labels FROM config"), "NULL|NULL");
    EXPECT_EQ(get_image_detail(database_, "scratch").layers.size(), 0u);
}

TEST_F(ImageRowsTest, TheSameAgainRefreshesOnlyTimes) {
    record_image(database_, "alpine", image("sha256:m", {"sha256:a"}));
    home_.exec(
        "UPDATE image_ref SET created_at = '2020-01-01 00:00:00', updated_at = '2020-01-01 "
        "00:00:00'; "
        "UPDATE layer SET last_used_at = '2020-01-01 00:00:00'; "
        "UPDATE config SET working_dir = '/kept'");
    record_image(database_, "alpine", image("sha256:m", {"sha256:a"}));
    EXPECT_EQ(home_.query("SELECT created_at, updated_at > '2021' FROM image_ref"),
              "2020-01-01 00:00:00|1");
    EXPECT_EQ(home_.query("SELECT last_used_at > '2021' FROM layer"), "1");
    EXPECT_EQ(home_.query("SELECT working_dir FROM config"), "/kept");
}

TEST_F(ImageRowsTest, AMovedTagKeepsTheOldManifestUntilItIsPruned) {
    record_image(database_, "app:1", image("sha256:old", {"sha256:a", "sha256:b"}));
    record_image(database_, "app:1", image("sha256:new", {"sha256:a", "sha256:c"}));
    EXPECT_EQ(get_image(database_, "app:1").manifest_digest, "sha256:new");
    EXPECT_EQ(home_.query("SELECT count(*) FROM image_ref"), "1");

    home_.exec("INSERT INTO sandbox (name, config, status) VALUES ('s', '{}', 'Stopped')");
    replace_rootfs(database_, 1, "sha256:new");
    const RemovedImages removed = prune_images(database_);
    EXPECT_EQ(removed.references, std::vector<std::string>{});
    EXPECT_EQ(removed.manifest_digests, std::vector<std::string>{"sha256:old"});
    EXPECT_EQ(removed.layer_diff_ids, std::vector<std::string>{"sha256:b"});
    EXPECT_EQ(names(), std::vector<std::string>{"app:1"});
}

TEST_F(ImageRowsTest, NewestFirst) {
    record_image(database_, "a", image("sha256:1", {}));
    record_image(database_, "b", image("sha256:2", {}));
    record_image(database_, "a", image("sha256:1", {}));  // used again, not newer
    EXPECT_EQ(names(), (std::vector<std::string>{"b", "a"}));
}

TEST_F(ImageRowsTest, OnlyTheExactTextFinds) {
    record_image(database_, "alpine", image("sha256:m", {}));
    EXPECT_EQ(error_of([&] { get_image(database_, "alpine:latest"); }),
              "image not found: alpine:latest");
    EXPECT_EQ(error_of([&] { remove_image(database_, "docker.io/library/alpine", false); }),
              "image not found: docker.io/library/alpine");
}

TEST_F(ImageRowsTest, TheLastNameTakesManifestAndLayersWithIt) {
    record_image(database_, "one", image("sha256:m", {"sha256:a", "sha256:shared"}));
    record_image(database_, "two", image("sha256:m", {"sha256:a", "sha256:shared"}));
    record_image(database_, "other", image("sha256:n", {"sha256:shared"}));
    RemovedImages removed = remove_image(database_, "one", false);
    EXPECT_EQ(removed.references, std::vector<std::string>{"one"});
    EXPECT_TRUE(removed.manifest_digests.empty());
    EXPECT_TRUE(removed.layer_diff_ids.empty());
    removed = remove_image(database_, "two", false);
    EXPECT_EQ(removed.manifest_digests, std::vector<std::string>{"sha256:m"});
    EXPECT_EQ(removed.layer_diff_ids, std::vector<std::string>{"sha256:a"});
    EXPECT_EQ(home_.query("SELECT count(*) FROM config"), "1") << "the config row cascades";
    EXPECT_EQ(names(), std::vector<std::string>{"other"});
}

TEST_F(ImageRowsTest, AnImageInUseStays) {
    record_image(database_, "one", image("sha256:m", {"sha256:a"}));
    record_image(database_, "two", image("sha256:m", {"sha256:a"}));
    boot_from("web", "sha256:m");
    boot_from("db", "sha256:m");
    EXPECT_EQ(error_of([&] { remove_image(database_, "one", false); }),
              "image in use by sandbox(es): 1, 2");
    // Force takes a name away, but never the last one: the sandboxes' rows hold the manifest.
    EXPECT_EQ(remove_image(database_, "one", true).references, std::vector<std::string>{"one"});
    EXPECT_EQ(error_of([&] { remove_image(database_, "two", true); }),
              "database error: Execution Error: error returned from database: (code: 1811) FOREIGN "
              "KEY constraint failed");
    EXPECT_EQ(names(), std::vector<std::string>{"two"});
    EXPECT_TRUE(prune_images(database_).references.empty());
    EXPECT_EQ(home_.query("SELECT digest FROM manifest"), "sha256:m");
}

TEST_F(ImageRowsTest, PruneSparesWhatSnapshotsName) {
    record_image(database_, "kept", image("sha256:m", {"sha256:a"}));
    record_image(database_, "gone", image("sha256:n", {"sha256:b"}));
    home_.exec(
        "INSERT INTO snapshot_index (digest, scope, state_kind, image_ref, image_manifest_digest, "
        "artifact_path, "
        "created_at, indexed_at) VALUES ('d', 'disk', 'disk', 'kept', 'sha256:m', '/x', "
        "'2026-01-01 00:00:00', "
        "'2026-01-01 00:00:00')");
    const RemovedImages removed = prune_images(database_);
    EXPECT_EQ(removed.references, std::vector<std::string>{"gone"});
    EXPECT_EQ(removed.layer_diff_ids, std::vector<std::string>{"sha256:b"});
    EXPECT_EQ(names(), std::vector<std::string>{"kept"});
}

TEST_F(ImageRowsTest, ColumnsOfAnotherHandAreReadLeniently) {
    record_image(database_, "x", image("sha256:m", {"sha256:a"}));
    home_.exec(
        "UPDATE config SET env = 'not json', cmd = '{\"a\":1}', entrypoint = '[1]', labels = '[]', "
        "stop_signal = 'SIGQUIT'; UPDATE manifest SET layer_count = NULL, total_size_bytes = NULL, "
        "os = NULL");
    const ImageDetailRows detail = get_image_detail(database_, "x");
    EXPECT_TRUE(detail.config->env.empty());
    EXPECT_FALSE(detail.config->cmd);
    EXPECT_FALSE(detail.config->entrypoint);
    EXPECT_TRUE(detail.config->labels.empty());
    EXPECT_EQ(detail.config->stop_signal, "SIGQUIT");
    EXPECT_EQ(detail.image.layer_count, 0);
    EXPECT_FALSE(detail.image.os);
}

}  // namespace
}  // namespace msb::state
