from __future__ import annotations

import datetime
import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twinseal.errors import DataError
from twinseal.telemetry import csv_lines, parquet_pages
from twinseal.telemetry.csv_lines import check_csv
from twinseal.telemetry.tables import parquet_names, read_parquet

ROWS = 40_000
MEMORY = 1536 << 20  # for Python, pandas, pyarrow and the table together


def written(table: pa.Table, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream


@pytest.fixture(scope="module")
def honest() -> pa.Table:
    rng = np.random.default_rng(7)
    return pa.table(
        {
            "unit": ["a", "bé"] * (ROWS // 2),
            "cycle": pa.array(np.arange(ROWS), pa.int32()),
            "heat": rng.normal(size=ROWS),
            "gaps": pa.array([None, 1.5] * (ROWS // 2)),
            "flag": [True, False] * (ROWS // 2),
            "small": pa.array(rng.normal(size=ROWS), pa.float32()),
            "large": pa.array(["x"] * ROWS, pa.large_string()),
        }
    )


WAYS = {
    "as pandas writes it": {},
    "zstd": {"compression": "zstd", "version": "2.6"},
    "without dictionaries": {"compression": "gzip", "use_dictionary": False},
    "pages of version 2": {"data_page_version": "2.0", "row_group_size": 999},
    "small pages": {"data_page_size": 1000, "write_batch_size": 100, "compression": "none"},
    "other encodings": {
        "use_dictionary": ["unit"],
        "column_encoding": {"heat": "BYTE_STREAM_SPLIT", "cycle": "DELTA_BINARY_PACKED"},
    },
    "with indexes": {"write_page_index": True, "write_page_checksum": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_honest_table_is_read_as_pyarrow_reads_it(way: str, honest: pa.Table) -> None:
    stream = written(honest, **WAYS[way])
    expected = pq.read_table(io.BytesIO(stream.getvalue())).to_pandas(ignore_metadata=True)
    pd.testing.assert_frame_equal(expected, read_parquet(stream, "t.parquet"), check_dtype=True)
    pd.testing.assert_frame_equal(expected[["heat", "unit"]], read_parquet(stream, "t.parquet", ["heat", "unit"]))
    assert parquet_names(stream, "t.parquet") == honest.column_names


def test_a_table_is_not_in_memory_twice() -> None:
    rows = 300_000
    columns = {f"c{at}": np.random.default_rng(at).normal(size=rows).astype(np.float32) for at in range(20)}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, row_group_size=rows // 3)
    of_arrow = """
import io, sys
import pyarrow as pa
from twinseal.telemetry.tables import read_parquet
table = read_parquet(io.BytesIO(sys.stdin.buffer.read()), "a.parquet")
print(pa.default_memory_pool().max_memory() / table.memory_usage(index=False).sum())
"""
    done = subprocess.run([sys.executable, "-c", of_arrow], input=stream.getvalue(), capture_output=True, check=True)
    assert float(done.stdout) < 1.4  # the table, and one column more


def test_text_that_is_stored_as_a_dictionary_is_text() -> None:
    table = pa.table({"unit": pa.array(["x", None, "x"]).dictionary_encode()})
    assert read_parquet(written(table), "t")["unit"].tolist()[::2] == ["x", "x"]
    assert read_parquet(written(table.slice(0, 0)), "t").empty


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("list", [1.0]), ("struct", {"a": 1}), ("bytes", b"x"), ("map", None),
    ],
)  # fmt: skip
def test_other_types_are_refused_by_name(kind: str, value: object) -> None:
    array = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())) if kind == "map" else pa.array([value])
    with pytest.raises(DataError, match=r"heat: expected a column of numbers, times or text, got "):
        read_parquet(written(pa.table({"heat": array})), "t")
    table = pa.table({"heat": array, "unit": ["a"]})
    assert read_parquet(written(table), "t", ["unit"])["unit"].tolist() == ["a"], "a column that is not read may be any"


def test_moments_keep_their_type() -> None:
    table = pa.table(
        {"time": pa.array([pd.Timestamp("2026-01-01", tz="UTC"), None]), "day": [datetime.date(2026, 1, 1)] * 2}
    )
    frame = read_parquet(written(table), "t")
    assert "2026-01-01 00:00:00+00:00" == str(frame["time"].iloc[0])
    assert [False, True] == frame["time"].isna().tolist()
    assert ["2026-01-01"] * 2 == frame["day"].astype(str).tolist()


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 4, b"x" * 100, b"PAR1" + b"\xff" * 8 + b"\x08\0\0\0PAR1"])
def test_what_is_no_parquet_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="t: expected Parquet"):
        read_parquet(io.BytesIO(data), "t")


def test_a_file_that_is_cut_or_changed_anywhere_is_read_or_refused(honest: pa.Table) -> None:
    data = written(honest.slice(0, 50), compression="none").getvalue()
    rng = np.random.default_rng(3)
    for at in rng.integers(0, len(data), 400):
        for changed in (data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], data[:at]):
            try:
                read_parquet(io.BytesIO(changed), "t")
            except DataError:
                continue


def _keys(rows: int) -> dict[str, pa.Array]:
    return {"cycle": pa.array(np.ones(rows, np.int32)), "heat": pa.array(np.ones(rows))}


def _repeated_text(path: Path) -> None:
    indices = pa.array(np.zeros(400_000, np.int32))
    text = pa.DictionaryArray.from_arrays(indices, ["u" * 20_000])
    pq.write_table(pa.table(_keys(400_000) | {"unit": text}), path, compression="zstd")


def _many_rows(path: Path) -> None:
    """Run lengths: eight columns of twenty million equal numbers."""
    ones = pa.array(np.zeros(20_000_000, np.int32))
    pq.write_table(pa.table({f"c{n}": ones for n in range(8)}), path, compression="zstd", row_group_size=1 << 30)


def _zero_pages(path: Path) -> None:
    """A page of half a gigabyte of zeros, as text, which compresses to nothing."""
    text = pa.array(["\0" * (520 << 20)], pa.large_string())
    table = pa.table({"unit": text, "cycle": [1], "heat": [1.0]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)


def _list_column(path: Path) -> None:
    values = pa.array(np.zeros(50_000_000, np.int8))
    rows = pa.ListArray.from_arrays(pa.array([0, 50_000_000], pa.int32()), values)
    pq.write_table(pa.table({"unit": ["a"], "cycle": [1], "heat": rows}), path, compression="zstd")


def _prefixes(path: Path) -> None:
    """DELTA_BYTE_ARRAY: each row repeats all of the row before it, in a few bits."""
    table = pa.table(_keys(20_000) | {"unit": pa.array(["u" * 40_000] * 20_000)})
    pq.write_table(table, path, use_dictionary=False, column_encoding={"unit": "DELTA_BYTE_ARRAY"}, compression="zstd")


def _many_columns(path: Path) -> None:
    pq.write_table(pa.table({f"c{n}": [1.0] for n in range(5000)}), path)


def _long_footer(path: Path) -> None:
    table = pa.table({"unit": ["a"], "cycle": [1]}).replace_schema_metadata({"k": "v" * (2 << 20)})
    pq.write_table(table, path)


def _false_page_size(path: Path) -> None:
    """The footer is honest, and the header of a page claims two gigabytes."""
    pq.write_table(pa.table({"unit": ["a"], "cycle": [1], "heat": [1.0]}), path, use_dictionary=False)
    data = path.read_bytes()
    at = pq.read_metadata(path).row_group(0).column(2).data_page_offset
    assert data[at : at + 3] == b"\x15\x00\x15"
    # The new page goes to the end of the column's own bytes: everything after it moves, so the footer is kept in place.
    head = b"\x15\x00\x15" + b"\xfe\xff\xff\xff\x0f"
    path.write_bytes(data[:at] + head + data[at + len(head) :])


PARQUET: dict[str, Callable[[Path], None]] = {
    "repeated text": _repeated_text,
    "many rows": _many_rows,
    "zero pages": _zero_pages,
    "list column": _list_column,
    "prefixes": _prefixes,
    "many columns": _many_columns,
    "long footer": _long_footer,
    "false page size": _false_page_size,
}

READ = """
import resource, sys
from pathlib import Path
from twinseal.errors import TwinsealError
from twinseal.sources.table import TableParams
from twinseal.telemetry.mapped_rows import read_file
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet
from twinseal.twin import telemetry_reader
path, most = Path(sys.argv[1]), int(sys.argv[2])
contract = Contract.load(Path("policy/contract.yaml"), "pump")
mapping = TableParams(unit="unit", cycle="cycle", settings={n: n for n in contract.settings},
                      sensors={n: n for n in contract.sensors}, ends_in_failure=True)
mapping = mapping.model_copy(update={"settings": {}, "sensors": {"heat": "heat"}})
resource.setrlimit(resource.RLIMIT_AS, (most, most))
readers = {
    "ingest": lambda: read_file(path.read_bytes(), path.name, mapping),
    "validate": lambda: Fleet.read(path, contract),
    "twin": lambda: telemetry_reader.read(path),
}
for how in sys.argv[3:]:
    try:
        readers[how]()
        print("read", how)
    except TwinsealError as error:
        print("refused", error)
"""


def refused_in_little_memory(path: Path, readers: tuple[str, ...]) -> None:
    """Each reader refuses the file, in a process that cannot have more memory, with an error of ours."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    words = [sys.executable, "-c", READ, str(path), str(MEMORY), *readers]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=os.environ | one)
    said = [line.split(" ", 1)[0] for line in done.stdout.splitlines()]
    assert (done.returncode, said) == (0, ["refused"] * len(readers)), done.stdout[-1000:] + done.stderr[-1000:]


@pytest.mark.attack("P")
@pytest.mark.parametrize("name", PARQUET)
def test_a_small_parquet_that_stands_for_gigabytes(name: str, tmp_path: Path) -> None:
    """A Parquet file of a few kilobytes stands for gigabytes: by repeated text, zeros, lists, rows, or a false size."""
    PARQUET[name](tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 6 << 20
    refused_in_little_memory(tmp_path / "bomb.parquet", ("ingest", "validate", "twin"))


def _one_line(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b"unit,cycle,heat\na,1,")
        stream.truncate(2 << 30)  # a hole: two gigabytes of zeros that take no disk


def _open_quote(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b'unit,cycle,heat\n"a')
        for _ in range(2):
            stream.write(b"\n" * 1_000_000)


def _wide_rows(path: Path) -> None:
    path.write_bytes(b"unit,cycle,heat" + b"," * 3000 + b"\n")


def _padded_rows(path: Path) -> None:
    """Two bytes a row, and two thousand columns."""
    names = ["unit", "cycle", "heat", *(f"c{n}" for n in range(1500))]
    path.write_bytes(",".join(names).encode() + b"\n" + b"1\n" * 2_000_000)


@pytest.mark.attack("P")
@pytest.mark.parametrize("make", [_one_line, _open_quote, _wide_rows, _padded_rows], ids=lambda make: make.__name__[1:])
def test_a_csv_that_takes_gigabytes(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A CSV file is one line of gigabytes, one open quote, or rows of two bytes under thousands of columns."""
    make(tmp_path / "bomb.csv")
    refused_in_little_memory(
        tmp_path / "bomb.csv", ("twin",) if make in (_one_line, _padded_rows) else ("ingest", "twin")
    )


def test_an_honest_csv_may_have_quotes_and_lines_in_a_cell() -> None:
    check_csv(io.BytesIO(b'unit,"the ""heat"", in\n K"\n"a, b",1\n'), "t.csv")
    check_csv(io.BytesIO(b""), "t.csv")
    with pytest.raises(DataError, match="expected at most 2048 cells in a line"):
        check_csv(io.BytesIO(b"1 " * 1500 + b"1\t" * 1500), "t.txt", separators=b" \t")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"a" * 70_000, "line 1: expected at most 65536 bytes in a line"),
        (b"a\n" + b"1" * 70_000, "line 2: expected at most 65536 bytes in a line"),
        (b"," * 2048, "expected at most 2048 cells in a line"),
        (b'"' + b"\n" * 1001, "expected a record on at most 1000 lines"),
        (b'"a"b\n', "expected CSV, got something else"),
        (b'"' + (b"x" * 60_000 + b"\n") * 3, "field larger than field limit"),
    ],
)
def test_a_csv_that_no_telemetry_is_like(data: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        check_csv(io.BytesIO(data), "t.csv")


def test_cells_and_bytes_are_counted_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_lines, "MAX_CELLS", 10)
    check_csv(io.BytesIO(b"a,b\n" * 5), "t.csv")
    with pytest.raises(DataError, match="10 in all"):
        check_csv(io.BytesIO(b"a,b\n" * 6), "t.csv")
    monkeypatch.setattr(csv_lines, "MAX_FILE_BYTES", 8)
    with pytest.raises(DataError, match="expected at most 8 bytes"):
        check_csv(io.BytesIO(b"a,b\n" * 3), "t.csv")


@pytest.mark.parametrize(
    "header",
    [
        b"\x15\x00\x15\x04\x15\x04\x15\x04",  # no end
        b"\x15\x00\x15\x04\x05\x02\x04\x00",  # a field twice, by its long number
        b"\x15\x00\x16\x04\x15\x04\x00",  # a size as a 64-bit number
        b"\x15\x00\x15" + b"\xff" * 11 + b"\x00",
        b"\x15\x00\x15\x03\x15\x04\x00",  # a size below 0
        b"\x15\x00\x15\x04\x15\x04\x1b\x00\x00",  # a map
        b"\x1c" * 40,  # nested without end
        b"\x15\x00\x15\x04\x15\x04\x19\xfc\xff\xff\xff\x0f",  # a list of a million
    ],
)
def test_a_header_of_a_page_that_readers_could_read_differently_is_refused(header: bytes) -> None:
    class Column:
        data_page_offset, dictionary_page_offset, has_dictionary_page = 0, 0, False
        total_compressed_size, num_values = 1000, 3

    with pytest.raises(ValueError, match="page|value"):
        parquet_pages.decoded_bytes(io.BytesIO(header), Column(), 1 << 20)


def test_the_limit_of_memory_does_bite() -> None:
    """Else the tests of bombs could not fail."""
    program = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY})); bytearray(2 << 30)"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "MemoryError" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != MEMORY
