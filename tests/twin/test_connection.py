"""Large files over the network: the faster way out of a server that has one, and bytes that gather."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import simulator
from tests.simulator import Behaviour, Registry
from twinseal.errors import DigestMismatchError, RegistryError
from twinseal.twin.byte_sources import RestSource
from twinseal.twin.connection import LARGE_BYTES

ID = "m-" + "0" * 32
WEIGHTS = f"candidates/{ID}/model/model.safetensors"
ABOUT, STREAMED = f"mlflow/logged-models/{ID}", "mlflow-artifacts/artifacts/"
DATA = bytes(range(256)) * (3 * LARGE_BYTES // 256)
OTHER = DATA[::-1]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    (tmp_path / WEIGHTS).parent.mkdir(parents=True)
    (tmp_path / WEIGHTS).write_bytes(DATA)
    with Registry(tmp_path) as registry:
        yield registry


def candidate_answer(uri: Any) -> Behaviour:
    """MLflow's answer about a candidate whose artifacts are at `uri`."""
    return simulator.serve(json.dumps({"model": {"info": {"artifact_uri": uri}}}).encode())


def fetch_weights(registry: Registry, limit: int = len(DATA), **options: Any) -> bytes:
    with RestSource(registry.url, "m", **options) as source:
        return b"".join(source.open(WEIGHTS, limit))


def test_large_file_comes_the_streaming_way_where_the_server_has_it(registry: Registry) -> None:
    registry.misbehave = {
        f"2.0/{ABOUT}": candidate_answer(f"mlflow-artifacts:/1/models/{ID}/artifacts"),
        STREAMED: simulator.serve(OTHER),  # other bytes, to see whence they come; the digest is the twin's to check
    }
    assert OTHER == fetch_weights(registry)
    assert f"/api/2.0/{STREAMED}1/models/{ID}/artifacts/model/model.safetensors" == registry.asked[-1]


@pytest.mark.parametrize(
    "behaviour",
    [
        candidate_answer(f"file:///srv/{ID}/artifacts"),
        candidate_answer(f"s3://bucket/{ID}"),
        candidate_answer("mlflow-artifacts:/../../etc"),
        candidate_answer("mlflow-artifacts://elsewhere:80/1"),
        candidate_answer("mlflow-artifacts:/"),
        candidate_answer("mlflow-artifacts:/1/a?b=c"),
        candidate_answer("http:/elsewhere/1"),
        candidate_answer(None),
        candidate_answer(7),
        simulator.serve(b""),
        simulator.serve(b"[]"),
        simulator.serve(b'{"model": []}'),
        simulator.serve(b'{"model": {"info": null}}'),
        simulator.serve(b"x" * (1 << 21)),
        simulator.status(404),
        simulator.status(500),
        simulator.redirect("http://example.invalid/x"),
        simulator.hang_up,
    ],
)
def test_odd_hint_leads_the_way_that_always_works_and_nowhere_else(behaviour: Behaviour, registry: Registry) -> None:
    registry.misbehave = {f"2.0/{ABOUT}": behaviour}
    assert DATA == fetch_weights(registry)
    assert [f"/api/2.0/{ABOUT}", WEIGHTS] == registry.asked


@pytest.mark.parametrize("behaviour", [simulator.status(404), simulator.status(500), simulator.status(503)])
def test_streaming_way_that_is_shut_leads_to_the_other(behaviour: Behaviour, registry: Registry) -> None:
    registry.misbehave = {f"2.0/{ABOUT}": candidate_answer(f"mlflow-artifacts:/1/{ID}"), STREAMED: behaviour}
    assert DATA == fetch_weights(registry)
    assert WEIGHTS == registry.asked[-1]


def test_streaming_way_that_gives_too_much_is_refused_at_once(registry: Registry) -> None:
    registry.misbehave = {
        f"2.0/{ABOUT}": candidate_answer(f"mlflow-artifacts:/1/{ID}"),
        STREAMED: simulator.serve(DATA + b"x"),
    }
    with pytest.raises(DigestMismatchError, match=f"expected at most {len(DATA)} bytes, got a length"):
        fetch_weights(registry)


def test_small_file_asks_for_no_faster_way(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(DATA[:100])
    assert DATA[:100] == fetch_weights(registry, LARGE_BYTES - 1)
    assert [WEIGHTS] == registry.asked


def in_small_pieces(handler: Any, body: bytes) -> None:
    """As MLflow's WSGI bridge does: 8 KiB, a moment, 8 KiB."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for place in range(0, len(body), 8192):
        handler.wfile.write(body[place : place + 8192])
        time.sleep(0.0001)


def test_small_pieces_of_a_large_file_gather(registry: Registry) -> None:
    registry.misbehave = {WEIGHTS: in_small_pieces}
    with RestSource(registry.url, "m") as source:
        chunks = list(source.open(WEIGHTS, len(DATA)))
    assert DATA == b"".join(chunks)
    assert len(chunks) < len(DATA) / 8192 / 2  # the server sent so many pieces


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_large_file_that_ends_early_is_refused_at_once(kept: float, registry: Registry) -> None:
    def hang_up(handler: Any, body: bytes) -> None:
        handler.reply(body[: int(kept * len(body)) + 1], headers={"Content-Length": str(len(body))})

    registry.misbehave = {WEIGHTS: hang_up}
    start = time.monotonic()
    with pytest.raises(RegistryError, match="expected an answer of the registry, got none"):
        fetch_weights(registry)
    assert time.monotonic() - start < 5


def test_large_file_that_stalls_is_refused_with_the_deadline(registry: Registry) -> None:
    def stall(handler: Any, body: bytes) -> None:
        handler.reply(body[: LARGE_BYTES + 100], headers={"Content-Length": str(len(body))})
        handler.registry.closing.wait(20)

    registry.misbehave = {WEIGHTS: stall}
    start = time.monotonic()
    with pytest.raises(RegistryError, match="expected everything within 1 s, got less"):
        fetch_weights(registry, deadline_s=1.0)
    assert time.monotonic() - start < 5


def test_connection_serves_again_after_a_large_file(registry: Registry, tmp_path: Path) -> None:
    """What made the bytes gather is undone: the last bytes of a file, and the next small one, come at once."""
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/timestamp.json").write_bytes(b"{}")
    start = time.monotonic()
    with RestSource(registry.url, "m") as source:
        for _ in range(2):
            assert len(DATA) == sum(map(len, source.open(WEIGHTS, len(DATA))))
            assert b"{}" == b"".join(source.open("metadata/timestamp.json", 100))
    assert time.monotonic() - start < 5
