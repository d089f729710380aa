"""Pulls and credentials against Debian's docker-registry on loopback (spec/cli.md section 8, spec/images.md section 3)."""

import base64
import json
import re

import msbregistry
import pytest


@pytest.fixture(scope="module")
def layout(place):
    layout = msbregistry.Layout(str(place.directory / "layout"))
    layout.image([msbregistry.make_tar({"a": b"x" * 2000}), msbregistry.make_tar({"b": b"y"})])
    return layout.directory


@pytest.fixture(scope="module")
def plain(layout):
    with msbregistry.Registry() as registry:
        registry.push(layout, "team/app:1")
        yield registry


@pytest.fixture(scope="module")
def locked(layout):
    with msbregistry.Registry(user=("ann", "secret")) as registry:
        registry.push(layout, "team/app:1")
        yield registry


@pytest.fixture
def config(place):
    """Writes config.json; gone afterwards."""
    path = place.home / "config.json"
    yield lambda value: path.write_text(value if isinstance(value, str) else json.dumps(value))
    for file in (path, place.home / "config.json.lock"):
        file.unlink(missing_ok=True)


def host_config(registry, **auth):
    return {"registries": {"hosts": {registry.host: {"insecure": True, "auth": auth}}}}


def test_pull_says_what_it_did(msb, plain):
    reference = f"{plain.host}/team/app:1"
    result = msb("pull", "--insecure", reference)
    assert (result.code, result.out) == (0, "")
    assert re.fullmatch(f"   ✓ Pulled       {reference}( \\([0-9.]+s\\))?\n", result.err), result
    assert msb("pull", reference).err == f"   ✓ Pulled       {reference} (already cached)\n", "nobody is asked"
    assert msb("pull", "-q", reference).err == ""
    result = msb("image", "pull", "-f", "--insecure", reference)
    assert re.fullmatch(f"   ✓ Pulled       {reference}( \\([0-9.]+s\\))?\n", result.err), "made anew"
    assert msb("images", "-q").out == f"{reference}\n"


def test_a_failed_pull_names_the_image_and_the_cause(msb, plain):
    reference = f"{plain.host}/team/nope:1"
    result = msb("pull", "--insecure", reference)
    error = (f"error: registry error: Registry error: url http://{plain.host}/v2/team/nope/manifests/1, envelope: OCI API "
             "errors: [OCI API error: manifest unknown]\n")
    assert (result.code, result.out, result.err) == (1, "", f"   ✗ Pulling      {reference}\n{error}")
    assert msb("pull", "-q", "--insecure", reference).err == error
    result = msb("create", reference, "-n", "never")
    assert result.code == 1 and result.err.startswith("error: image error: registry error: "), result
    assert "never" not in msb.names()


@pytest.mark.parametrize("materialize", ["layered", "flat", "all"])
def test_materialize_decides_what_is_prepared(place, plain, materialize, tmp_path):
    environment = {"MSB_HOME": str(tmp_path)}
    place.msb.ok("pull", "-q", "--insecure", "--materialize", materialize, f"{plain.host}/team/app:1", env=environment)
    cache = tmp_path / "cache"
    assert bool(list(cache.glob("vmdk/*.vmdk"))) == (materialize != "flat")
    assert bool(list(cache.glob("flat/blobs/*"))) == (materialize != "layered")


def test_a_default_flat_root_disk_makes_pulls_flat(place, plain, tmp_path):
    (tmp_path / "config.json").write_text('{"sandbox_defaults":{"oci":{"root_disk":{"kind":"flat"}}}}')
    place.msb.ok("pull", "-q", "--insecure", f"{plain.host}/team/app:1", env={"MSB_HOME": str(tmp_path)})
    assert list((tmp_path / "cache").glob("flat/blobs/*")) and not list((tmp_path / "cache").glob("vmdk/*.vmdk"))


def test_tls_with_an_authority_of_ones_own(msb, layout, tmp_path):
    authority, certificate, key = msbregistry.make_certificate(str(tmp_path))
    with msbregistry.Registry(tls=(certificate, key)) as registry:
        registry.push(layout, "team/app:1")
        reference = f"{registry.host}/team/app:1"
        result = msb("pull", reference)
        assert result.code == 1 and "error: registry error: error sending request for url (https://" in result.err
        msb.ok("pull", "--ca-certs", authority, reference)
        result = msb("pull", "-f", "--ca-certs", "/etc/hostname", reference)
        assert result.code == 1
        assert result.err.endswith("error: invalid PEM certificate: entry 0: no certificates found in PEM data\n")


def test_credentials_from_a_variable_a_file_or_docker(msb, place, locked, config):
    reference = f"{locked.host}/team/app:1"
    denied = f"error: registry error: Not authorized: url http://{locked.host}/v2/team/app/manifests/1\n"
    assert msb("pull", "-f", "--insecure", reference).err == f"   ✗ Pulling      {reference}\n{denied}"

    config(host_config(locked, username="ann", password_env="PASSWORD"))
    assert msb("pull", "-f", reference).err == (
        f"error: invalid config: registry auth for {locked.host}: environment variable `PASSWORD` is not set\n")
    msb.ok("pull", "-f", reference, env={"PASSWORD": "secret"})

    secrets = place.home / "secrets/registries"
    secrets.mkdir(parents=True)
    (secrets / "ours").write_text("secret\n")
    config(host_config(locked, username="ann", secret_name="ours"))
    msb.ok("pull", "-f", reference)
    (secrets / "ours").write_text("wrong")
    assert msb("pull", "-f", reference).err == f"   ✗ Pulling      {reference}\n{denied}"

    config(host_config(locked, username="ann"))
    assert msb("pull", "-f", reference).err == (
        f"error: invalid config: registry auth for {locked.host}: entry has no credential source\n")

    config({})
    docker = place.work / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps(
        {"auths": {locked.host: {"auth": base64.b64encode(b"ann:secret").decode()}}}))
    msb.ok("pull", "-f", "--insecure", reference)
    (docker / "config.json").unlink()


HOSTS = {
    "A.io": {"auth": {"username": "e", "secret_name": "s", "password_env": "Q"}},
    "b.io": {"auth": {"username": "b", "password_env": "X"}, "insecure": True},
    "c.io": {"auth": {"username": "c", "secret_name": "s"}},
    "d.io": {"auth": {"username": "d"}},
    "f.io": {"insecure": True},
    "ghcr.io": {"auth": {"username": "a", "store": "keyring"}},
}


def test_list_shows_sources_and_no_secrets(msb, config):
    for command in (["registry", "list"], ["registry", "ls"], ["registries"], ["regs"]):
        result = msb(*command)
        assert (result.code, result.out, result.err) == (0, "No registries configured.\n", "")
    config({"registries": {"hosts": {name: HOSTS[name] for name in reversed(HOSTS)}}})
    assert msb("regs").out == ("REGISTRY    USERNAME    SOURCE\n"
                               "A.io        e           multiple\n"
                               "b.io        b           password_env\n"
                               "c.io        c           secret_name\n"
                               "d.io        d           unset\n"
                               "ghcr.io     a           keyring\n")


def test_faulty_configuration_is_told_and_left_alone(msb, place, config):
    path = place.home / "config.json"
    wrong = '{"registries":{"hosts":5}}'
    config(wrong)
    for command in (["registry", "list"], ["registry", "logout", "a.io"]):
        result = msb(*command)
        assert result.code == 1
        assert result.err == (f"error: invalid config: failed to parse config `{path}`: invalid type: integer `5`, expected "
                              "a map at line 1 column 24\n") or result.err.startswith(
                                  f"error: invalid config: failed to parse config `{path}`: invalid type: integer `5`, "), result
    assert path.read_text() == wrong
    config("{bad")
    result = msb("registry", "list")
    assert result.err.startswith(f"error: invalid config: failed to parse SDK config at {path}: ")
    result = msb("registry", "logout", "a.io", env={"MSB_BACKEND": "local"})
    assert result.err.startswith(f"error: invalid config: failed to parse config `{path}`: ")
    assert path.read_text() == "{bad"


def test_logout_takes_away_only_its_entry(msb, place, config):
    path = place.home / "config.json"
    original = {"zeta": 1, "registries": {"hosts": HOSTS, "more": [1.5]}, "active_profile": "x",
                "profiles": {"x": {"backend": "local"}}}
    config(original)
    for host in ("f.io", "nowhere"):
        before = path.read_text()
        result = msb("registry", "logout", host)
        assert (result.code, result.out, result.err) == (
            0, "", f"warn: no stored registry credentials found for `{host}`\n")
        assert path.read_text() == before
    for host in ("b.io", "c.io"):
        result = msb("registry", "logout", host)
        assert (result.code, result.out, result.err) == (0, "", f"   ✓ Logged out   {host}\n")
    hosts = {name: HOSTS[name] for name in HOSTS if name != "c.io"} | {"b.io": {"insecure": True}}
    assert json.loads(path.read_text()) == original | {"registries": {"hosts": hosts, "more": [1.5]}}
    assert list(json.loads(path.read_text())) == list(original), "keys keep their order"
    result = msb("registry", "logout", "ghcr.io")
    assert (result.code, result.err) == (1, "error: secure OS credential storage is disabled; enable the `keyring` feature "
                                            "to use it for `ghcr.io`\n")
    assert "ghcr.io" in path.read_text(), "a password in a keyring is out of our reach"


def test_a_cloud_backend_is_no_obstacle(msb):
    environment = {"MSB_BACKEND": "cloud", "MSB_API_KEY": "k"}
    assert msb("registry", "list", env=environment).out == "No registries configured.\n"
    assert msb("registry", "logout", "a.io", env=environment).code == 0


def test_login_has_no_place_for_a_password_and_says_where_to_put_it(msb, place):
    result = msb("registry", "login", "h.io", "-u", "ann", "--password-stdin", stdin=b"secret\n")
    lines = result.err.splitlines()
    assert (result.code, result.out) == (1, "")
    assert lines[0] == ("error: secure credential storage is unavailable for `h.io`: secure OS credential storage is "
                        "disabled; enable the `keyring` feature to use it for `h.io`")
    assert f"`{place.home}/secrets/registries/NAME`" in lines[1]
    entry = json.loads(lines[2].split("`: ")[1])
    assert entry == {"registries": {"hosts": {"h.io": {"auth": {"username": "ann", "secret_name": "NAME"}}}}}
    assert "secret\n" not in result.err and not (place.home / "config.json").exists()
    for empty in (b"", b"\n", b"\r\n"):
        result = msb("registry", "login", "h.io", "-u", "ann", "--password-stdin", stdin=empty)
        assert (result.code, result.err) == (1, "error: password/token cannot be empty\n")
