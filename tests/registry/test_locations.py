from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.hostile import Host, Proxy
from twinseal.errors import RegistryError
from twinseal.files import inventory
from twinseal.registry.locations import LocalArtifacts, allowed_place, local_roots
from twinseal.registry.run import RunRecord
from twinseal.registry.store import Store, connect
from twinseal.registry.submit import has_same_files, submit
from twinseal.trust.root.home import Home

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

SERVER = "https://user:secret@mlflow.example:5000/base"
SERVED = "https://mlflow.example:5000/base/api/2.0/mlflow-artifacts/artifacts"
SECRET = "the-token-of-the-user"


def allow(location: object, tracking_uri: str = SERVER, roots: tuple[Path, ...] = ()) -> str | Path:
    return allowed_place(location, "run 1", tracking_uri=tracking_uri, roots=roots)


@pytest.mark.parametrize("location", ["mlflow-artifacts:/1/abc/artifacts", f"{SERVED}/1/abc/artifacts"])
def test_what_the_server_keeps_itself_is_asked_of_that_server(location: str) -> None:
    assert allow(location) == SERVED.replace("//", "//user:secret@") + "/1/abc/artifacts"


@pytest.mark.parametrize("spelling", ["file://{}", "{}", "file:{}"])
def test_a_folder_below_one_that_the_user_named(spelling: str, tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "with space")
    place = spelling.format(f"{tmp_path}/link/1/artifacts")
    assert allow(place, "sqlite:///x.db", (tmp_path / "link",)) == tmp_path / "with space/1/artifacts"
    assert allow((tmp_path / "with space/a").as_uri(), roots=(tmp_path / "with space",)) == tmp_path / "with space/a"


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "location",
    [
        "file:///etc", "/etc", "FILE:///etc", "file:/etc", "file:etc", "etc/x", "", None, 7, "\\\\host\\share",
        "file://host/ROOT/x", "file:///ROOT/../etc", "file:///ROOT/%2e%2e/etc", "file:///ROOT/%2E./x", "/ROOT/../x",
        "file:///ROOTX/x", "file:///ROOT/a?x", "file:///ROOT/a#x", "/ROOT/a\nb", "/ROOT//x",
        "mlflow-artifacts://evil.example/1", "mlflow-artifacts://evil.example:5000/1", "mlflow-artifacts:////evil/1",
        "mlflow-artifacts:/../1", "mlflow-artifacts:/a/%2e%2e/1", "mlflow-artifacts:/a?b=c", "mlflow-artifacts:/a#b",
        "mlflow-artifacts:/", "mlflow-artifacts:/a//b", "mlflow-artifacts:/a%3Fb", "mlflow-artifacts:/a%0ab",
        f"{SERVED}/../../../mlflow/runs", f"{SERVED}@evil.example/1", f"{SERVED}x/1", "https://mlflow.example:5000/1",
        SERVED.replace("https", "http") + "/1", SERVED.replace("5000", "5001") + "/1",
        SERVED.replace("//", "//user@") + "/1", SERVED.replace("mlflow.example", "mlflow.example.evil.example") + "/1",
        SERVED.replace("//", "//evil.example\\@") + "/1", SERVED.replace("mlflow.example", "MLFLOW.example") + "/1",
        "https://[evil", "s3://bucket/1", "ftp://evil.example/1", "dbfs:/1", "runs:/1/x", "models:/m-1", "hdfs://h/1",
        "gs://b/1", "wasbs://b/1", "sftp://h/1", "http+unix://x/1", "mlflow-artifacts:/" + "a" * 3000,
    ],
)  # fmt: skip
def test_a_location_that_the_user_did_not_name(location: object, tmp_path: Path) -> None:
    """MLflow names a folder or a host of its own choice for artifacts, in forty spellings."""
    root = tmp_path / "root"
    assert allow(f"{root}/1", roots=(root,)) == root / "1"
    given = location.replace("/ROOT", str(root)) if isinstance(location, str) else location
    with pytest.raises(
        RegistryError, match="run 1: expected artifacts below the folder .* or the server https://mlfl"
    ) as no:
        allow(given, roots=(root,))
    assert "export TWINSEAL_ARTIFACT_ROOT=" in no.value.remedy
    assert "secret" not in str(no.value)


def test_a_server_may_name_no_folder_unless_the_user_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_roots(SERVER, None) == ()
    assert local_roots("sqlite:////x/y.db", tmp_path) == (tmp_path,)
    assert local_roots("file:///srv/mlruns", None) == (Path("/srv/mlruns"),) == local_roots("/srv/mlruns", None)
    monkeypatch.setenv("TWINSEAL_ARTIFACT_ROOT", f"{tmp_path}{os.pathsep}/srv/b")
    assert local_roots(SERVER, None) == (tmp_path, Path("/srv/b"))


@pytest.mark.attack("P")
@pytest.mark.parametrize("planted", ["folder", "file", "fifo"])
def test_a_link_below_the_artifacts(planted: str, tmp_path: Path) -> None:
    """Whoever owns the artifact store puts a link there, to have the pipeline write to another place."""
    (tmp_path / "new").write_bytes(b"new")
    root, victim = tmp_path / "root", tmp_path / "victim"
    there = LocalArtifacts(root, "1/artifacts")
    there.write(tmp_path / "new", "reports/a.txt")
    assert (root / "1/artifacts/reports/a.txt").read_bytes() == b"new"
    victim.mkdir()
    (victim / "b.txt").write_bytes(b"mine")
    if planted == "folder":
        (root / "1/artifacts/evil").symlink_to(victim)
        with pytest.raises(
            RegistryError, match="/1/artifacts/evil: expected a folder of MLflow's artifacts, got a link"
        ):
            there.write(tmp_path / "new", "evil/b.txt")
    elif planted == "file":  # replaced, never followed
        (root / "1/artifacts/reports/b.txt").symlink_to(victim / "b.txt")
        there.write(tmp_path / "new", "reports/b.txt")
        assert not (root / "1/artifacts/reports/b.txt").is_symlink()
    else:
        os.mkfifo(root / "1/artifacts/reports/b.txt")
        there.write(tmp_path / "new", "reports/b.txt")
        assert (root / "1/artifacts/reports/b.txt").is_file()
    assert [(record.path, (victim / record.path).read_bytes()) for record in inventory(victim)] == [("b.txt", b"mine")]
    assert not list(root.rglob("*.part"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_bytes(b"{}\r\n")
    (folder / "model.sig.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def hostile(
    server: str, store: Store, registry_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Proxy, Host, Store]]:
    """A proxy before the real server, a host that nobody configured, and a store whose user has a token."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Proxy(server) as proxy, Host() as elsewhere:
        yield proxy, elsewhere, connect(Home(tmp_path / "home"), proxy.url)
    connect(registry_home, store.tracking_uri)  # MLflow's global address back to what the other tests use


def submitted(store: Store, bundle: Path, model: str) -> str:
    report = bundle.parent / "report.html"
    report.write_text("<p>")
    run = RunRecord({"a": 1}, {}, reports=[report])
    return submit(store, bundle, model=model, version=1, description_markdown="d", run=run)


def rewritten(place: str) -> Any:
    """Every location in an answer becomes `place`."""
    names = "artifact_uri|artifact_location"
    return lambda _path, data: re.sub(rf'("(?:{names})": *)"[^"]*"'.encode(), rb"\1" + json.dumps(place).encode(), data)


def test_a_server_is_used_with_the_users_credentials(hostile: tuple[Proxy, Host, Store], bundle: Path) -> None:
    proxy, elsewhere, store = hostile
    model_id = submitted(store, bundle, "hostile-not")
    assert has_same_files(store, model_id, inventory(bundle))
    assert submitted(store, bundle, "hostile-not") == model_id
    assert {request.authorization for request in proxy.received} == {f"Bearer {SECRET}"}
    assert sum(request.method == "PUT" for request in proxy.received) == 3
    assert elsewhere.received == []


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "place",
    ["file://{victim}", "{victim}", "{elsewhere}/x", "{elsewhere}/api/2.0/mlflow-artifacts/artifacts/1",
     "mlflow-artifacts://{netloc}/1", "{proxy}@{netloc}/api/2.0/mlflow-artifacts/artifacts/1"],
)  # fmt: skip
def test_a_hostile_server_names_another_place(place: str, hostile: tuple[Proxy, Host, Store], bundle: Path) -> None:
    """A hostile MLflow answers with a folder of this machine, or another host, as the place of the artifacts."""
    proxy, elsewhere, store = hostile
    victim = bundle.parent / "victim"
    words = {"victim": victim, "elsewhere": elsewhere.url, "proxy": proxy.url, "netloc": elsewhere.url[7:]}
    model = f"hostile-{abs(hash(place)) % 10**9}"
    model_id = submitted(store, bundle, model)
    asked = len(proxy.received)
    proxy.rewrite = rewritten(place.format(**words))
    assert not has_same_files(store, model_id, inventory(bundle))
    with pytest.raises(RegistryError, match="expected artifacts below the server http://127.0.0.1:.* got the location"):
        submitted(store, bundle, model)

    only_runs = proxy.rewrite  # the experiment is honest, what is made in it is not
    proxy.rewrite = lambda path, data: data if "experiments" in path else only_runs(path, data)
    (bundle / "model/config.json").write_bytes(b"{ }")
    with pytest.raises(RegistryError, match="run [0-9a-f]{32}: expected artifacts below"):
        submitted(store, bundle, model)
    proxy.rewrite = lambda path, data: only_runs(path, data) if "logged-models" in path else data
    with pytest.raises(RegistryError, match="candidate m-[0-9a-f]{32}: expected artifacts below"):
        submitted(store, bundle, model)
    assert elsewhere.received == []
    assert not victim.exists()
    assert all("model/" not in request.path for request in proxy.received[asked:] if request.method == "PUT")

    proxy.rewrite = lambda _path, data: data
    (bundle / "model/config.json").write_bytes(b"{}\r\n")
    assert submitted(store, bundle, model) == model_id, "the old candidate stands"


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "what", ["experiments/get-by-name", "runs/create", "mlflow-artifacts/artifacts", "logged-models"]
)
def test_a_hostile_server_redirects(what: str, hostile: tuple[Proxy, Host, Store], bundle: Path) -> None:
    """A hostile MLflow redirects a question or an upload to another host."""
    proxy, elsewhere, store = hostile
    model = f"redirect-{what.replace('/', '-')}"
    model_id = submitted(store, bundle, model)
    (bundle / "model/config.json").write_bytes(b"{ }")
    proxy.redirect = lambda _method, path: f"{elsewhere.url}{path}" if what in path else ""
    with pytest.raises(RegistryError, match="got"):
        submitted(store, bundle, model)
    assert elsewhere.received == []
    proxy.redirect = lambda _method, _path: ""
    (bundle / "model/config.json").write_bytes(b"{}\r\n")
    assert submitted(store, bundle, model) == model_id


@pytest.mark.attack("P")
def test_a_hostile_server_offers_addresses_for_parts(
    hostile: tuple[Proxy, Host, Store], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile MLflow says that it takes large files in parts, at addresses that it hands out."""
    proxy, elsewhere, store = hostile
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1")
    parts = {"upload_id": "1", "credentials": [{"part_number": 1, "url": f"{elsewhere.url}/part", "headers": {}}]}
    offers = {"server-info": {"multipart_uploads_enabled": True, "multipart_downloads_enabled": True}, "mpu": parts}
    offers["presigned"] = {"url": f"{elsewhere.url}/file", "headers": {}, "file_size": 4}

    def offer(path: str, data: bytes) -> bytes:
        return next((json.dumps(answer).encode() for name, answer in offers.items() if name in path), data)

    proxy.rewrite = offer
    model_id = submitted(store, bundle, "hostile-parts")
    assert has_same_files(store, model_id, inventory(bundle))
    assert elsewhere.received == []


@pytest.mark.attack("P")
def test_a_hostile_server_sends_a_file_without_end(hostile: tuple[Proxy, Host, Store], bundle: Path) -> None:
    """A hostile MLflow answers with far more bytes than the candidate has, or with a bomb."""
    proxy, _, store = hostile
    model_id = submitted(store, bundle, "hostile-long")
    proxy.rewrite = lambda path, data: data + b"x" * (8 << 20) if "mlflow-artifacts" in path else data
    assert not has_same_files(store, model_id, inventory(bundle))


def test_the_elsewhere_host_does_keep_what_it_receives() -> None:
    """A test above that could not fail would be none."""
    with Host() as host:
        request = urllib.request.Request(f"{host.url}/x", method="PUT", data=b"y", headers={"Authorization": "z"})
        with urllib.request.urlopen(request):
            pass
        assert host.received == [("PUT", "/x", "z")]
