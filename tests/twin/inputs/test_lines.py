"""The standard input as a source: a pipe, a file; rows and frames."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.inputs.driving import Told, reasons, rows
from twinseal.config import parse
from twinseal.trust.signing.cose import MAX_MESSAGE_BYTES
from twinseal.twin.frame_stream import with_length
from twinseal.twin.inputs.lines import LineBuffer, LinesSettings, LinesSource
from twinseal.twin.inputs.source import Item, SignedFrame


class Pipe:
    """A pipe: what is written to `end` is read by a source."""

    def __init__(self) -> None:
        self._descriptor, self.end = os.pipe()

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    one = Pipe()
    yield one
    one.close()


def source(stream: object, told: Told, carries: str = "rows") -> LinesSource:
    return LinesSource("pipe", parse(LinesSettings, {"kind": "lines", "carries": carries}, "t"), told, stream)  # type: ignore[arg-type]


async def all_of(one: LinesSource) -> list[Item]:
    return [item async for delivery in one.deliveries() for item in delivery]


def test_each_line_is_delivered_at_once_and_the_end_is_told(pipe: Pipe) -> None:
    async def run() -> None:
        told = Told()
        deliveries = source(pipe, told).deliveries()
        for cycle in range(1, 4):
            os.write(pipe.end, b'{"unit": "a", "cycle": %d}\n' % cycle)
            (row,) = await asyncio.wait_for(anext(deliveries), 1)
            assert {"unit": "a", "cycle": cycle} == row.row
        os.write(pipe.end, b'{"unit": "b"}')
        os.close(pipe.end)
        (row,) = await asyncio.wait_for(anext(deliveries), 1)
        assert {"unit": "b"} == row.row
        with pytest.raises(StopAsyncIteration):
            await anext(deliveries)
        assert ["connected", "ended"] == told.kinds()

    asyncio.run(run())


def test_a_twin_that_waits_for_a_line_ends_at_once(pipe: Pipe) -> None:
    async def run() -> None:
        asking = asyncio.create_task(anext(source(pipe, Told()).deliveries()))
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    begin = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - begin < 1
    os.close(pipe.end)


def test_a_busy_twin_does_not_look_at_the_pipe_all_the_time(pipe: Pipe) -> None:
    async def run() -> float:
        deliveries = source(pipe, Told()).deliveries()
        os.write(pipe.end, b"{}\n")
        await anext(deliveries)
        os.write(pipe.end, b"{}\n" * 100)
        begin = time.process_time()
        await asyncio.sleep(0.3)
        spent = time.process_time() - begin
        await deliveries.aclose()
        return spent

    assert asyncio.run(run()) < 0.1
    os.close(pipe.end)


def test_a_file_as_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"cycle": 1}\n\nnonsense\n{"cycle": 2}')
    with path.open("rb") as stream:
        found = asyncio.run(all_of(source(stream, Told())))
    assert ([{"cycle": 1}, {"cycle": 2}], ["malformed"]) == (rows(found), reasons(found))
    assert "pipe, line 3" in next(item.message for item in found if reasons([item]))


def test_a_line_that_is_too_long_is_passed_over_in_little_memory() -> None:
    lines = LineBuffer("pipe")
    found = lines.feed(b'{"cycle": 1}\n{"x": "')
    for _ in range(100):
        found += lines.feed(b"x" * (64 << 10))
        assert len(lines._rest) <= 1
    found += lines.feed(b'"}\n{"cycle": 2}\n')
    assert ([{"cycle": 1}, {"cycle": 2}], ["too long"]) == (rows(found), reasons(found))


@given(st.lists(st.sampled_from([b'{"a": 1}', b"", b"x", b"{}", b'{"b": "\xc3\xa4"}'])), st.lists(st.integers(0, 60)))
def test_however_the_bytes_are_cut_the_rows_are_the_same(lines: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(lines)
    whole = LineBuffer("pipe")
    expected = whole.feed(data) + whole.end()
    parts, at, found = LineBuffer("pipe"), 0, []
    for cut in sorted(cuts):
        found += parts.feed(data[at : max(at, cut)])
        at = max(at, cut)
    found += parts.feed(data[at:]) + parts.end()
    assert expected == found


def test_frames_after_their_lengths(pipe: Pipe) -> None:
    os.write(pipe.end, with_length(b"one") + with_length(b"two"))
    os.write(pipe.end, (MAX_MESSAGE_BYTES + 1).to_bytes(4) + b"xx")
    os.close(pipe.end)
    found = asyncio.run(all_of(source(pipe, Told(), "frames")))
    assert [SignedFrame(b"one", "pipe"), SignedFrame(b"two", "pipe")] == found[:2]
    assert ["too long", "cut off"] == reasons(found)
