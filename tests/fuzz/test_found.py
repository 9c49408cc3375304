"""What fuzzing has found, each kept as the document that showed it. None may come back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.fuzz.harness import Parser, outcome
from tests.fuzz.parsers import all_parsers
from twinseal.digests import MAX_DEPTH, MAX_NODES, canonical_json, parse_json
from twinseal.errors import ConfigError, DataError, EvidenceError, RootError
from twinseal.telemetry import tables
from twinseal.telemetry.contract import Contract
from twinseal.twin import telemetry_reader
from twinseal.twin.state import LastSeen


@contextmanager
def soon(seconds: float) -> Iterator[None]:
    """Ten times what it takes; each of these took minutes."""
    start = time.perf_counter()
    yield
    assert time.perf_counter() - start < seconds


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    return all_parsers(tmp_path_factory.mktemp("found"))


@pytest.mark.parametrize("half", ["\\ud800", "\\uDFFF", "a\\ud83d b", "\\ude00\\ud83d"])
def test_half_a_character_is_no_text(half: str) -> None:
    """It could be read, and then neither be written again nor be printed in the message that refuses it."""
    with pytest.raises(EvidenceError, match="surrogates not allowed"):
        parse_json(f'{{"a": "{half}"}}'.encode(), "it")
    assert {"a": "\U0001f600"} == parse_json(b'{"a": "\\ud83d\\ude00"}', "it")


def test_half_a_character_in_one_review_does_not_stop_the_others(parsers: dict[str, Parser]) -> None:
    honest = json.loads(parsers["approval"].documents[0])
    honest["review"] = {"payload": "HALF"}
    data = json.dumps(honest).replace("HALF", "\\ud800").encode()
    assert "parsed" == outcome(parsers["approval"], data)  # that is: read, and reported as invalid


def test_what_was_parsed_can_be_written(parsers: dict[str, Parser]) -> None:
    """A value nested 900 deep was read, and broke whoever walked through it."""
    for depth, taken in ((MAX_DEPTH, True), (MAX_DEPTH + 1, False), (900, False)):
        data = b"[" * depth + b"]" * depth
        if taken:
            assert data == canonical_json(parse_json(data, "it"))
        else:
            with pytest.raises(EvidenceError, match="nested"):
                parse_json(data, "it")


def test_a_million_objects_are_refused_unread() -> None:
    with soon(0.5), pytest.raises(EvidenceError, match=f"at most {MAX_NODES} lists and objects"):
        parse_json(b"[" + b"{}," * 1_000_000 + b"{}]", "it")


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_without_utc_was_never_seen(when: str) -> None:
    data = {"model": "pump-rul", "time": when, "version": 1, "sha256": "0" * 64}
    with pytest.raises(EvidenceError, match="expected what a pull has seen"):
        LastSeen.from_bytes(canonical_json(data))


def test_many_unknown_keys_are_refused_as_soon_as_one() -> None:
    """The nearest known key was looked for, for each of them: 16,000 took over a minute."""
    with soon(5), pytest.raises(ConfigError, match="unknown key"):
        Contract.from_dict({f"key{number}": 1 for number in range(5_000)})


def test_a_row_longer_than_the_header_is_refused(tmp_path: Path) -> None:
    """Its first cells were taken for an index, which shifted all others; 400,000 of them took three minutes."""
    path = tmp_path / "feed.csv"
    path.write_text("unit,cycle,wear\nx,a,1,0.5\n")
    with pytest.raises(DataError, match="expected rows of 3 cells, got one of 4: x,a,1,0.5"):
        telemetry_reader.read(path)
    path.write_text("unit,cycle\n" + "a," * 400_000 + "1\n")
    with soon(2), pytest.raises(DataError, match="line 2: expected at most 65536 bytes in a line"):
        telemetry_reader.read(path)


def test_a_table_of_many_columns_is_refused(tmp_path: Path) -> None:
    """40,000 took half a minute."""
    path = tmp_path / "feed.csv"
    path.write_text("\n\n" + ",".join(["unit", "cycle", *map(str, range(40_000))]) + "\n")
    with soon(2), pytest.raises(DataError, match="line 3: expected at most 65536 bytes in a line"):
        telemetry_reader.read(path)
    path.write_text("\n\n" + ",".join(["unit", "cycle", *map(str, range(4000))]) + "\n")
    with soon(2), pytest.raises(DataError, match="expected at most 2048 columns"):
        telemetry_reader.read(path)
    path.write_text("unit,cycle,cycle\na,1,2\n")
    with pytest.raises(DataError, match="each name once"):
        telemetry_reader.read(path)


def test_cells_that_are_missing_are_missing_readings(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_bytes(b"\xef\xbb\xbfunit,cycle,wear,heat\n7,1,0.5,x\n\n8,2\n")
    rows = pd.DataFrame(telemetry_reader.read(path))
    assert ["7", "8"] == rows["unit"].tolist()
    assert [1, 2] == rows["cycle"].tolist()
    assert [0.5, None] == [None if pd.isna(value) else value for value in rows["wear"]]
    assert [True, True] == rows["heat"].isna().tolist()


def test_a_broken_table_is_our_error_whichever_byte_is_broken(tmp_path: Path) -> None:
    """pyarrow and pandas answered with OSError, KeyError and TypeError."""
    path = tmp_path / "feed.parquet"
    pd.DataFrame({"unit": ["a"], "cycle": [1]}).to_parquet(path)
    honest = path.read_bytes()
    assert [{"unit": "a", "cycle": 1}] == list(telemetry_reader.read(path))
    refused = 0
    for place in range(0, len(honest), 7):
        path.write_bytes(honest[:place] + bytes([honest[place] ^ 0x41]) + honest[place + 1 :])
        try:
            telemetry_reader.read(path)
        except DataError:
            refused += 1
    assert refused > 20


def test_a_table_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "feed.parquet"
    pd.DataFrame({"unit": ["a"] * 1000, "cycle": [1] * 1000}).to_parquet(path)
    assert 1000 == len(list(telemetry_reader.read(path)))
    monkeypatch.setattr(tables, "OUTSIDE", tables.Bounds(cells=1999))
    monkeypatch.delattr(pq.ParquetFile, "read")  # it is not unpacked to be counted
    with pytest.raises(DataError, match="expected at most 1999 readings, got 1000 rows of 2 columns"):
        telemetry_reader.read(path)


def test_a_holder_whose_name_is_a_list_is_no_holder(parsers: dict[str, Parser]) -> None:
    """A TypeError, from a root that its custodians had signed."""
    root = json.loads(parsers["anchor_said"].documents[0])
    root["x-twinseal"]["roles"]["builder"]["holders"][0]["name"] = ["builder"]
    with pytest.raises(RootError, match="expected holders with one name each"):
        parsers["anchor_said"].check(canonical_json(root))


def test_an_alert_of_the_year_1_in_another_time_zone_is_none(parsers: dict[str, Parser]) -> None:
    """An OverflowError, when the book of alerts was written again."""
    for name in ("last", "since", "time"):
        book = json.loads(parsers["alert_book"].documents[0])
        (book["alerts"][0] if name == "last" else book["alerts"][0]["alert"])[name] = "0001-01-01T00:00:00+05:00"
        with pytest.raises(EvidenceError, match="alerts as they were kept"):
            parsers["alert_book"].check(canonical_json(book))
