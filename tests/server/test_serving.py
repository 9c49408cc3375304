"""`twinseal serve` as people and programs meet it: real processes, plain HTTP, real MLflow behind it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import runpy
import signal
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.receivers import until
from tests.server.scene import API, PASSWORD, PROGRAM, Server, approved, deployment, now, serving, submitted
from tests.twin.deployment import MODEL, Deployment
from twinseal.errors import ConfigError
from twinseal.files import inventory
from twinseal.registry.register import publish
from twinseal.registry.store import connect, served_folder
from twinseal.server.artifact_store import STAGING
from twinseal.server.people import write_auth_config
from twinseal.server.serving import prepare
from twinseal.server.settings import ServerSettings
from twinseal.trust.root.home import Home
from twinseal.twin.byte_sources import RestSource
from twinseal.twin.pull import pull

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def server(made: Deployment) -> Iterator[Server]:
    with serving(made.home.path, is_fork=False) as started:
        yield started


@pytest.fixture
def engineer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "engineer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()


def raw(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """A request whose path and headers are sent as they are."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    sent = {"Authorization": basic("engineer"), "Host": parts.netloc} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        connection.putheader(name, value)
    if body:
        connection.putheader("Content-Length", str(len(body)))
    with contextlib.closing(connection):
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_candidate_goes_through_the_server_to_a_twin(
    made: Deployment, server: Server, engineer: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engineer elsewhere submits; MLflow refuses to register it; the registrar publishes it; a twin pulls it."""
    model_id, bundle = submitted(made, uri=server.url)
    body = {"name": MODEL, "source": f"models:/{model_id}", "model_id": model_id}
    answer = server.post("registered-models/create", {"name": MODEL})
    assert (403, True) == (answer.status, "MLflow alone cannot register this model" in answer.message)
    approved(made, bundle, model_id)
    assert 200 == server.post("registered-models/create", {"name": MODEL}).status
    assert 200 == server.post("model-versions/create", body).status
    assert "got a second" in server.post("model-versions/create", body).message
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    beside = connect(made.home)  # as the registrar, on the server's own machine
    publish(beside, made.home, model=MODEL, version=1, model_id=model_id)
    run = beside.client.get_registered_model(MODEL).tags["twinseal.metadata_run"]
    place = beside.client.get_run(run).info.artifact_uri.removeprefix("mlflow-artifacts:/")
    for path in ("metadata/2.root.json", "metadata/timestamp.json", "targets/new.json"):  # a next root that is none
        refused = server.ask("PUT", f"{ARTIFACTS}{place}/{path}", b"{}")
        assert (403, True) == (refused.status, "registrar" in refused.message or "written once" in refused.message)
    with RestSource(server.url, MODEL, credentials=("reader", PASSWORD)) as source:
        assert 1 == pull(source, made.anchor, MODEL, tmp_path / "twin", now()).model.release.version


@pytest.mark.attack("S")
def test_candidate_that_was_submitted_stays_as_it_is(made: Deployment, server: Server, engineer: None) -> None:
    """An engineer's account changes a candidate through the server's own API, after it was submitted."""
    model_id, bundle = submitted(made, seed=5, uri=server.url)
    location = server.ask("GET", f"{API}logged-models/{model_id}").json()["model"]["info"]["artifact_uri"]
    folder = ARTIFACTS + location.removeprefix("mlflow-artifacts:/")
    read = (bundle / "model/model.safetensors").read_bytes()
    assert read == server.ask("GET", f"{folder}/model/model.safetensors").body
    for path in ("model/model.safetensors", "model/code.py", "x/../model/new", "model%2Fnew", "%256dodel/new"):
        assert server.ask("PUT", f"{folder}/{path}", b"evil").status in (400, 403), path
    for path in (folder, f"{folder}/model/model.safetensors", ARTIFACTS.rstrip("/")):
        assert server.ask("DELETE", path).status in (403, 404, 405), path
    again = {"model_id": model_id, "status": "LOGGED_MODEL_PENDING"}
    refused = server.ask("PATCH", f"{API}logged-models/{model_id}", again)
    assert (403, True) == (refused.status, "it stays so" in refused.message)
    assert 403 == server.ask("PUT", f"{folder}/model/more.py", b"evil").status
    assert read == server.ask("GET", f"{folder}/model/model.safetensors").body


@contextlib.contextmanager
def half_sent(server: Server, place: str) -> Iterator[socket.socket]:
    """An upload of ten bytes of which five have come."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        head = f"PUT {place} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {basic('engineer')}\r\n"
        connection.sendall(f"{head}Content-Length: 10\r\n\r\nfirst".encode())
        yield connection


def staged(made: Deployment) -> list[Path]:
    return list((served_folder(made.home.path) / STAGING).glob("*"))


@pytest.mark.attack("S")
def test_upload_that_is_kept_open_over_the_end(made: Deployment, server: Server) -> None:
    """An engineer begins an upload, makes the candidate complete, and sends the rest of the file after that."""
    asked = server.post("logged-models", {"experiment_id": "0", "name": "late"})
    about = asked.json()["model"]["info"]
    place = about["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert 200 == server.ask("PUT", f"{ARTIFACTS}{place}/model/a", b"a").status
    folder = served_folder(made.home.path) / place.lstrip("/")
    with half_sent(server, f"{ARTIFACTS}{place}/model/late") as connection:
        assert 1 == len(until(lambda: staged(made)))
        ready = {"model_id": about["model_id"], "status": "LOGGED_MODEL_READY"}
        assert 200 == server.ask("PATCH", f"{API}logged-models/{about['model_id']}", ready).status
        assert ["model/a"] == [record.path for record in inventory(folder)]
        connection.sendall(b" last")
        assert b" 403 " in connection.recv(4096).split(b"\r\n")[0]
    assert ["model/a"] == [record.path for record in inventory(folder)]
    assert [] == staged(made)


@pytest.mark.attack("S")
@pytest.mark.proof
def test_upload_of_a_server_that_is_killed(tmp_path: Path) -> None:
    """A server is killed (SIGKILL) while files are on their way to it: the next one has nothing of them."""
    made = deployment(tmp_path)
    with serving(made.home.path) as server, half_sent(server, f"{ARTIFACTS}0/late"):
        assert 1 == len(until(lambda: staged(made)))
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait(timeout=20)
    assert 1 == len(staged(made))
    with serving(made.home.path, people=False):
        assert [] == staged(made)


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    "place",
    ["file:///{home}/keys", "twinseal+file:///{home}/keys", "/{home}/keys", "mlflow-artifacts:/../keys", "s3://x"],
)
@pytest.mark.parametrize("key", ["artifact_location", "artifactLocation"])
def test_experiment_whose_artifacts_are_elsewhere(made: Deployment, server: Server, place: str, key: str) -> None:
    """An engineer makes an experiment whose artifacts are the folder with the registrar's key."""
    body = {"name": f"{place}-{key}", key: place.format(home=made.home.path)}
    answer = server.post("experiments/create", body)
    assert answer.status in (400, 403), answer


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    "path",
    ["../up", "%2e%2e/up", "%2e%2e%2fup", "%252e%252e/up", "..%5cup", "a//b", "//etc/x", "a/%00b", "a/%0ab", "./up",
     "%25252e%25252e/up", "a/..%2f..%2fup", "%c0%ae%c0%ae/up"],
)  # fmt: skip
def test_path_that_leads_elsewhere(made: Deployment, server: Server, path: str) -> None:
    """A file is sent to, and asked for from, a place outside the artifacts by some spelling of the path."""
    before = sorted(made.home.path.parent.rglob("up"))
    status, _ = raw(server, "PUT", ARTIFACTS + path, b"evil")
    assert status in (400, 403, 404, 405)
    assert raw(server, "GET", ARTIFACTS + path)[0] in (400, 403, 404, 405)
    assert before == sorted(made.home.path.parent.rglob("up"))


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", f"{API}experiments/get?experiment_id=0"),
        ("POST", f"{API}experiments/search"),
        ("POST", f"{API}registered-models/create"),
        ("GET", f"{ARTIFACTS}1/x"),
        ("PUT", f"{ARTIFACTS}1/x"),
        ("GET", "/twinseal/metrics"),
        ("GET", "/twinseal/tuf/metadata/timestamp.json"),
        ("GET", "/static-files/index.html"),
        ("GET", "/graphql"),
        ("GET", "/no-such-page"),
    ],
)
def test_nobody_without_an_account(server: Server, method: str, path: str) -> None:
    """Whoever reaches the port asks without an account, and with wrong passwords."""
    answer = server.ask(method, path, {} if method != "GET" else None, who=None)
    assert (401, True) == (answer.status, answer.headers["www-authenticate"].startswith("Basic "))


TAG = {"experiment_id": "0", "key": "k", "value": "v"}
ROLES = ("reader", "engineer", "reviewer", "registrar")


@pytest.mark.attack("S")
@pytest.mark.parametrize(
    ("method", "path", "body", "may"),
    [
        ("GET", f"{API}experiments/search?max_results=1", None, ROLES),
        ("POST", f"{API}experiments/search", {"max_results": 1}, ROLES),
        ("POST", f"{API}runs/search", {"experiment_ids": ["0"]}, ROLES),
        ("GET", "/twinseal/tuf/metadata/timestamp.json", None, ROLES),
        ("GET", f"{API}users/current", None, ROLES),
        ("POST", f"{API}experiments/set-experiment-tag", TAG, ("engineer",)),
        ("POST", f"{API}runs/create", {"experiment_id": "0"}, ("engineer",)),
        ("PUT", f"{ARTIFACTS}0/{{who}}", b"x", ("engineer",)),
        ("GET", f"{API}users/list", None, ("registrar",)),
        ("POST", f"{API}users/create", {"username": "x-{who}", "password": PASSWORD}, ("registrar",)),
        ("PATCH", f"{API}users/update-admin", {"username": "reader", "is_admin": False}, ("registrar",)),
        ("GET", "/api/3.0/mlflow/gateway/endpoints", None, ()),
        ("POST", "/ajax-api/3.0/mlflow/assistant/chat", {}, ()),
        ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=x&path=y", {}, ()),
        ("POST", "/ajax-api/3.0/mlflow/scorer/invoke", {}, ()),
        ("POST", "/gateway/x/mlflow/invocations", {}, ()),
        ("POST", "/v1/traces", {}, ()),
        ("GET", "/signup", None, ()),
    ],
)  # fmt: skip
def test_role_opens_its_doors_and_no_others(
    server: Server, method: str, path: str, body: object, may: tuple[str, ...]
) -> None:
    """An account does what none of its roles may."""
    for who in ROLES:
        sent = json.loads(json.dumps(body).replace("{who}", who)) if isinstance(body, dict) else body
        answer = server.ask(method, path.replace("{who}", who), sent, who=who)
        assert (answer.status == 200) == (who in may), (who, answer)


@pytest.mark.attack("S")
def test_page_of_another_site_changes_nothing(server: Server) -> None:
    """A page on another site lets the browser of somebody who is signed in send requests here."""
    for headers in (
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},  # MLflow alone takes any port of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = server.post("experiments/set-experiment-tag", TAG, headers=headers)
        assert (403, True) == (answer.status, answer.message.startswith("Origin: expected ")), headers
    for headers in ({"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}):
        assert 200 == server.post("experiments/set-experiment-tag", TAG, headers=headers).status


@pytest.mark.attack("S")
def test_request_for_another_host(server: Server) -> None:
    """A name of the attacker's is made to lead to this server's address (DNS rebinding)."""
    for host in ("evil.test", f"evil.test:{urlsplit(server.url).port}", "", "127.0.0.1"):
        assert 403 == raw(server, "GET", "/", Host=host)[0]
    assert 200 == raw(server, "GET", "/", Host=f"localhost:{urlsplit(server.url).port}")[0]


@pytest.mark.attack("S")
def test_body_that_is_too_large(server: Server) -> None:
    """A request of 17 MiB, with its length and without, to a call that takes JSON, or that MLflow has only by POST."""
    large, path = b"x" * (17 << 20), f"{API}experiments/search"
    gone = contextlib.suppress(BrokenPipeError, ConnectionResetError)  # the server did not wait for all of it
    with gone:
        assert 413 == raw(server, "POST", path, large)[0]
    announced = {"Content_Length": str(len(large))}
    assert 413 == raw(server, "PUT", "/api/2.0/mlflow-artifacts/mpu/x", **announced)[0]
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    with gone, contextlib.closing(connection):
        connection.request("POST", path, iter([large]), {"Authorization": basic("engineer")}, encode_chunked=True)
        assert 413 == connection.getresponse().status
    assert 200 == server.post("experiments/search", {"max_results": 1}).status


@pytest.mark.attack("S")
def test_passwords_are_not_guessed(made: Deployment, server: Server) -> None:
    """Passwords are tried one after the other, each as if another address had passed it on."""
    tried = [
        server.ask(
            "GET", "/", who="alice", password=f"guess {number}", headers={"X-Forwarded-For": f"192.0.2.{number}"}
        ).status
        for number in range(12)
    ]
    assert ([401] * 10, [429] * 2) == (tried[:10], tried[10:])


def test_metadata_is_that_of_the_repository_of_record(made: Deployment, server: Server) -> None:
    for path in made.home.repository.rglob("*.json"):
        name = path.relative_to(made.home.repository).as_posix()
        assert path.read_bytes() == server.ask("GET", f"/twinseal/tuf/{name}", who="reader").body, name


def test_health_needs_no_account(server: Server) -> None:
    assert b"live\n" == server.ask("GET", "/twinseal/live", who=None).body
    assert {"ready": True, "faults": []} == server.ask("GET", "/twinseal/ready", who=None).json()
    assert 200 == server.ask("GET", "/health", who=None).status


def test_access_log_says_who_asked_and_no_secret(made: Deployment, server: Server) -> None:
    lines = (made.home.path / "mlflow/access.log").read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    assert {"reader", "engineer", "reviewer", "registrar", None} <= {line["who"] for line in asked}
    assert {200, 401, 403} <= {line["status"] for line in asked}
    assert not any(PASSWORD in line or "Basic" in line or "guess" in line for line in lines)


@pytest.mark.proof
def test_server_starts_stops_and_starts_again(tmp_path: Path) -> None:
    """A first start with TLS makes the account admin and says its password once; Ctrl-C and SIGTERM end it well."""
    made = deployment(tmp_path, has_tables=False)
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    tls = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    with serving(made.home.path, *tls, people=False, is_fork=False) as first:
        first.ca = certificate
        password = first.output.split("admin, password ")[1].split()[0]
        answer = first.ask("GET", f"{API}users/list", who="admin", password=password)
        assert (200, ["admin"]) == (answer.status, [user["username"] for user in answer.json()["users"]])
        assert first.url.startswith("https://")
        assert "no TLS" not in (tmp_path / "server.err").read_text()
        old = ssl.create_default_context(cafile=str(certificate))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        parts = urlsplit(first.url)
        with pytest.raises(ssl.SSLError):
            http.client.HTTPSConnection(parts.hostname or "", parts.port, context=old, timeout=10).request("GET", "/")
        os.killpg(first.process.pid, signal.SIGTERM)
        assert 0 == first.process.wait(timeout=30)
    with serving(made.home.path, people=False, is_fork=False) as second:
        assert "password" not in second.output
        assert "no TLS" in (tmp_path / "server.err").read_text()
        assert 200 == second.ask("GET", "/", who="admin", password=password).status
        words = [*PROGRAM, "serve", "--port", "0"]
        home = {"TWINSEAL_HOME": str(made.home.path)}
        third = subprocess.run(words, env=os.environ | home, capture_output=True, text=True, timeout=60, check=False)
        assert (1, True) == (third.returncode, "expected no server over this home, got one that runs" in third.stderr)
        os.killpg(second.process.pid, signal.SIGINT)
        assert 0 == second.process.wait(timeout=30)
        assert "stopped" in (second.process.stdout.read() if second.process.stdout else "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("prot: 5", "prot: unknown key; did you mean 'port'?"),
        ("port: 70000", "port: expected 0 to 65535, got 70000"),
        ("tls_key: k.pem", "tls: expected a certificate and its key, got one of the two"),
        ("public_url: https://a.test/review", "public_url: expected scheme and host alone"),
        ("database: mysql://x", "database: expected sqlite:///PATH or postgresql://"),
        ("workers: 0", "workers: expected 1 to 64, got 0"),
        ("trusted_proxies: [proxy.test]", "trusted_proxies: expected addresses like 192.0.2.1, got 'proxy.test'"),
        ("public_url: https://a.test:99999", "public_url: expected scheme and host alone"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, settings: str, message: str) -> None:
    (tmp_path / "server.yaml").write_text(settings + "\n")
    with pytest.raises(ConfigError) as caught:
        ServerSettings.read(Home(tmp_path), None)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("tls_key: none.pem\ntls_certificate: none.pem", "tls: expected a certificate and its key in PEM"),
        ("database: postgresql://nobody@127.0.0.1:1/none", "database: expected one that answers at 127.0.0.1, got"),
        ("host: 192.0.2.1", "192.0.2.1:0: expected an address to listen on, got none"),
    ],
)
def test_settings_that_cannot_be_served(
    tmp_path: Path, settings: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = deployment(tmp_path)
    (made.home.path / "server.yaml").write_text(f"port: 0\n{settings}\n")
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what it would set for MLflow is for this test alone
    with warnings.catch_warnings(), pytest.raises(ConfigError) as caught:
        prepare(made.home, ServerSettings.read(made.home, None))
    assert message in str(caught.value)


def test_settings_reach_the_workers_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ServerSettings(host="0.0.0.0", public_url="https://a.test", allowed_hosts=("b.test",), port=7)
    for name, value in made.to_environment().items():
        monkeypatch.setenv(name, value)
    assert made == ServerSettings.from_environment(Home(tmp_path))
    assert frozenset({"a.test", "b.test"}) == made.hosts


@pytest.mark.parametrize(
    ("given", "origin", "host"),
    [
        ("https://a.test:443", "https://a.test", "a.test"),
        ("http://a.test:80", "http://a.test", "a.test"),
        ("https://a.test:80", "https://a.test:80", "a.test:80"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_public_url_is_known_as_browsers_write_it(given: str, origin: str, host: str) -> None:
    made = ServerSettings(host="0.0.0.0", public_url=given)
    assert (origin, frozenset({host})) == (made.origin, made.hosts)


@pytest.mark.attack("S")
def test_password_of_the_database_is_read_by_mlflow_and_by_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another account of this machine reads the file that tells MLflow the address of the accounts' database."""
    uri = "postgresql+psycopg://twinseal:p%40ss%25w0rd@db.test/twinseal"
    write_auth_config(tmp_path / "auth.ini", uri)
    assert 0o600 == (tmp_path / "auth.ini").stat().st_mode & 0o777
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "auth.ini"))
    mlflows = runpy.run_path(str(files("mlflow") / "server/auth/config.py"))
    assert uri == mlflows["read_auth_config"]().database_uri
