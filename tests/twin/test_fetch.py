"""One file into the twin: every way in which the bytes may come, end, fail, or be interrupted."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, RegistryError
from twinseal.files import FileRecord
from twinseal.twin import fetch as fetching
from twinseal.twin.fetch import BLOCK_BYTES, fetch

RELEASE: Any = SimpleNamespace(mlflow_model_id="m-" + "0" * 32, version=3, model="pump-rul")
DATA = bytes(range(251)) * (3 * BLOCK_BYTES // 251 + 1)  # a little over three blocks
RECORD = FileRecord("model/model.safetensors", len(DATA), sha256(DATA))


class Given:
    """A source that gives these chunks, whatever it is asked for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks

    def open(self, path: str, limit: int) -> Iterator[bytes]:
        assert (f"candidates/{RELEASE.mlflow_model_id}/{RECORD.path}", RECORD.length) == (path, limit)
        return iter(self.chunks)


def cut(data: bytes, *sizes: int) -> Iterator[bytes]:
    """`data` in chunks of these sizes, again and again."""
    place = 0
    for size in itertools.cycle(sizes):
        if place >= len(data):
            return
        yield data[place : place + size]
        place += size


def of_this_module() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fetch")]


@pytest.mark.parametrize(
    "sizes",
    [(997,), (0, 65_537), (BLOCK_BYTES - 1, 1), (BLOCK_BYTES,), (BLOCK_BYTES + 1,), (1, 3 * BLOCK_BYTES), (len(DATA),)],
)
def test_chunks_of_any_size_give_the_same_file(sizes: tuple[int, ...], tmp_path: Path) -> None:
    assert RECORD == fetch(Given(cut(DATA, *sizes)), RELEASE, RECORD, tmp_path)
    assert DATA == (tmp_path / RECORD.path).read_bytes()


def test_empty_file_is_fetched(tmp_path: Path) -> None:
    empty = FileRecord(RECORD.path, 0, sha256(b""))
    source: Any = SimpleNamespace(open=lambda path, limit: iter([]))
    assert empty == fetch(source, RELEASE, empty, tmp_path)
    assert b"" == (tmp_path / RECORD.path).read_bytes()


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (DATA[:-1], len(DATA) - 1),
        (DATA[: BLOCK_BYTES + 5], BLOCK_BYTES + 5),
        (b"", 0),
        (DATA[:-1] + b"\xff", len(DATA)),
        (b"\xff" + DATA[1:], len(DATA)),
    ],
    ids=["a byte short", "cut in a block", "nothing", "last byte", "first byte"],
)
def test_other_bytes_than_signed_are_refused(data: bytes, got: int, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatchError, match=rf"expected sha256 .* got {sha256(data)[:12]}… \({got} bytes\)"):
        fetch(Given(cut(data, 65_536)), RELEASE, RECORD, tmp_path)


def test_source_that_ignores_its_limit_cannot_fill_the_disk(tmp_path: Path) -> None:
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        yield from cut(DATA, 65_536)
        while asked < 300:  # endless enough
            asked += 1
            yield b"x" * 65_536

    with pytest.raises(DigestMismatchError, match=r"model.safetensors: expected sha256"):
        fetch(Given(endless()), RELEASE, RECORD, tmp_path)
    assert asked <= BLOCK_BYTES // 65_536 + 1
    assert (tmp_path / RECORD.path).stat().st_size <= RECORD.length


def test_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    def missing(path: str, limit: int) -> Iterator[bytes]:
        raise FileNotFoundError(path)

    source: Any = SimpleNamespace(open=missing)
    with pytest.raises(RegistryError, match="expected this file of release 3, got none"):
        fetch(source, RELEASE, RECORD, tmp_path)


def test_full_disk_is_an_error_of_the_system_and_ends_the_fetching(tmp_path: Path) -> None:
    """The limit on a file's size fails in the thread that writes; Python ignores the signal that comes with it."""
    taken = 0

    def counted() -> Iterator[bytes]:
        nonlocal taken
        for chunk in cut(DATA * 8, 65_536):
            taken += len(chunk)
            yield chunk

    long = FileRecord(RECORD.path, len(DATA) * 8, sha256(DATA * 8))
    source: Any = SimpleNamespace(open=lambda path, limit: counted())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * BLOCK_BYTES, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            fetch(source, RELEASE, long, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert taken < len(DATA) * 3  # not all of it was asked for in vain
    assert [] == of_this_module()


def _registry_error() -> None:
    raise RegistryError("hung up")


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("fail", "error"), [(_registry_error, RegistryError), (_interrupt, KeyboardInterrupt)])
def test_whatever_ends_the_chunks_ends_the_fetching_and_its_thread(
    fail: Callable[[], None], error: type[BaseException], tmp_path: Path
) -> None:
    def broken() -> Iterator[bytes]:
        yield from cut(DATA[: 2 * BLOCK_BYTES], 65_536)
        fail()

    with pytest.raises(error):
        fetch(Given(broken()), RELEASE, RECORD, tmp_path)
    assert [] == of_this_module()


def test_all_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, list[int]] = {"fsync": [], "fdatasync": []}
    monkeypatch.setattr(fetching, "_SYNC_BYTES", BLOCK_BYTES)
    for name, noted in sizes.items():
        real = getattr(os, name)

        def note(descriptor: int, noted: list[int] = noted, real: Callable[[int], None] = real) -> None:
            noted.append(os.fstat(descriptor).st_size)
            real(descriptor)

        monkeypatch.setattr(fetching.os, name, note)
    fetch(Given(cut(DATA, 65_536)), RELEASE, RECORD, tmp_path)
    assert [len(DATA)] == sizes["fsync"]
    assert [BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES] == sizes["fdatasync"]  # the disk works meanwhile


def test_memory_stays_bounded_whatever_the_size(tmp_path: Path) -> None:
    chunk, count = os.urandom(65_536), 48 * BLOCK_BYTES // 65_536
    record = FileRecord(RECORD.path, count * len(chunk), sha256(chunk * count))
    source: Any = SimpleNamespace(open=lambda path, limit: (bytes(bytearray(chunk)) for _ in range(count)))
    tracemalloc.start()
    try:
        assert record == fetch(source, RELEASE, record, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5 * BLOCK_BYTES
    finally:
        tracemalloc.stop()
