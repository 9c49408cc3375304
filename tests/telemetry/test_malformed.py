"""A hundred files as they go wrong in plants, each brought to `ingest` and, if that reads it, to `validate`.

Each is refused with one message that names file, line, unit and column as far as they are known; nothing is half
written, and what was accepted before stays. Or, where policy bears it, the row is set aside, and said.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipelines import ingest, validate
from tests.checkout import link_code
from tests.telemetry.conftest import ROOT, oven_contract
from twinseal.digests import sha256_file
from twinseal.errors import TwinsealError

HEAD = "unit,cycle,load,heat,glow,rul"
MAPPING: dict[str, Any] = {
    "unit": "unit",
    "cycle": "cycle",
    "settings": {"load": "load"},
    "sensors": {"heat": "heat", "glow": "glow"},
    "rul": "rul",
}
BY_TIME: dict[str, Any] = {"cycle": None, "rul": None, "ends_in_failure": True}
RAW = (Path("data/raw/telemetry.parquet"), Path("data/raw/manifest.json"), Path("reports/evidence/ingest.dsse.json"))


def good(unit: str = "A", cycles: int = 6) -> list[str]:
    return [f"{unit},{n},0.5,{300 + n},{310 + n},{cycles - n}" for n in range(1, cycles + 1)]


def rows(*lines: str, at: int = 2) -> str:
    """A good table in which these lines stand from line `at` on."""
    whole = [HEAD, *good("A"), *good("B"), *good("C")]
    whole[at - 1 : at - 1 + len(lines)] = lines
    return "\n".join(whole) + "\n"


def stamps(*times: str, unit: str = "A") -> str:
    return "unit,time,load,heat,glow\n" + "".join(f"{unit},{time},0.5,300,310\n" for time in times)


def parquet(**columns: Any) -> bytes:
    whole = {
        "unit": ["A"] * 6,
        "cycle": range(1, 7),
        "load": 0.5,
        "heat": 300.0,
        "glow": 310.0,
        "rul": range(5, -1, -1),
    }
    stream = io.BytesIO()
    pd.DataFrame({**whole, **columns}).to_parquet(stream)
    return stream.getvalue()


@dataclass(frozen=True)
class Case:
    """One file that went wrong.

    Attributes:
        data: Its bytes, or those of several by name.
        says: Parts of the message, in order.
        mapping: What the params say of it, beside MAPPING.
        name: Of the file.
        validated: `ingest` reads it, and `validate` refuses it.
    """

    data: str | bytes | dict[str, str]
    says: tuple[str, ...]
    mapping: dict[str, Any] = field(default_factory=dict)
    name: str = "ovens.csv"
    validated: bool = False


def time(**form: str) -> dict[str, Any]:
    return {**BY_TIME, "time": {"column": "time", **form}}


WIDTH = "expected 6 cells, as in the header"
NUMBER = "expected a number"
NAMED = "expected the name of a machine"

CASES: dict[str, Case] = {
    # The whole file.
    "empty": Case("", ("ovens.csv", "expected a table, got nothing")),
    "blank lines": Case("\n \n\n", ("ovens.csv", "expected a table, got nothing")),
    "header alone": Case(HEAD + "\n", ("got no row",)),
    "no header": Case("\n".join(good()), ("ovens.csv", "expected the columns", "missing", "got A, 1, 0.5")),
    "null bytes": Case(b"\x00" * 100, ("ovens.csv", "expected the columns")),
    "html": Case("<html><body>Login</body></html>\n", ("ovens.csv", "expected the columns", "<html>")),
    "json": Case('{"unit": "A"}\n', ("ovens.csv", "expected")),
    "zip": Case(b"PK\x03\x04\xff\xfe\xfd", ("ovens.csv", "line 1", "expected text in utf-8")),
    "utf-16 unsaid": Case(rows().encode("utf-16"), ("ovens.csv", "expected text in utf-8")),
    "latin-1 unsaid": Case(rows("\xd6l,1,0.5,300,310,5").encode("latin-1"), ("line 2", "expected text in utf-8")),
    "utf-8 said to be utf-16": Case(rows(), ("expected text in utf-16",), {"encoding": "utf-16"}),
    "excel": Case(b"PK", ("expected a folder, or a .csv",), name="ovens.xlsx"),
    "absent": Case({}, ("expected a folder, or a .csv", "no such file")),
    "empty folder": Case({"folder/x.pdf": ""}, ("folder: expected files (.csv", "got none"), name="folder"),
    "parquet in name": Case(rows(), ("ovens.parquet", "expected Parquet"), name="ovens.parquet"),
    "csv in name": Case(parquet(), ("ovens.csv", "line", "expected text in utf-8")),
    "cut off parquet": Case(parquet()[:-20], ("ovens.parquet", "expected Parquet"), name="ovens.parquet"),
    "carriage returns in the middle": Case(rows().replace("\nB,3", "\rB,3\n") + "x", ("ovens.csv", "line", WIDTH)),
    # The header.
    "column absent": Case(rows().replace("glow", "gloom", 1), ("missing ['glow']", "got unit, cycle")),
    "column twice": Case("unit,cycle,load,heat,heat,rul\nA,1,0,1,1,0\n", ("twice ['heat']",)),
    "unit twice": Case("unit,unit,cycle,load,heat,glow,rul\nA,A,1,0,1,1,0\n", ("twice ['unit']",)),
    "case of a name": Case(rows().replace("unit", "Unit", 1), ("missing ['unit']", "got Unit")),
    "semicolons unsaid": Case(rows().replace(",", ";"), ("expected the columns", "got unit;cycle;load")),
    "tabs unsaid": Case(rows().replace(",", "\t"), ("expected the columns", "got unit")),
    "header over two lines": Case('"un\nit",cycle\nA,1\n', ("ovens.csv", "expected names in the first line")),
    "quote left open in header": Case('"unit,cycle\nA,1\n', ("ovens.csv", "expected")),
    "3000 columns": Case(HEAD + ",x" * 3000 + "\n", ("at most 2048",)),
    "title above the header": Case("Export of plant 7\n" + rows(), ("expected the columns", "got Export of plant 7")),
    # The width of rows.
    "longer row": Case(rows("A,1,0,5,301,311,5"), ("ovens.csv, line 2", WIDTH, "7: A,1,0,5,301,311,5")),
    "longer last row": Case(rows() + "C,7,0.5,300,310,0,1\n", ("line 20", WIDTH)),
    "shorter row": Case(rows("A,1,0.5"), ("ovens.csv, line 2", WIDTH, "3: A,1,0.5")),
    "half a last line": Case(rows()[:-8], ("ovens.csv, line 19", WIDTH)),
    "all rows longer": Case(HEAD + "\n" + "A,1,0,5,301,311,5\n" * 3, ("line 2", "line 3", WIDTH)),
    "trailing commas": Case(rows("A,1,0.5,301,311,5,"), ("ovens.csv, line 2", WIDTH)),
    "a log line": Case(rows("2024-01-01 restart of the recorder"), ("line 2", WIDTH, "restart")),
    "second header": Case(rows(HEAD, at=5), ("line 5", "cycle", NUMBER, "'cycle'")),
    "quote left open": Case(rows('"A,1,0.5,301,311,5', at=9), ("ovens.csv", "expected")),
    "line of 70 kB": Case(rows("A," + "1" * 70_000), ("line 2", "at most 65536 bytes")),
    # Names of machines.
    "no name": Case(rows(",1,0.5,301,311,5"), ("ovens.csv, line 2, unit", NAMED, "got ''")),
    "spaces for a name": Case(rows("  ,1,0.5,301,311,5"), ("line 2, unit", NAMED)),
    "control character": Case(rows("A\x07,1,0.5,301,311,5"), ("line 2, unit", NAMED)),
    "terminal escape": Case(rows("\x1b[31mA,1,0.5,301,311,5"), ("line 2, unit", NAMED)),
    "direction mark": Case(rows("A\u202eB,1,0.5,301,311,5"), ("line 2, unit", NAMED)),
    "name of 100 letters": Case(rows("A" * 100 + ",1,0.5,301,311,0"), ("line 2, unit", NAMED, "AAAA")),
    "fraction for a name": Case(parquet(unit=[1.5] * 6), ("row 1, unit", NAMED, "1.5"), name="ovens.parquet"),
    "none for a name": Case(parquet(unit=["A", None, "A", "A", "A", "A"]), ("row 2, unit", NAMED), name="o.parquet"),
    "bytes for a name": Case(parquet(unit=[b"\xff"] * 6), ("ovens.parquet: unit", "got binary"), name="ovens.parquet"),
    # Cycles.
    "no cycle": Case(rows("A,,0.5,301,311,5"), ("line 2, unit A, cycle", "a whole number")),
    "fraction of a cycle": Case(rows("A,1.5,0.5,301,311,5"), ("line 2, unit A, cycle", "a whole number", "1.5")),
    "date for a cycle": Case(rows("A,2024-01-01,0.5,301,311,5"), ("line 2, unit A, cycle", NUMBER, "2024-01-01")),
    "cycle beyond 2**31": Case(rows("A,3000000000,0.5,301,311,5"), ("line 2, unit A, cycle", "a whole number")),
    "cycle twice": Case(rows("A,2,0.5,301,311,5"), ("A, cycle 2", "bad units"), validated=True),
    "cycle from 0": Case(rows("A,0,0.5,301,311,5"), ("A",), validated=True),
    "gap in the cycles": Case(rows("A,9,0.5,306,316,0", at=7), ("A",), validated=True),
    "negative cycle": Case(rows("A,-1,0.5,301,311,5"), ("A",), validated=True),
    # Numbers.
    "decimal comma": Case(rows('A,1,0.5,"301,5",311,5'), ("line 2, unit A, heat", NUMBER, "'301,5'")),
    "decimal point where commas are said": Case(
        rows("A,1,0.5,301.5,311,5").replace(",", ";"),
        ("line 2, unit A, load", NUMBER, "'0.5'"),
        {"separator": ";", "decimal": ","},
    ),
    "thousands": Case(rows('A,1,0.5,"1,301",311,5'), ("line 2, unit A, heat", NUMBER)),
    "thousands with a quote": Case(rows("A,1,0.5,1'301,311,5"), ("line 2, unit A, heat", NUMBER, "1'301")),
    "thousands with a space": Case(rows("A,1,0.5,1 301,311,5"), ("line 2, unit A, heat", NUMBER, "1 301")),
    "a unit of measurement": Case(rows("A,1,0.5,301 K,311,5"), ("line 2, unit A, heat", NUMBER, "301 K")),
    "a historian's word": Case(rows("A,1,0.5,Bad,311,5"), ("line 2, unit A, heat", NUMBER, "'Bad'")),
    "a spreadsheet's error": Case(rows("A,1,0.5,#DIV/0!,311,5"), ("line 2, unit A, heat", NUMBER, "#DIV/0!")),
    "a formula": Case(rows("A,1,0.5,=1+1,311,5"), ("line 2, unit A, heat", NUMBER, "=1+1")),
    "infinity": Case(rows("A,1,0.5,inf,311,5"), ("line 2, unit A, heat", NUMBER, "inf")),
    "beyond float64": Case(rows("A,1,0.5,1e999,311,5"), ("line 2, unit A, heat", NUMBER, "1e999")),
    "beyond float32": Case(rows("A,1,0.5,1e39,311,5"), ("A", "heat"), validated=True),
    "hexadecimal": Case(rows("A,1,0.5,0x1F,311,5"), ("line 2, unit A, heat", NUMBER, "0x1F")),
    "full width digits": Case(rows("A,1,0.5,\uff13\uff10\uff10,311,5"), ("line 2, unit A, heat", NUMBER)),
    "truth value": Case(rows("A,1,0.5,True,311,5"), ("line 2, unit A, heat", NUMBER, "True")),
    "date among readings": Case(rows("A,1,0.5,2024-01-01,311,5"), ("line 2, unit A, heat", NUMBER)),
    "two signs": Case(rows("A,1,0.5,--5,311,5"), ("line 2, unit A, heat", NUMBER, "--5")),
    "null byte in a number": Case(rows("A,1,0.5,30\x001,311,5"), ("line 2, unit A, heat", NUMBER)),
    "text in parquet": Case(
        parquet(heat=["300"] * 5 + ["hot"]), ("row 6, unit A, heat", NUMBER, "hot"), name="o.parquet"
    ),
    "moments for readings": Case(
        parquet(heat=pd.to_datetime(["2024-01-01"] * 6)), ("row 1, unit A, heat", NUMBER), name="o.parquet"
    ),
    "durations for readings": Case(
        parquet(heat=pd.to_timedelta([1] * 6, unit="s")), ("row 1, unit A, heat", NUMBER), name="o.parquet"
    ),
    "moments for cycles": Case(
        parquet(cycle=pd.to_datetime(["2024-01-01"] * 6)), ("row 1, unit A, cycle", "a whole number"), name="o.parquet"
    ),
    "a zero byte between the cells": Case(rows("A,1,0.5,301,311,5"), ("separator: expected",), {"separator": "\0"}),
    "lists in parquet": Case(parquet(heat=[[1.0]] * 6), ("o.parquet", "expected"), name="o.parquet"),
    "missing reading": Case(rows("A,1,0.5,NA,311,5"), ("A", "heat"), validated=True),
    "reading out of range": Case(rows("A,1,0.5,9000,311,5"), ("A", "heat"), validated=True),
    "reading that jumps": Case(rows("A,3,0.5,390,313,3", at=4), ("A", "heat"), validated=True),
    # Labels.
    "label that is no number": Case(rows("A,1,0.5,301,311,soon"), ("line 2, unit A, rul", NUMBER, "soon")),
    "label that does not fall": Case(rows("A,1,0.5,301,311,9"), ("A", "rul"), validated=True),
    "label that is negative": Case(rows("A,6,0.5,306,316,-1", at=7), ("A", "rul"), validated=True),
    "label that is missing once": Case(rows("A,2,0.5,302,312,", at=3), ("A", "rul"), validated=True),
    # Time stamps.
    "month 13": Case(stamps("2024-13-01"), ("line 2, unit A, time", "expected a time like"), time()),
    "31st of February": Case(stamps("31.02.2024"), ("line 2, unit A, time", "31.02.2024"), time(format="%d.%m.%Y")),
    "another form": Case(stamps("1/2/2024"), ("line 2, unit A, time", "expected a time like"), time()),
    "no time": Case(stamps(""), ("line 2, unit A, time", "expected a time"), time()),
    "a word that pandas knows": Case(stamps("now"), ("line 2, unit A, time", "'now'"), time()),
    "an odd offset": Case(stamps("2024-01-01T06:00+1:00"), ("line 2, unit A, time", "+1:00"), time()),
    "seconds since 1970": Case(stamps("1700000000"), ("line 2, unit A, time", "1700000000"), time()),
    "hour that was skipped": Case(
        stamps("2024-03-31 02:30"), ("line 2, unit A, time", "Europe/Berlin has once"), time(zone="Europe/Berlin")
    ),
    "hour that came twice": Case(
        stamps("2024-10-27 02:30"), ("line 2, unit A, time", "Europe/Berlin has once"), time(zone="Europe/Berlin")
    ),
    "one time twice": Case(stamps("2024-01-01", "2024-01-01"), ("line 3, unit A, time", "one row for each"), time()),
    "two rows in an hour": Case(
        stamps("2024-01-01 00:10", "2024-01-01 00:20"), ("line 3, unit A, time", "or `gather`"), time(cycle="1h")
    ),
    "year 99999": Case(stamps("99999-01-01"), ("line 2, unit A, time", "expected a time"), time()),
    # Words, several files, events.
    "a word that is none of them": Case(
        rows("A,1,fast,301,311,5"), ("line 2, unit A, load", "expected one of idle, run", "fast"),
        {"categories": {"load": {"idle": 0, "run": 1}}},
    ),
    "fault in the second file": Case(
        {"plant/a.csv": rows(), "plant/b.csv": HEAD + "\nD,1,0.5,hot,310,0\n"},
        ("b.csv, line 2, unit D, heat", NUMBER), name="plant",
    ),
    "other columns in the second file": Case(
        {"plant/a.csv": rows(), "plant/b.csv": "unit,cycle\nD,1\n"}, ("b.csv", "missing ['load'"), name="plant",
    ),
    "file that names no machine": Case(
        {"plant/oven-A.csv": "cycle,load,heat,glow,rul\n1,0,1,1,0\n", "plant/list.csv": "cycle,load,heat,glow,rul\n"},
        ("list.csv", "expected a file named as oven-{unit}.csv"),
        {"unit": "", "unit_in_name": "oven-{unit}.csv"}, name="plant",
    ),
    "machine in two files at one cycle": Case(
        {"plant/a.csv": rows(), "plant/b.csv": "\n".join([HEAD, *good("A")])}, ("A",), name="plant", validated=True
    ),
    "event at no time": Case(
        {"plant/t.csv": stamps("2024-01-01", "2024-01-02"), "plant/f.csv": "unit,time\nA,sometime\n"},
        ("f.csv, line 2, time", "expected a time", "sometime"),
        {**time(), "ends_in_failure": False, "files": ["t.csv"],
         "events": {"failures": {"path": "f.csv", "unit": "unit", "time": "time"}}}, name="plant",
    ),
    "event of no machine": Case(
        {"plant/t.csv": stamps("2024-01-01", "2024-01-02"), "plant/f.csv": "unit,time\n,2024-01-02\n"},
        ("f.csv, line 2, unit", NAMED),
        {**time(), "ends_in_failure": False, "files": ["t.csv"],
         "events": {"failures": {"path": "f.csv", "unit": "unit", "time": "time"}}}, name="plant",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """A project that has ingested and accepted a good table."""
    folder = tmp_path_factory.mktemp("workshop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TWINSEAL_HOME", str(keys))
        link_code(folder)
        shutil.copytree(ROOT / "policy", "policy")
        set_policy()
        bring(Case(rows(), ()))
        ingest.main()
        validate.main()
    return folder


def set_policy(**changes: Any) -> None:
    contract = oven_contract() | {"max_quarantined_share": 0.05} | changes
    del contract["asset"]
    Path("policy/contract.yaml").write_text(yaml.safe_dump({"assets": {"oven": contract}}, sort_keys=False))


def bring(case: Case) -> None:
    """Put the files there, and the params."""
    for name in ("ovens.csv", "plant", "folder", case.name):
        shutil.rmtree(name, ignore_errors=True)
        Path(name).unlink(missing_ok=True)
    for name, data in case.data.items() if isinstance(case.data, dict) else [(case.name, case.data)]:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
    mapping = {key: value for key, value in (MAPPING | case.mapping).items() if value not in (None, "")}
    params = {"source": "table", "asset": "oven", "path": case.name, "table": mapping}
    Path("params.yaml").write_text(yaml.safe_dump({"data": params}, allow_unicode=True))


def test_there_are_at_least_ninety() -> None:
    assert len(CASES) >= 90


@pytest.mark.parametrize("name", CASES)
def test_a_malformed_file_is_refused_by_name_and_changes_nothing(
    name: str, workshop: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.chdir(workshop)
    monkeypatch.setenv("TWINSEAL_HOME", str(keys))
    bring(case)
    before = {path: sha256_file(path) for path in RAW}
    accepted = sha256_file(Path("data/accepted/telemetry.parquet"))
    if case.validated:
        source = ingest.open_source(ingest._stage.params(ingest.DataParams, "data"), ingest._stage.contract())
        validation = validate.examine(source.read(), ingest._stage.contract(), None)
        assert validation.refusal
        said = "\n".join(map(str, validation.findings)) + validation.refusal
    else:
        with pytest.raises(TwinsealError) as refusal:
            ingest.main()
        said = str(refusal.value)
        assert refusal.value.remedy or "got no row" in said
    at = 0
    for part in case.says:
        found = said.find(part, at)
        assert found >= 0, f"expected {part!r} in {said!r}"
        at = found
    assert before == {path: sha256_file(path) for path in RAW}
    assert accepted == sha256_file(Path("data/accepted/telemetry.parquet"))
    assert not list(workshop.rglob("*.tmp*"))


BORNE = [name for name, case in CASES.items() if "line 2, unit A, heat" in case.says or "line 2, unit" in case.says[0]]


@pytest.mark.parametrize("name", [n for n in BORNE if not CASES[n].mapping and CASES[n].name == "ovens.csv"])
def test_by_policy_the_row_is_set_aside_and_the_rest_goes_on(
    name: str, workshop: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop)
    bring(CASES[name])
    contract = ingest._stage.contract().model_copy(update={"max_unreadable_share": 0.06})
    source = ingest.open_source(ingest._stage.params(ingest.DataParams, "data"), contract)
    fleet = source.read()
    assert {"B", "C"} <= set(fleet.units)
    assert [6, 6] == [len(fleet.trajectory(unit).frame) for unit in ("B", "C")]
    (said,) = [remark for remark in source.remarks() if "cannot be read whole" in remark]
    assert "ovens.csv, line 2" in said
