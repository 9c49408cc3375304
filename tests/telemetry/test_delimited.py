from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.errors import DataError
from twinseal.telemetry.delimited import Delimited, read_delimited, read_header
from twinseal.telemetry.forms import MISSING, Form

COMMAS = Form()


def read(data: bytes, form: Form = COMMAS) -> Delimited:
    return read_delimited(data, "a.csv", form, ["u", "x"], {"x"})


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"u,x\nA,1.5\nB,-2\n", COMMAS),
        (b"\xef\xbb\xbfu,x\r\nA,1.5\r\nB,-2\r\n", COMMAS),
        (b"u,x\rA,1.5\rB,-2\r", COMMAS),
        (b"\n\n u , x \nA, 1.5 \n\n\nB,-2", COMMAS),
        (b"x;other;u\n1,5;;A\n-2;x;B\n", Form(";", ",")),
        (b'"u"|"x"\n"A"|"1.5"\n"B"|-2.0e0\n', Form("|")),
        ("u\tx\tÖl °C\nA\t1.5\t\nB\t-2\t\n".encode("cp1252"), Form("\t", encoding="cp1252")),
        ("u,x\nA,1.5\nB,-2\n".encode("utf-16"), Form(encoding="utf-16")),
        (b"u,x\nA,+1.50\nB,-2.\n", COMMAS),
    ],
)
def test_the_same_table_however_it_is_written(data: bytes, form: Form) -> None:
    found = read(data, form)
    assert (["A", "B"], [1.5, -2.0], ()) == (found.frame["u"].tolist(), found.frame["x"].tolist(), found.faults)


NO_NUMBERS = [f"line {line}, x: expected a number, got '%s'" for line in (2, 3)]


@pytest.mark.parametrize(
    ("data", "form", "faults"),
    [
        (b"u,x\nA,1,5\nB,2\n", COMMAS, ["line 2: expected 2 cells, as in the header, got '3: A,1,5'"]),
        (b"u,x\nA\n\nB,2\n", COMMAS, ["line 2: expected 2 cells, as in the header, got '1: A'"]),
        (b"u,x\n\n\nA,1\n\nB,Bad\n", COMMAS, ["line 6, x: expected a number, got 'Bad'"]),
        (b'u,x\n"A\nB",1\nB,1 kW\n', COMMAS, ["line 4, x: expected a number, got '1 kW'"]),
        (b"u,x\nA,1e999\nB,inf\n", COMMAS, [NO_NUMBERS[0] % "1e999", NO_NUMBERS[1] % "inf"]),
        (b"u;x\nA;1.5\nB;1.234,5\n", Form(";", ","), [NO_NUMBERS[0] % "1.5", NO_NUMBERS[1] % "1.234,5"]),
        (b"u,x\nA,1_0\nB,0x10\n", COMMAS, [NO_NUMBERS[0] % "1_0", NO_NUMBERS[1] % "0x10"]),
        ("u,x\nA,\uff11\nB,1\x00\n".encode(), COMMAS, [NO_NUMBERS[0] % "\uff11", NO_NUMBERS[1] % "1\\x00"]),
        (b"u,x\nA,True\nB," + b"9" * 100, COMMAS, [NO_NUMBERS[0] % "True"]),
        (
            b"u,x\nA,1\nB,2,\nC,2020-01-01\n",
            COMMAS,
            [
                "line 3: expected 2 cells, as in the header, got '3: B,2,'",
                "line 4, x: expected a number, got '2020-01-01'",
            ],
        ),
    ],
)
def test_what_is_wrong_is_named(data: bytes, form: Form, faults: list[str]) -> None:
    assert faults == [str(fault) for fault in read(data, form).faults]


@pytest.mark.parametrize(
    ("data", "form", "why"),
    [
        (b"", COMMAS, "a.csv: expected a table, got nothing"),
        (b"\n \n", COMMAS, "a.csv: expected a table, got nothing"),
        (b"u,x\nA,1\n\xd6l,2\n", COMMAS, "a.csv, line 3: expected text in utf-8"),
        (b"u,x\nA,1\n", Form(encoding="utf-16"), "expected text in utf-16"),
        (b'u,x\n"A,1\nB,2\n', COMMAS, "a.csv: expected CSV, got something else"),
        (b'"u,x\nA,1\n', COMMAS, "expected"),
        (b"u,x\nA," + b"1" * 70_000, COMMAS, "at most 65536 bytes in a line"),
        (b"u,x" + b",y" * 3000, COMMAS, "at most 2048 cells"),
    ],
)
def test_what_is_no_table_is_refused(data: bytes, form: Form, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read(data, form)


@pytest.mark.parametrize("word", [*MISSING, "Bad", " ", "  NaN "])
def test_words_for_no_value_are_missing_readings_and_no_faults(word: str) -> None:
    found = read(f"u,x\nA,{word}\n{word or 'B'},1\n".encode(), Form(missing=("Bad",)))
    assert ([True, False], ()) == (np.isnan(found.frame["x"]).tolist(), found.faults)
    assert (word or "B") == found.frame["u"].iloc[1]  # a name is a name


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"separator": ""}, "separator: expected one character"),
        ({"separator": ";;"}, "separator: expected one character"),
        ({"separator": "."}, "separator: expected one character"),
        ({"separator": "e"}, "separator: expected one character"),
        ({"separator": '"'}, "separator: expected one character"),
        ({"decimal": "'"}, "decimal: expected"),
        ({"decimal": ","}, "decimal: expected another sign"),
        ({"encoding": "rot13"}, "encoding: expected one such as"),
        ({"encoding": "nonsense"}, "encoding: expected one such as"),
        ({"encoding": "base64"}, "encoding: expected one such as"),
        ({"missing": ("x" * 65,)}, "missing: expected at most"),
    ],
)
def test_a_form_that_means_nothing_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Form(**wrong)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20), st.sampled_from([",", ";", "\t", "|"]))
def test_numbers_come_back_as_they_were_written(values: list[float], separator: str) -> None:
    decimal = "." if separator == "," else ","
    rows = "".join(f"A{separator}{str(value).replace('.', decimal)}\n" for value in values)
    found = read(f"u{separator}x\n{rows}".encode(), Form(separator, decimal))
    assert (values, ()) == (found.frame["x"].tolist(), found.faults)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_are_refused(junk: bytes) -> None:
    for data in (junk, b"u,x\n" + junk, b"u,x\nA,1\n" + junk):
        try:
            found = read(data)
        except (DataError, KeyError):
            continue
        assert len(found.frame) <= data.count(b"\n") + data.count(b"\r") + 1
        for fault in found.faults:
            assert 1 <= fault.line <= data.count(b"\n") + data.count(b"\r") + 1


def test_names_of_the_header_are_without_spaces_at_their_ends() -> None:
    assert ["u", "Öl °C", ""] == read_header("\n u ,Öl °C\u00a0,\n1,2,3\n".encode(), "a.csv", COMMAS)
