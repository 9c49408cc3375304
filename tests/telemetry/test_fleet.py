from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.telemetry.conftest import oven_table
from twinseal.digests import sha256_file
from twinseal.errors import DataError
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet


@pytest.fixture
def ovens() -> Fleet:
    return Fleet.of(oven_table({"b": 4, "a": 3, "c": 5}, censored=("c",)))


def test_rows_are_sorted_typed_and_units_found(ovens: Fleet) -> None:
    assert ("a", "b", "c") == ovens.units
    assert [3, 4, 5] == ovens.lengths.tolist()
    assert [0, 3, 7] == ovens.starts.tolist()
    assert ("load", "heat", "glow") == ovens.channels
    assert ["str", "int32", "bool", "float32", "float32", "float32", "float32"] == [
        str(kind) for kind in ovens.table.dtypes
    ]


def test_a_trajectory_is_the_rows_of_one_unit(ovens: Fleet) -> None:
    last = list(ovens.trajectories())[-1]
    assert ("c", 5, True) == (last.unit, len(last), last.censored)
    assert [1, 2, 3, 4, 5] == last.cycles.tolist()
    assert [9, 8, 7, 6, 5] == last.rul_cycles.tolist()
    assert [[315.0, 305.0]] == last.rows(["glow", "heat"])[-1:].tolist()
    assert np.float32 == last.rows(["heat"]).dtype
    assert last.frame.equals(ovens.trajectory("c").frame)
    with pytest.raises(KeyError, match="nobody"):
        ovens.trajectory("nobody")


def test_select_and_without_part_the_fleet(ovens: Fleet) -> None:
    assert ("a", "c") == ovens.select(["c", "a", "nobody"]).units
    assert ("b",) == ovens.without(["a", "c"]).units
    assert (0, ()) == (len(ovens.without(ovens.units)), ovens.without(ovens.units).units)


@settings(deadline=None, max_examples=40)  # a busy machine is no bug
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(width=32)), min_size=0, max_size=12),
)
def test_law_read_of_write_is_the_fleet_and_its_bytes_are_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, float]]
) -> None:
    contract = _one_channel()
    table = pd.DataFrame(rows, columns=["unit", "cycle", "heat"]).assign(censored=False, rul=np.nan)
    fleet = Fleet.of(table.astype({"unit": "str"}))
    folder = tmp_path_factory.mktemp("fleet")
    fleet.write(folder / "one.parquet")
    again = Fleet.read(folder / "one.parquet", contract)
    again.write(folder / "two.parquet")
    pd.testing.assert_frame_equal(fleet.table, again.table)
    assert sha256_file(folder / "one.parquet") == sha256_file(folder / "two.parquet")


def test_the_bytes_hold_no_versions_of_libraries_beyond_the_writer(tmp_path: Path, ovens: Fleet) -> None:
    ovens.write(tmp_path / "f.parquet")
    assert None is pq.read_schema(tmp_path / "f.parquet").metadata


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cycle": [1, 2.5, 3]}, "not a whole number"),
        ({"cycle": [1, 2, 2**32 + 3]}, "not a whole number"),
        ({"cycle": [1, None, 3]}, "cycle: expected int32"),
        ({"cycle": ["1", "two", "3"]}, "cycle: expected int32"),
        ({"unit": ["a", None, "a"]}, "unit: expected str"),
        ({"unit": ["a", "", "a"]}, "1 to 64 printable"),
        ({"unit": ["a", "a\n\x1b[2J", "a"]}, "1 to 64 printable"),
        ({"unit": ["a", "a" * 65, "a"]}, "1 to 64 printable"),
        ({"censored": [True, None, True]}, "censored: expected bool"),
        ({"heat": ["warm", 1.0, 2.0]}, "heat: expected float32"),
    ],
)
def test_a_value_that_cannot_be_what_its_column_holds_is_refused(change: dict[str, Any], complaint: str) -> None:
    good = {"unit": ["a", "a", "a"], "cycle": [1, 2, 3], "censored": False, "rul": [2.0, 1.0, 0.0], "heat": 1.0}
    assert 3 == len(Fleet.of(good))
    with pytest.raises(DataError, match=complaint):
        Fleet.of(good | change)


def test_a_value_beyond_float32_becomes_an_infinity_for_validation_to_find() -> None:
    fleet = Fleet.of({"unit": ["a"], "cycle": [1], "censored": False, "rul": 0.0, "heat": [1e300]})
    assert [np.inf] == fleet.table["heat"].tolist()


@pytest.mark.parametrize("missing", ["unit", "cycle", "censored", "rul"])
def test_a_key_column_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(DataError, match=f"expected columns {missing}"):
        Fleet.of(oven_table({"a": 3}).drop(columns=missing))


def test_rows_out_of_order_or_of_another_type_are_no_fleet(ovens: Fleet) -> None:
    with pytest.raises(DataError, match="sorted by unit and cycle"):
        Fleet(ovens.table.iloc[::-1].reset_index(drop=True))
    with pytest.raises(DataError, match="heat: expected float32, got float64"):
        Fleet(ovens.table.astype({"heat": "float64"}))
    with pytest.raises(DataError, match="rows numbered from 0"):
        Fleet(ovens.table.iloc[1:])
    with pytest.raises(DataError, match="and then channels"):
        Fleet(ovens.table[["unit", "cycle", "censored", "rul"]])


def test_a_file_of_another_asset_or_of_no_kind_is_refused(tmp_path: Path, ovens: Fleet, pump: Contract) -> None:
    path = tmp_path / "f.parquet"
    ovens.write(path)
    with pytest.raises(DataError, match="the columns of the contract for 'pump'"):
        Fleet.read(path, pump)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="expected Parquet"):
        Fleet.read(path, pump)
    path.write_bytes(b"unit,cycle\na,1\n")
    with pytest.raises(DataError, match="expected Parquet"):
        Fleet.read(path, pump)
    with pytest.raises(FileNotFoundError):
        Fleet.read(tmp_path / "absent.parquet", pump)


def test_a_folder_called_like_a_column_adds_no_column(tmp_path: Path, ovens: Fleet, oven: Contract) -> None:
    """Parquet readers take `heat=1/` in a path for a column."""
    path = tmp_path / "heat=1" / "f.parquet"
    ovens.write(path)
    assert oven.columns == tuple(Fleet.read(path, oven).table.columns)


def test_parquet_of_the_right_names_and_wrong_types_is_refused(tmp_path: Path, ovens: Fleet, oven: Contract) -> None:
    pq.write_table(pa.Table.from_pandas(ovens.table.astype({"heat": "float64"})), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="heat: expected float32"):
        Fleet.read(tmp_path / "f.parquet", oven)


def _one_channel() -> Contract:
    heat = {"unit": "K", "minimum": 0.0, "maximum": 1.0, "max_change_per_cycle": 1.0}
    return Contract.from_dict(
        {
            "asset": "oven",
            "model": "oven-rul",
            "description": "",
            "cycle": "a batch",
            "rul_cap_cycles": 9.0,
            "min_cycles": 2,
            "max_quarantined_share": 0.0,
            "settings": {},
            "sensors": {"heat": heat},
        }
    )
