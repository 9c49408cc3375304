"""A mapping is bounded in all it has: a hostile one that is signed neither hangs a twin nor runs a program."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.telemetry.forms import Form
from twinseal.telemetry.mapping import MAX_NAME, MAX_PATTERN, MAX_PATTERNS, MAX_WILD, ColumnMapping
from twinseal.telemetry.plant_files import files_below
from twinseal.telemetry.time_params import TimeParams
from twinseal.telemetry.time_stamps import read_stamps

PLAIN: dict[str, Any] = {"unit": "T", "cycle": "n", "settings": {}, "sensors": {"a": "oil"}}
TIME = {"unit": "T", "settings": {}, "sensors": {"a": "oil"}}


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    "encoding",
    [
        *("bz2", "zlib", "rot13", "hex", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf-7"),
        *("undefined", "charmap", "../utf-8", "utf-8" + " " * 100, ""),
    ],
)
def test_a_mapping_names_a_codec_that_is_no_encoding_of_a_file(encoding: str) -> None:
    """A mapping names a codec that unpacks, computes or interprets escapes in place of an encoding."""
    with pytest.raises(ConfigError, match="encoding: expected one such as utf-8"):
        parse(ColumnMapping, PLAIN | {"encoding": encoding}, "record")


@pytest.mark.parametrize(
    "encoding",
    [
        *("utf-8", "UTF8", "utf-8-sig", "utf-16", "utf_16_le", "ascii", "latin-1", "ISO-8859-15", "cp1252"),
        *("windows-1251", "cp850", "shift-jis", "gbk", "gb18030", "big5", "euc-kr", "koi8-r", "macintosh"),
    ],
)
def test_encodings_of_files_stay_allowed(encoding: str) -> None:
    assert encoding == Form(encoding=encoding).encoding


@pytest.mark.attack(6)
def test_a_pattern_walks_a_folder_again_and_again(tmp_path: Path) -> None:
    """A pattern with ** many times takes longer than the age of the world on a folder that is a few levels deep."""
    deep = tmp_path.joinpath(*["d"] * 18)
    deep.mkdir(parents=True)
    (deep / "a.csv").write_text("x")
    with pytest.raises(ConfigError, match=r"files: expected patterns of at most 300 letters with \*\* once"):
        parse(ColumnMapping, PLAIN | {"files": ["**/" * 9 + "*.csv"]}, "record")
    started = time.monotonic()
    mapping = parse(ColumnMapping, PLAIN | {"files": ["**/*.csv", "*a" * 100 + "*.csv", "d/**/?.csv"][::2]}, "record")
    assert files_below(tmp_path, mapping.files) == ("/".join(["d"] * 18) + "/a.csv",)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "given",
    [
        {"files": ["a" * (MAX_PATTERN + 1)]},
        {"files": ["a.csv"] * (MAX_PATTERNS + 1)},
        {"files": ["**/*.csv"] * (MAX_WILD + 1)},
        {"unit": "", "unit_in_name": "{unit}" + "a" * MAX_PATTERN},
        {"unit": "u" * (MAX_NAME + 1)},
        {"sensors": {"a" * (MAX_NAME + 1): "oil"}},
        {"categories": {"a": {"w" * (MAX_NAME + 1): 1}}},
        {"sensors": {f"c{at}": f"s{at}" for at in range(3000)}},
        {"sums": ["oil"] * 3000},
    ],
    ids=["pattern", "patterns", "wild", "unit_in_name", "unit", "column", "word", "columns", "sums"],
)
def test_what_is_too_long_or_too_many_is_refused(given: dict[str, Any]) -> None:
    assert parse(ColumnMapping, PLAIN, "record")
    with pytest.raises(ConfigError, match="record: .*expected .*at most"):
        parse(ColumnMapping, PLAIN | given, "record")


@pytest.mark.parametrize("name", ["a" * 50, "(a+)+$", "[", "a{unit}(.*)*b"])
def test_the_name_of_a_file_is_no_regular_expression(name: str) -> None:
    pattern = name if "{unit}" in name else f"{name}{{unit}}"
    mapping = parse(ColumnMapping, PLAIN | {"unit": "", "unit_in_name": pattern}, "record")
    assert mapping.unit_of(pattern.replace("{unit}", "T 1")) == "T 1"
    assert mapping.unit_of("a" * 10_000) is None or name == "a" * 50


@pytest.mark.parametrize("form", ["mixed", "ISO8601", "day", "%d" + " " * 200, "%Y-%m-%d %Z"])
def test_a_format_that_would_guess_is_refused(form: str) -> None:
    with pytest.raises(ConfigError, match="format: expected"):
        parse(ColumnMapping, TIME | {"time": {"column": "t", "format": form}}, "record")


@pytest.mark.parametrize("cycle", ["36526d", "999999d", "999999h"])
def test_a_cycle_that_no_clock_can_count_is_refused(cycle: str) -> None:
    with pytest.raises(ConfigError, match="cycle: expected a length of at most a century"):
        parse(ColumnMapping, TIME | {"time": {"column": "t", "cycle": cycle}}, "record")
    assert TimeParams(column="t", cycle="36525d").seconds == 36_525 * 86_400


def test_a_long_cell_is_no_time_and_that_is_found_out_at_once() -> None:
    started = time.monotonic()
    stamps, _ = read_stamps(pd.Series(["T0000" * 12_000, "2026-01-31T06:00:00+01:00"]), TimeParams(column="t"))
    assert time.monotonic() - started < 2
    assert [True, False] == stamps.isna().tolist()
