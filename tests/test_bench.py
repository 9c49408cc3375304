"""The benchmarks' own arithmetic: what they say is in reach must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.table import Row, machine, ratio, show
from twinseal.digests import parse_json


def row(*samples: float, unit: str = "s", reach: float | None = None) -> Row:
    return Row("b", "w", samples, unit, reach)


def test_ratio_is_to_the_slowest_of_the_same_repetition() -> None:
    found = ratio("b", "w", row(10.0, 30.0), [row(5.0, 1.0), row(1.0, 20.0)], 1.25)
    assert ((2.0, 1.5), 1.75, False) == (found.samples, found.median, found.reached)


@pytest.mark.parametrize(
    ("reach", "reached"), [(None, None), (2.0, True), (1.99, False)], ids=["none", "within", "beyond"]
)
def test_median_decides_what_is_reached(reach: float | None, reached: bool | None) -> None:
    assert reached is row(1.0, 2.0, 900.0, reach=reach).reached


def test_row_keeps_its_samples_and_their_spread() -> None:
    found = row(3.0, 1.0, 2.0, reach=2.0).to_dict()
    assert (3.0, 1.0, 2.0) == found["samples"]
    assert (2.0, 1.0, 3.0, True) == tuple(found[key] for key in ("median", "least", "greatest", "reached"))


def test_machine_is_named(tmp_path: Path) -> None:
    about = machine(tmp_path)
    assert {"cpu", "cores", "memory_gib", "kernel", "python", "packages", "disk", "load_1_min"} == set(about)
    assert about["cores"] >= 1
    assert all(about[key] for key in ("cpu", "kernel", "python", "disk"))


def test_table_says_what_was_missed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show([row(1.0, 3.0, 2.0, reach=2.0), row(7.0, unit="MiB", reach=6.0)], machine(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [["2.00 s", "1.00 – 3.00", "≤ 2.00 s", "reached"], ["7 MiB", "7 – 7", "≤ 6 MiB", "missed"]] == [
        [part.strip() for part in line.split("  ") if part.strip()][2:] for line in lines if " w " in line
    ]


@pytest.mark.parametrize(("samples", "status"), [((1.0,), 0), ((3.0,), 1)])
def test_benchmark_leaves_its_samples_and_its_verdict(
    samples: tuple[float, ...],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "bench", lambda name: lambda folder, repeats: [row(*samples * repeats, reach=2.0)])
    monkeypatch.setattr("sys.argv", ["bench", "pull", "--repeats", "2", "--scratch", str(tmp_path / "scratch")])
    assert status == bench.main()
    result = parse_json((tmp_path / "reports/bench/pull.json").read_bytes(), "pull.json")
    assert [*samples, *samples] == result["rows"][0]["samples"]
    assert [] == list((tmp_path / "scratch").iterdir())
    assert "reached" in capsys.readouterr().out or status


@pytest.mark.parametrize("words", [["pul"], ["pull", "--repeats", "0"]])
def test_what_is_not_known_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *words])
    with pytest.raises(SystemExit):
        bench.main()
    assert "expected of accuracy, attack, pull, start, and one repeat at least" in capsys.readouterr().err
