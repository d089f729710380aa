"""Pulls from Debian's docker-registry: plain, TLS with an own CA, basic authentication, in parallel, and killed."""

import base64
import http.server
import json
import os
import pathlib
import random
import signal
import ssl
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "lib"))
import msbregistry  # noqa: E402

PULL = pathlib.Path(os.environ.get("MSB_BUILD_DIR", "build")) / "tests/image_pull"


def start_pull(cache, reference, *flags, **options):
    return subprocess.Popen([PULL, cache, reference, "--docker-config", "/nonexistent", *flags],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def pull(cache, reference, *flags):
    """(stdout lines, error text)"""
    process = start_pull(cache, reference, *flags)
    out, err = process.communicate(timeout=120)
    assert (process.returncode == 0) == (err == ""), err
    return out.splitlines(), err.strip()


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """Three layers: files, more files, whiteouts over them."""
    layout = msbregistry.Layout(str(tmp_path_factory.mktemp("layout") / "oci"))
    layout.digest = layout.image([
        msbregistry.make_tar(msbregistry.random_tree(1, 300, 20_000)),
        msbregistry.make_tar(msbregistry.random_tree(2, 300, 20_000)),
        msbregistry.make_tar({"d1-0": None, "d1-0/.wh.f0": b"", "d1-1": None, "d1-1/.wh..wh..opq": b"",
                              "link": "d2-0/f0"}),
    ])
    return layout


@pytest.fixture(scope="module")
def registry(layout):
    with msbregistry.Registry() as registry:
        registry.push(layout.directory, "team/image:1")
        yield registry


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return msbregistry.make_certificate(str(tmp_path_factory.mktemp("certificates")))


def artifacts(cache):
    """The names and contents of everything a sandbox would use. A VMDK holds the cache's own path."""
    found = {}
    for path in pathlib.Path(cache).rglob("*"):
        if path.suffix in (".erofs", ".vmdk", ".json"):
            found[str(path.relative_to(cache))] = path.read_bytes().replace(str(cache).encode(), b"CACHE")
    return found


@pytest.fixture(scope="module")
def reference_artifacts(registry, tmp_path_factory):
    cache = tmp_path_factory.mktemp("reference")
    pull(cache, f"{registry.host}/team/image:1", "--insecure")
    return artifacts(cache)


def test_a_pulled_image_is_complete_and_sound(registry, layout, tmp_path):
    lines, error = pull(tmp_path, f"{registry.host}/team/image:1", "--insecure")
    assert error == ""
    assert lines == [f"{layout.digest} pulled"]
    names = sorted(artifacts(tmp_path))
    assert len([n for n in names if n.startswith("layers/")]) == 3
    for name in names:
        if name.startswith("layers/"):
            subprocess.run(["fsck.erofs", tmp_path / name], check=True, stdout=subprocess.DEVNULL)
    assert list((tmp_path / "layers").glob("*.tar.gz")) == []
    metadata = json.loads(next((tmp_path / "manifests").glob("*.json")).read_text())
    assert metadata["manifest_digest"] == layout.digest
    assert [layer["size_bytes"] > 0 for layer in metadata["layers"]] == [True] * 3


def test_a_second_pull_asks_nobody(registry, layout, tmp_path):
    with msbregistry.Registry() as own:
        own.push(layout.directory, "image:1")
        pull(tmp_path, f"{own.host}/image:1", "--insecure")
        reference = f"{own.host}/image:1"
    lines, error = pull(tmp_path, reference, "--insecure")
    assert (lines, error) == ([f"{layout.digest} cached"], "")
    # ... but --always has to ask.
    _, error = pull(tmp_path, reference, "--insecure", "--always")
    assert error == f"error: registry error: error sending request for url (http://{reference.split('/')[0]}/v2/)"


def test_a_missing_image_is_named(registry, tmp_path):
    _, error = pull(tmp_path, f"{registry.host}/team/absent:9", "--insecure")
    assert error == (f"error: registry error: Registry error: url http://{registry.host}/v2/team/absent/manifests/9, "
                     "envelope: OCI API errors: [OCI API error: manifest unknown]")


def test_a_digest_selects(registry, layout, tmp_path):
    lines, _ = pull(tmp_path, f"{registry.host}/team/image@{layout.digest}", "--insecure")
    assert lines == [f"{layout.digest} pulled"]


def test_tls_needs_the_own_ca(layout, certificates, tmp_path):
    ca, certificate, key = certificates
    with msbregistry.Registry(tls=(certificate, key)) as registry:
        registry.push(layout.directory, "image:1")
        reference = f"{registry.host}/image:1"
        _, error = pull(tmp_path, reference)
        assert error == f"error: registry error: error sending request for url (https://{registry.host}/v2/)"
        lines, error = pull(tmp_path, reference, "--ca", ca)
        assert (lines, error) == ([f"{layout.digest} pulled"], "")


def test_basic_authentication(layout, certificates, tmp_path):
    ca, certificate, key = certificates
    with msbregistry.Registry(tls=(certificate, key), user=("me", "pass:word")) as registry:
        registry.push(layout.directory, "image:1")
        reference = f"{registry.host}/image:1"
        unauthorized = f"error: registry error: Not authorized: url https://{registry.host}/v2/image/manifests/1"
        assert pull(tmp_path, reference, "--ca", ca)[1] == unauthorized
        assert pull(tmp_path, reference, "--ca", ca, "--user", "me:wrong")[1] == unauthorized
        docker = tmp_path / "docker"
        docker.mkdir()
        auth = base64.b64encode(b"me:pass:word").decode()
        (docker / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        lines, error = pull(tmp_path, reference, "--ca", ca, "--docker-config", docker)
        assert (lines, error) == ([f"{layout.digest} pulled"], "")


def test_tls_is_never_left_by_a_redirect(certificates, tmp_path):
    """Neither for the registry's answers nor, with our password, for its token."""
    ca, certificate, key = certificates
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            plain = f"http://127.0.0.1:{plain_server.server_port}/away"
            if self.path == "/v2/":
                self.send_response(401)
                self.send_header("WWW-Authenticate", f'Bearer realm="{plain}"')
            else:
                self.send_response(302)
                self.send_header("Location", plain)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    plain_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threads = [threading.Thread(target=s.serve_forever) for s in (plain_server, server)]
    for thread in threads:
        thread.start()
    try:
        host = f"127.0.0.1:{server.server_port}"
        _, error = pull(tmp_path, f"{host}/image:1", "--ca", ca, "--user", "me:secret")
    finally:
        for s, thread in zip((plain_server, server), threads):
            s.shutdown()
            thread.join()
            s.server_close()
    url = f"https://{host}/v2/image/manifests/1"
    assert error == f"error: registry error: error following redirect for url ({url})"
    assert asked == ["/v2/", "/v2/image/manifests/1"]


def test_processes_that_pull_one_image_do_the_work_once(registry, layout, tmp_path, reference_artifacts):
    processes = [start_pull(tmp_path, f"{registry.host}/team/image:1", "--insecure") for _ in range(5)]
    results = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert sorted(results) == [f"{layout.digest} cached"] * 4 + [f"{layout.digest} pulled"]
    assert artifacts(tmp_path) == reference_artifacts


def test_a_killed_pull_leaves_nothing_wrong(registry, layout, tmp_path, reference_artifacts):
    """Kills pullers after a random number of their events; whatever is published by then is the real thing."""
    source = random.Random(7)
    for _ in range(12):
        process = start_pull(tmp_path, f"{registry.host}/team/image:1", "--insecure", "--events",
                             *(["--force"] if source.random() < 0.5 else []), bufsize=1)
        for _ in range(source.randrange(40)):
            if not process.stdout.readline():
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for name, content in artifacts(tmp_path).items():
            if not name.startswith("tmp/"):
                assert content == reference_artifacts[name], name
    lines, error = pull(tmp_path, f"{registry.host}/team/image:1", "--insecure")
    assert error == "" and lines[0].startswith(layout.digest)
    assert {n: c for n, c in artifacts(tmp_path).items() if not n.startswith("tmp/")} == reference_artifacts
    assert list((tmp_path / "layers").glob("*.tar.gz")) == []
