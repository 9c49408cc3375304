from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import simulator
from tests.simulator import Behaviour, Registry
from twinseal.errors import DigestMismatchError, EvidenceError, RegistryError, TwinsealError
from twinseal.twin.byte_sources import DirectorySource, RestSource, Source
from twinseal.twin.connection import Deadline, limit_bytes

ID = "m-" + "0" * 32
TIMESTAMP, WEIGHTS = "metadata/timestamp.json", f"candidates/{ID}/model/model.safetensors"
FILES = {TIMESTAMP: b'{"a": 1}\r\n', "targets/m/ab.release.json": b"{}", WEIGHTS: bytes(range(256)) * 2000}


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / path).write_bytes(data)
    return tmp_path / "mirror"


@pytest.fixture
def registry(mirror: Path) -> Iterator[Registry]:
    with Registry(mirror) as registry:
        yield registry


@pytest.fixture(params=["directory", "rest"])
def source(request: pytest.FixtureRequest, mirror: Path) -> Iterator[Source]:
    if request.param == "directory":
        yield DirectorySource(mirror)
        return
    with Registry(mirror) as registry:
        rest = RestSource(registry.url, "m")
        yield rest
        rest.close()


@pytest.mark.parametrize("path", FILES)
def test_files_come_byte_for_byte(path: str, source: Source) -> None:
    assert b"".join(source.open(path, 1 << 20)) == FILES[path]


def test_limit_is_the_most_that_comes(source: Source) -> None:
    assert b"".join(source.open(TIMESTAMP, len(FILES[TIMESTAMP]))) == FILES[TIMESTAMP]
    with pytest.raises(DigestMismatchError, match=f"{TIMESTAMP}: expected at most 9 bytes, got"):
        b"".join(source.open(TIMESTAMP, len(FILES[TIMESTAMP]) - 1))


@pytest.mark.parametrize("path", ["metadata/2.root.json", "none", f"candidates/{ID}/none", "metadata"])
def test_missing_file_is_said_before_the_first_byte(path: str, source: Source) -> None:
    with pytest.raises((FileNotFoundError, RegistryError)) as refusal:
        source.open(path, 100)
    assert path == "metadata" or refusal.type is FileNotFoundError


@pytest.mark.attack(3)
@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a//b", "a/../b", ".git/config", "a\nb", "ａ", "", "a?b=c", "%2e%2e/a"]
)
def test_path_traversal_is_refused(path: str, source: Source) -> None:
    """Path traversal: a path is absolute, hidden or encoded, or has `..` or look-alike characters."""
    with pytest.raises(EvidenceError, match="expected a plain relative path"):
        source.open(path, 100)


@pytest.mark.attack(3)
@pytest.mark.parametrize("kind", ["link", "link to a folder", "fifo", "folder"])
def test_special_file_in_a_mirror_is_refused(kind: str, mirror: Path) -> None:
    """The mirror contains a symlink, a symlinked folder, a FIFO or a folder in place of a file."""
    path = "metadata/odd.json"
    if kind == "link":
        (mirror / path).symlink_to(mirror / TIMESTAMP)
    elif kind == "link to a folder":
        (mirror / "linked").symlink_to(mirror / "metadata")
        path = "linked/timestamp.json"
    elif kind == "fifo":
        os.mkfifo(mirror / path)
    else:
        (mirror / path).mkdir()
    with pytest.raises((RegistryError, FileNotFoundError)) as refusal:
        DirectorySource(mirror).open(path, 100)
    assert refusal.type is RegistryError or kind == "link to a folder"


MISDEEDS: list[tuple[str, Behaviour, type[TwinsealError], str]] = [
    ("hang up", simulator.hang_up, RegistryError, "expected an answer of the registry, got none"),
    ("endless", simulator.endless, DigestMismatchError, "expected at most 512000 bytes, got more"),
    ("trickle", simulator.trickle, RegistryError, r"expected everything within 1 s, got less"),
    ("trickle headers", simulator.trickle_headers, RegistryError, r"expected everything within 1 s, got less"),
    ("compress", simulator.compress, RegistryError, "expected plain bytes of the registry, got encoding b'gzip'"),
    ("redirect", simulator.redirect("http://example.invalid/x"), RegistryError, "expected HTTP 200 .* got 302"),
    ("error", simulator.status(500), RegistryError, "expected HTTP 200 of the registry, got 500"),
    ("forbidden", simulator.status(403), RegistryError, "expected HTTP 200 of the registry, got 403"),
    ("partial", simulator.status(206), RegistryError, "expected HTTP 200 of the registry, got 206"),
    ("too long", simulator.serve(b"x" * 512_001), DigestMismatchError, "expected at most 512000 bytes, got a length"),
]


@pytest.mark.attack(3)
@pytest.mark.parametrize(("behaviour", "error", "message"), [m[1:] for m in MISDEEDS], ids=[m[0] for m in MISDEEDS])
def test_misbehaving_registry_is_refused_in_time(
    behaviour: Behaviour, error: type[TwinsealError], message: str, registry: Registry
) -> None:
    """The server sends endless, slow, truncated, compressed, redirected or forbidden answers."""
    source = RestSource(registry.url, "m", deadline_s=1.0)
    assert b"".join(source.open(TIMESTAMP, 100)) == FILES[TIMESTAMP]
    registry.misbehave[WEIGHTS] = behaviour
    start = time.monotonic()
    with pytest.raises(error, match=message):
        b"".join(source.open(WEIGHTS, 512_000))
    assert time.monotonic() - start < 5
    source.close()


@pytest.mark.attack(3)
def test_one_deadline_is_for_everything(registry: Registry) -> None:
    """Slow retrieval: the server sends many quick answers, which together take longer than the deadline."""
    now = iter([0.0, 0.0, *[10.0] * 50, *[301.0] * 50])
    source = RestSource(registry.url, "m", deadline_s=300.0, clock=lambda: next(now))
    with pytest.raises(RegistryError, match="expected everything within 300 s, got less"):
        for _ in range(50):
            b"".join(source.open(TIMESTAMP, 100))
    source.close()


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"null", b"{}", b'{"registered_model": []}', b'{"registered_model": {"tags": [{"key": 1}]}}']
    + [
        b'{"registered_model": {"tags": [{"key": "twinseal.metadata_run", "value": %s}]}}' % v
        for v in (b'"../x"', b"3")
    ],
)
def test_invalid_answer_about_the_metadata_run_is_refused(answer: bytes, registry: Registry) -> None:
    """The server sends an invalid answer about where MLflow stores the metadata."""
    registry.misbehave["registered-models/get"] = simulator.serve(answer)
    source = RestSource(registry.url, "m")
    with pytest.raises(RegistryError, match="registered model m: expected"):
        source.open(TIMESTAMP, 100)
    source.close()


def test_model_that_is_not_registered_is_said_to_be_so(registry: Registry) -> None:
    registry.misbehave["registered-models/get"] = simulator.status(404)
    source = RestSource(registry.url, "m")
    with pytest.raises(RegistryError, match="registered model m: expected one, got none") as refusal:
        source.open(TIMESTAMP, 100)
    assert "Have it registered, where its registrar works: twinseal register" in refusal.value.remedy
    source.close()


def test_metadata_run_is_asked_for_once(registry: Registry) -> None:
    source = RestSource(registry.url, "m")
    for _ in range(3):
        b"".join(source.open(TIMESTAMP, 100))
    assert registry.asked.count("/api/2.0/mlflow/registered-models/get") == 1
    source.close()


def test_nobody_there_is_one_clear_message() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RegistryError, match="expected an answer of the registry, got none") as refusal:
        RestSource(f"http://127.0.0.1:{port}", "m").open(TIMESTAMP, 100)
    assert "Is the server running, and its address right?" in refusal.value.remedy
    assert "curl URL/health" in refusal.value.remedy


@pytest.mark.parametrize(
    "url", ["", "example", "ftp://host", "file:///x", "http://", "http://u:p@host", "http://h?q=1"]
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="expected an address like https://host:5000") as refusal:
        RestSource(url, "m")
    assert "p@" not in str(refusal.value)


@pytest.mark.parametrize("given", [True, False])
def test_credentials_are_sent_and_not_shown(given: bool, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def note(handler: Any, body: bytes) -> None:
        seen.append(handler.headers["Authorization"])
        handler.reply(body)

    registry.misbehave[WEIGHTS] = note
    if not given:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "user")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with RestSource(registry.url, "m", credentials=("user", "secret") if given else None) as source:
        b"".join(source.open(WEIGHTS, 1 << 20))
        assert seen == ["Basic dXNlcjpzZWNyZXQ="]
        assert "secret" not in repr(source)


def test_deadline_counts_from_the_first_asking() -> None:
    times = iter([100.0, 100.0, 104.0, 105.0])
    deadline = Deadline(5.0, lambda: next(times))
    assert deadline.remaining_s() == 5.0
    assert deadline.remaining_s() == 1.0
    with pytest.raises(RegistryError, match="expected everything within 5 s, got less"):
        deadline.remaining_s()


def test_surplus_is_not_handed_on() -> None:
    taken = []
    with pytest.raises(DigestMismatchError):
        for chunk in limit_bytes(iter([b"ab", b"cd"]), "x", 3):
            taken.append(chunk)
    assert taken == [b"ab"]


def test_connection_that_the_server_closed_meanwhile_is_opened_again_once(registry: Registry) -> None:
    """A server may close a connection that it kept, at any time between two requests."""
    closed: list[str] = []

    def close_first(times: int) -> Behaviour:
        def behave(handler: Any, body: bytes) -> None:
            if len(closed) < times:
                closed.append(handler.path)
                handler.close_connection = True
                handler.connection.shutdown(socket.SHUT_RDWR)
            else:
                handler.reply(body)

        return behave

    registry.misbehave = {WEIGHTS: close_first(1)}
    with RestSource(registry.url, "m") as source:
        assert FILES[WEIGHTS] == b"".join(source.open(WEIGHTS, 1 << 20))
        closed.clear()
        registry.misbehave = {WEIGHTS: close_first(9)}
        with pytest.raises(RegistryError, match="expected an answer of the registry, got none"):
            source.open(WEIGHTS, 1 << 20)
    assert 2 == len(closed)
