"""Every parser of untrusted bytes under hypothesis: the parsed value, or our own error, soon and in little memory.

The coverage-guided fuzzer over the same parsers is `make fuzz`; that it still runs is tested here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings

from tests.fuzz.harness import NAMES, BrokenLawError, Parser, outcome
from tests.fuzz.parsers import all_parsers
from tests.strategies import CHOICES, hostile

ROOT = Path(__file__).parents[2]
# The slowest of 40,000 examples took 0.3 s on a busy machine; what this is here to find took minutes.
DEADLINE = timedelta(seconds=5)
EXAMPLES = 100


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    return all_parsers(tmp_path_factory.mktemp("fuzz"))


def test_every_parser_is_named(parsers: dict[str, Parser]) -> None:
    assert sorted(NAMES) == sorted(parsers)


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_takes_what_was_written_for_it(parsers: dict[str, Parser], name: str) -> None:
    for document in parsers[name].documents:
        assert "parsed" == outcome(parsers[name], document)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=EXAMPLES, deadline=DEADLINE, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=CHOICES)
def test_a_parser_gives_a_value_or_our_own_error(parsers: dict[str, Parser], name: str, choice: int | bytes) -> None:
    data = hostile(parsers[name].documents, choice)
    note(f"{name}: {data!r:.2000}")
    assert outcome(parsers[name], data) in ("parsed", "refused")


def test_a_parser_that_leaks_or_breaks_its_law_is_found(parsers: dict[str, Parser]) -> None:
    """The harness itself: what it is here to notice comes through it."""

    def leaks(data: bytes) -> None:
        json.loads(data)["a"]

    def lies(data: bytes) -> None:
        raise BrokenLawError("took what nobody signed")

    with pytest.raises(KeyError):
        outcome(Parser("leaks", (b"{}",), leaks), b"{}")
    with pytest.raises(BrokenLawError, match="nobody signed"):
        outcome(Parser("lies", (b"{}",), lies), b"{}")


@pytest.mark.proof
def test_the_worst_documents_take_little_time_and_memory() -> None:
    """In a process whose memory is bounded: 512 KB of '[', millions of tiny objects, a header of many tensors."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.worst"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
    )
    assert (0, "") == (done.returncode, done.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {*NAMES} == {item["parser"] for item in found}
    assert [] == [item for item in found if item["outcome"] not in ("parsed", "refused") or item["seconds"] > 10]


@pytest.mark.proof
def test_the_coverage_guided_fuzzer_runs_and_ends_with_the_reproducer_of_what_it_finds() -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: make fuzz is for machines that have it")
    command = [sys.executable, "-m", "tests.fuzz.run", "--seconds", "1", "release", "leaky"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (1, "") == (done.returncode, done.stderr), done.stdout
    assert "release: nothing found in " in done.stdout
    assert "leaky: KeyError: 'a'" in done.stdout
    (reproducer,) = re.findall(r"again: python -m tests.fuzz.target leaky (\S+)", done.stdout)
    (ROOT / reproducer).unlink()
