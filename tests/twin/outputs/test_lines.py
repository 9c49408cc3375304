"""Lines of JSON: whole ones only, to files that may be moved away or find no room, and to readers that stop."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.twin.outputs.messages import Told, alert, answer
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.twin.outputs import lines
from twinseal.twin.outputs.lines import LinesOutput
from twinseal.twin.outputs.output import OutputError
from twinseal.twin.outputs.settings import LinesSettings


def output(path: Path | str, **settings: Any) -> LinesOutput:
    return LinesOutput("lines", parse(LinesSettings, {"kind": "lines", "path": str(path), **settings}, "twin.yaml"))


def publish(made: LinesOutput, *batches: list[Any]) -> None:
    async def scene() -> None:
        await made.open(Told())
        for batch in batches:
            await made.publish(batch)
        await made.close()

    asyncio.run(scene())


def units(path: Path) -> list[Any]:
    return [json.loads(line)["unit"] for line in path.read_text().splitlines()]


def test_answers_and_alerts_are_lines_in_order(tmp_path: Path) -> None:
    publish(output(tmp_path / "x"), [answer("Süd 3"), alert()], [answer(7)])
    assert ["Süd 3", None, 7] == units(tmp_path / "x")
    assert alert().to_json() == (tmp_path / "x").read_text().splitlines(keepends=True)[1]
    assert 0o640 == (tmp_path / "x").stat().st_mode & 0o777


def test_an_output_takes_what_it_is_for(tmp_path: Path) -> None:
    for messages, expected in (("all", [True, True]), ("answers", [True, False]), ("alerts", [False, True])):
        made = output(tmp_path / "x", messages=messages)
        assert expected == [made.takes(answer()), made.takes(alert())]


def test_a_file_that_was_moved_away_is_made_anew_and_so_is_one_after_a_hangup(tmp_path: Path) -> None:
    path, made = tmp_path / "x", output(tmp_path / "x")

    async def scene() -> None:
        await made.open(Told())
        await made.publish([answer("a")])
        path.rename(tmp_path / "x.old")
        await made.publish([answer("b")])
        path.unlink()
        made.reopen()
        await made.publish([answer("c")])
        await made.close()

    asyncio.run(scene())
    assert (["a"], ["c"]) == (units(tmp_path / "x.old"), units(path))


def test_a_long_file_is_moved_and_only_so_many_are_kept(tmp_path: Path) -> None:
    many = [answer("x" * 64, advice="a" * 900)] * 600
    publish(output(tmp_path / "x", max_mib=1, keep=2), *([many] * 5))
    assert ["x", "x.1", "x.2"] == sorted(path.name for path in tmp_path.iterdir())
    assert [600] * 3 == [len(units(path)) for path in tmp_path.iterdir()]


def test_a_part_of_a_line_is_never_continued(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"unit":"a"}\n{"unit":"b')
    publish(output(tmp_path / "x"), [answer("c")])
    first, torn, last = (tmp_path / "x").read_text().splitlines()
    assert ("a", '{"unit":"b', "c") == (json.loads(first)["unit"], torn, json.loads(last)["unit"])


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may be longer than 2,000 bytes: a full disk's error in the middle of a write."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_what_a_full_disk_did_not_take_whole_is_cut_off_and_taken_later(tmp_path: Path) -> None:
    made, path = output(tmp_path / "x"), tmp_path / "x"

    async def scene() -> None:
        await made.open(Told())
        await made.publish([answer("a")])
        with pytest.raises(OutputError, match="expected .* bytes to be written, got File too large"):
            await made.publish([answer("b"), answer("b", advice="x" * 2000)])
        assert ["a"] == units(path)
        await made.publish([answer("c")])
        await made.close()

    asyncio.run(scene())
    assert ["a", "c"] == units(path)


@pytest.mark.parametrize("kind", ["link", "fifo", "device"])
def test_what_is_no_file_is_not_written_to(tmp_path: Path, kind: str) -> None:
    """A link, a fifo or a device stands in place of the file for answers."""
    path = Path("/dev/null") if kind == "device" else tmp_path / "x"
    if kind == "link":
        path.symlink_to(tmp_path / "target")
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ConfigError, match="expected a file that can be written to, got"):
        publish(output(path), [answer()])
    assert not (tmp_path / "target").exists()


READER = """
import asyncio, sys
from tests.twin.outputs.messages import Told, answer
from tests.twin.outputs.test_lines import output
from twinseal.twin.outputs import lines
from twinseal.twin.outputs.output import OutputError
lines.STALLED_MS = 50
async def scene():
    made, failed = output("-"), 0
    await made.open(Told())
    for number in range(400):
        while True:
            try:
                await made.publish([answer(number, advice="x" * 700)])
                break
            except OutputError:
                failed += 1
                print("stalled", file=sys.stderr, flush=True)
    await made.close()
asyncio.run(scene())
"""


@pytest.mark.proof
def test_a_reader_that_stops_is_said_and_no_line_is_torn_when_it_goes_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])},
    ) as writer:  # fmt: skip
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert "stalled\n" == writer.stderr.readline()
        found = [json.loads(line)["unit"] for line in writer.stdout]
        assert "" == writer.stderr.read().replace("stalled\n", "")
    assert list(range(400)) == sorted(set(found))
    assert lines.STALLED_MS == 5_000


def test_settings_that_no_standard_output_can_do_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected a file for max_mib and sync, got standard output"):
        output("-", max_mib=1)
