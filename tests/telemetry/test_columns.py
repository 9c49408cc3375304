from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from twinseal.telemetry.columns import MAX_SHOWN, how_to_separate, list_names, nearest


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["Unit", "Cycle", "T24"], {"unit": "Unit", "cycle": "Cycle"}),
        (["unit_nr", "time_cycles", "T24"], {"unit": "unit_nr", "cycle": "time_cycles"}),
        ([" unit", "cylce"], {"unit": " unit", "cycle": "cylce"}),
        (["Engine Unit Number"], {"unit": "Engine Unit Number"}),
        (["community", "bicycles", "T24"], {"cycle": "bicycles"}),
        (["machine", "day"], {}),
        ([], {}),
    ],
)
def test_the_name_that_was_meant_is_found(names: list[str], meant: dict[str, str]) -> None:
    assert meant == nearest(("unit", "cycle"), names)


def test_a_hostile_header_does_not_hold_up_the_refusal() -> None:
    start = time.monotonic()
    assert {} == nearest(("unit", "cycle"), ["x" * 100_000 + str(number) for number in range(2048)])
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("mark", [";", "\t", "|", " "])
def test_the_command_writes_a_table_with_other_separators_anew(tmp_path: Path, mark: str) -> None:
    """The command is run as it is printed, in the shell."""
    rows = ["unit cycle T24", "007 1 3,5", "007 2 1204,25"]
    path = tmp_path / "it's a fleet.csv"
    path.write_text("\n".join(row.replace(" ", mark) for row in rows) + "\n")
    remedy = how_to_separate(str(path), [rows[0].replace(" ", mark)])
    command = remedy[remedy.index("python -c") :].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(["bash", "-c", command], check=True)
    written = pd.read_csv(tmp_path / "it's a fleet-commas.csv")
    assert ["unit", "cycle", "T24"] == list(written.columns)
    assert [3.5, 1204.25] == written["T24"].tolist()


def test_a_table_with_commas_needs_no_command() -> None:
    assert "" == how_to_separate("fleet.csv", ["unit;x", "cycle"])
    assert "" == how_to_separate("fleet.csv", ["unit"])
    assert "" == how_to_separate("fleet.csv", [])


def test_a_long_header_is_cut_short_in_a_message() -> None:
    assert "a, b" == list_names(["a", "b"])
    assert "none" == list_names([])
    assert MAX_SHOWN + 1 == len(list_names(["x" * 5000]))
