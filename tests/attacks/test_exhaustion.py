"""Endless data, slow retrieval and excessive input: bounded time and memory, then a refusal."""

from __future__ import annotations

import json
import os
import signal
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import simulator
from tests.attacks.field import UNTIL, Field
from tests.attacks.forge import canonical, deceive, edited, judge, payload_of, release_of, sign_statement
from tests.simulator import Behaviour
from tests.twin.deployment import MODEL
from twinseal.errors import BusyError, DigestMismatchError, EvidenceError, RegistryError, SignatureError, TwinsealError
from twinseal.twin.byte_sources import RestSource

pytestmark = pytest.mark.proof  # make check stays below 12 minutes

ANSWER, STAMP, RELEASE, WEIGHTS = "registered-models/get", "timestamp.json", "release.json", "model.safetensors"
ASKED = (ANSWER, STAMP, WEIGHTS)


@contextmanager
def bounds(*, seconds: float, megabytes: float | None = None) -> Iterator[None]:
    """No more time than this, nor memory: where it is asked for, since to trace it takes thrice the time."""
    if megabytes is not None:
        tracemalloc.start()
    start = time.monotonic()
    try:
        yield
        assert time.monotonic() - start < seconds
        assert megabytes is None or tracemalloc.get_traced_memory()[1] < megabytes * 2**20
    finally:
        tracemalloc.stop()


def raw(data: bytes) -> Behaviour:
    """These very bytes, whatever HTTP says."""
    return lambda handler, _: handler.wfile.write(data) and None


def informed(handler: Any, _: bytes) -> None:
    """100 Continue, for ever."""
    while not handler.registry.closing.is_set():
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def endless_headers(handler: Any, _: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.registry.closing.is_set():
        handler.wfile.write(b"X-More: " + b"y" * 4000 + b"\r\n")


def endless_trailers(handler: Any, body: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(body), body))
    while not handler.registry.closing.is_set():
        handler.wfile.write(b"X-More: " + b"y" * 4000 + b"\r\n")


def endless_chunk_size(handler: Any, _: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not handler.registry.closing.is_set():
        handler.wfile.write(b"0" * 4096)


def small_chunks(handler: Any, body: bytes) -> None:
    """Honest bytes, one a chunk, and then a trailer: allowed, only odd."""
    handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-More\r\n\r\n"
    )
    handler.wfile.write(b"".join(b"1;name=value\r\n%c\r\n" % byte for byte in body) + b"0\r\nX-More: y\r\n\r\n")


def with_another_behind_it(handler: Any, body: bytes) -> None:
    """The honest answer, and behind it in the same packet an answer to a question that was not asked yet."""
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    handler.wfile.write(answer % (len(body), body) + answer % (4, b"evil"))


PAGE = b"<!doctype html><html><body>Sign in</body></html>"
ANY = (RegistryError, DigestMismatchError)
MISDEEDS: dict[str, Behaviour] = {
    "endless body": simulator.endless,
    "hang up": simulator.hang_up,
    "redirect": simulator.redirect("http://127.0.0.1:9/evil"),
    "redirect to a file": simulator.redirect("file:///etc/passwd"),
    "compressed": simulator.compress,
    "error": simulator.status(500),
    "partial": simulator.status(206),
    "no content": simulator.status(204),
    "endless headers": endless_headers,
    "endless trailers": endless_trailers,
    "endless size of a chunk": endless_chunk_size,
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!"),
    "a length below nought": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nevil"),
    "a length of many digits": raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nevil"),
    "a length in other digits": raw("HTTP/1.1 200 OK\r\nContent-Length: ٤\r\n\r\nevil".encode()),
    "length and chunks": raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n9999999999999999\r\nevil"
    ),
    "no HTTP": raw(b"evil\r\n\r\n"),
    "HTTP/0.9": raw(PAGE),
    "another protocol": raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "two encodings": raw(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: identity\r\nContent-Length: 4\r\n\r\nevil"
    ),
    "a control character in a header": raw(b"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\nContent-Length: 4\r\n\r\nevil"),
}


@pytest.mark.attack(1, 3)
@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_server_that_breaks_http(field: Field, misdeed: str) -> None:
    """The server sends endless data, redirects, compressed or partial answers, or contradictory headers."""
    with field.over_http(deadline_s=5.0) as (registry, source):
        for asked in ASKED:
            registry.misbehave = {asked: MISDEEDS[misdeed]}
            with bounds(seconds=4, megabytes=16 if misdeed.startswith("endless") else None):
                refusal = field.refuses_any((*ANY, SignatureError), "expected|" + MODEL, source=source())
            assert "\x1b" not in str(refusal)
        registry.misbehave = {}
        assert 2 == field.pull(source=source()).model.release.version


@pytest.mark.attack(1, 3)
@pytest.mark.parametrize(
    ("misdeed", "asked"),
    [
        (simulator.trickle, WEIGHTS),
        (simulator.trickle_headers, ANSWER),
        (simulator.trickle_headers, WEIGHTS),
        (informed, STAMP),
    ],
)
def test_slow_retrieval(field: Field, misdeed: Behaviour, asked: str) -> None:
    """Slow retrieval: the server sends single bytes, slow headers or endless `100 Continue`; the deadline ends it."""
    with field.over_http(deadline_s=1.0) as (registry, source):
        registry.misbehave = {asked: misdeed}
        with bounds(seconds=4):
            field.refuses_any((RegistryError,), "expected everything within 1 s, got less", source=source())
        registry.misbehave = {}
        assert 2 == field.pull(source=source()).model.release.version


@pytest.mark.attack(1, 3)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("asked", [ANSWER, STAMP, RELEASE, WEIGHTS])
def test_a_slow_registry_delays_no_start(field: Field, asked: str) -> None:
    """Slow retrieval while the twin is started again, and while a second pull runs; then the slow pull is killed."""
    before = field.installed()
    with field.over_http(deadline_s=60.0) as (registry, source):
        registry.misbehave = {asked: simulator.trickle_headers}
        with pulling(field, registry.url) as process:
            while not any(asked in path for path in registry.asked):
                time.sleep(0.01)
            with bounds(seconds=2):
                assert before == field.installed()
            with bounds(seconds=2), pytest.raises(BusyError) as refusal:
                field.pull(source=source())
            assert f"got one that is running (process {process}, since 2026-03-01T13:00:00Z)" in str(refusal.value)
            assert refusal.value.remedy.endswith(f"kill {process}")
            with bounds(seconds=2):
                assert before == field.installed()
        assert before == field.installed(), "the slow pull was killed"
        registry.misbehave = {}
        assert 2 == field.pull(source=source()).model.release.version
        assert not (field.twin / "incoming").exists()


@contextmanager
def pulling(field: Field, url: str) -> Iterator[int]:
    """A process that pulls; killed at the end."""
    child = os.fork()
    if child == 0:
        try:
            field.pull(source=RestSource(url, MODEL, deadline_s=60.0))
        finally:
            os._exit(99)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        assert -signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "it had not ended by itself"


@pytest.mark.attack(1, 3)
@pytest.mark.parametrize("behaviour", [small_chunks, with_another_behind_it])
def test_unusual_http_that_is_allowed(field: Field, behaviour: Behaviour) -> None:
    """The server sends one-byte chunks, or extra data after an answer: allowed, the right release is installed."""
    with field.over_http() as (registry, source):
        registry.misbehave = dict.fromkeys((*ASKED, RELEASE), behaviour)
        assert 2 == field.pull(source=source()).model.release.version


@pytest.mark.attack(1, 3)
@pytest.mark.parametrize("page", [PAGE, b"", b"null", b"{}", b"\x1b[2J\xff", b"[" * 10_000])
def test_a_server_that_sends_other_content(field: Field, page: bytes) -> None:
    """The server sends HTTP 200 with a login page, no content, wrong JSON or terminal control characters."""
    with field.over_http() as (registry, source):
        for asked in ASKED:
            registry.misbehave = {asked: simulator.serve(page)}
            refusal = field.refuses_any((*ANY, SignatureError), "expected|" + MODEL, source=source())
            assert str(refusal).isprintable()
        registry.misbehave = {}
        assert 2 == field.pull(source=source()).model.release.version


def _million(size: int) -> bytes:
    one = b'"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    return b"{" + b"".join(one % n for n in range(size // (len(one) + 5)))[:-1] + b"}"


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (lambda: b" " * 59_000_000, "expected a header of 2 to 1048576 bytes within the file, got 59000000"),
        (lambda: _million(59_000_000), "expected a header of 2 to 1048576 bytes within the file, got 57065568"),
        (lambda: _million(1 << 20), "expected tensors"),
        (lambda: b"[" * (1 << 20), "expected (JSON|at most)"),
        (lambda: b'{"a":' * 200_000, "expected (JSON|at most)"),
        (lambda: b'{"a":' + b"9" * 1_000_000 + b"}", "expected JSON"),
    ],
    ids=["59 MB of spaces", "a million tensors", "20,000 tensors", "deep", "deep objects", "a huge integer"],
)
def test_an_excessive_safetensors_header(field: Field, header: Callable[[], bytes], message: str) -> None:
    """Builder, assessor and reviewers sign a safetensors header of 59 MB, deep nesting or a huge integer."""
    assert 2 == field.accepts()
    text = header()
    (field.bundle / "model" / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)
    deceive(field.bundle, field.keys)
    field.release_3()
    with bounds(seconds=10, megabytes=150):
        field.refuses(EvidenceError, message)


def _bomb(kind: str) -> bytes:
    return {
        "deep": b"[" * 100_000,
        "deep and whole": b"[" * 2000 + b"]" * 2000,
        "long": b"9" * 100_000,
        "just short enough": b"9" * 4000,
        "many": b"[" + b"1e308," * 10_000 + b"1]",
        "NaN": b"NaN",
        "infinity": b"-Infinity",
        "1e400": b"1e400",
    }[kind]


@pytest.mark.attack(2, 4, 5)
@pytest.mark.parametrize(
    "kind", ["deep", "deep and whole", "long", "just short enough", "many", "NaN", "infinity", "1e400"]
)
@pytest.mark.parametrize("where", ["release", "OMS bundle", "OMS statement", "evidence", "envelope", "contract"])
def test_excessive_json_in_signed_files(field: Field, where: str, kind: str) -> None:
    """A signed JSON file has deep nesting, a huge integer, NaN, infinity or 1e400."""
    assert 2 == field.accepts()
    bomb, mark = _bomb(kind), b'"here be a bomb"'
    if where == "release":
        value = release_of(field.bundle, field.listed.read_bytes(), version=3)
        data = canonical(value | {"parent_version": "here be a bomb"})
        field.registry.release(data.replace(mark, bomb), MODEL, ("alice", "chiara"), UNTIL)
    elif where == "contract":
        path = field.bundle / "model/contract.json"
        path.write_bytes(
            edited(path.read_bytes(), lambda c: c.update(rul_cap_cycles="here be a bomb")).replace(mark, bomb)
        )
        deceive(field.bundle, field.keys)
        field.release_3()
    elif where == "OMS bundle":
        path = field.bundle / "model.sig.json"
        path.write_bytes(edited(path.read_bytes(), lambda b: b.update(mediaType="here be a bomb")).replace(mark, bomb))
        field.release_3()
    elif where == "OMS statement":
        path = field.bundle / "model.sig.json"
        value = json.loads(sign_statement(path.read_bytes(), field.keys, "builder", lambda _: None))
        statement = payload_of(canonical(value["dsseEnvelope"])) | {"predicateType": "here be a bomb"}
        made = field.keys.envelope(canonical(statement).replace(mark, bomb), "builder")
        made["signatures"][0]["keyid"] = ""
        path.write_bytes(canonical(value | {"dsseEnvelope": made}))
        field.release_3()
    else:
        path = field.bundle / "evidence/evade.dsse.json"
        verdict = payload_of((field.bundle / "evidence/assess.dsse.json").read_bytes())
        if where == "envelope":
            path.write_bytes(
                edited(path.read_bytes(), lambda e: e.update(payload="here be a bomb")).replace(mark, bomb)
            )
        else:
            said = payload_of(path.read_bytes())
            said["predicateType"] = "here be a bomb"
            path.write_bytes(canonical(field.keys.envelope(canonical(said).replace(mark, bomb), "assessor")))
        judge(field.bundle, field.keys, verdict)
        field.release_3()
    with bounds(seconds=5):
        field.refuses_any((EvidenceError, SignatureError), "expected|finite|number|unknown predicate type")


@pytest.mark.attack(1)
@pytest.mark.parametrize("kind", ["deep", "deep and whole", "long", "just short enough", "many", "NaN"])
@pytest.mark.parametrize("name", ["timestamp", "snapshot", MODEL])
def test_excessive_json_in_metadata(field: Field, name: str, kind: str) -> None:
    """The registry serves TUF metadata with deep nesting, a huge integer or NaN."""
    assert 2 == field.accepts()
    value = field.registry.newest(name).to_dict()
    value["signed"]["version"] = "here be a bomb"
    data = canonical(value).replace(b'"here be a bomb"', _bomb(kind))
    if name == "timestamp":
        (field.registry.metadata / "timestamp.json").write_bytes(data)
    elif name == "snapshot":
        from tuf.api.metadata import MetaFile

        stamp = field.registry.newest("timestamp")
        version = stamp.signed.snapshot_meta.version + 1
        (field.registry.metadata / f"{version}.snapshot.json").write_bytes(data)
        stamp.signed.version += 1
        stamp.signed.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
        stamp.sign(field.keys.signer("registrar"))
        stamp.to_file(str(field.registry.metadata / "timestamp.json"))
    else:
        field.registry.place(MODEL, data, 3)
    with bounds(seconds=5):
        field.refuses_any((SignatureError, DigestMismatchError, RegistryError), f"{MODEL}|{STAMP}: expected at most")


@pytest.mark.attack(2)
@pytest.mark.parametrize("count", [100_000, 3_000])
def test_a_release_of_very_many_files(field: Field, count: int) -> None:
    """The reviewers sign a release that lists 100,000 or 3,000 files: refused in bounded time and memory."""
    assert 2 == field.accepts()
    value = release_of(field.bundle, field.listed.read_bytes(), version=3)
    value["files"] += [{"path": f"model/x{n:06}", "length": 0, "sha256": "0" * 64} for n in range(count)]
    value["files"].sort(key=lambda record: str(record["path"]))
    field.registry.release(canonical(value), MODEL, ("alice", "chiara"), UNTIL)
    error: type[TwinsealError] = DigestMismatchError if count == 100_000 else RegistryError
    with bounds(seconds=10, megabytes=64):
        field.refuses(error, "expected at most 1048576 bytes, got|expected this file of release 3, got none")


@pytest.mark.attack(1)
def test_an_endless_chain_of_roots(field: Field) -> None:
    """Stolen root key: an endless chain of new roots; the twin follows at most 64 of them."""
    root = field.registry.newest("root")
    for version in range(2, 80):
        root.signed.version = version
        root.sign(field.keys.signer("ruth"))
        root.to_file(str(field.registry.metadata / f"{version}.root.json"))
    with bounds(seconds=10, megabytes=64):
        assert 2 == field.pull(twin=field.path / "new").model.release.version
    kept = [path.name for path in (field.path / "new/tuf/root_history").iterdir()]
    assert 66 > len(kept) > 60
