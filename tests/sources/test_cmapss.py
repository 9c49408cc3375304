from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DataError
from twinseal.sources.cmapss import CHANNELS, MAX_FILE_BYTES, Cmapss, CmapssParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

FILES = ("train_FD001.txt", "test_FD001.txt", "RUL_FD001.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two train and two test engines in NASA's form."""
    write(tmp_path / FILES[0], {1: 4, 2: 3})
    write(tmp_path / FILES[1], {1: 2, 2: 3})
    (tmp_path / FILES[2]).write_text("7 \n9 \n")
    return tmp_path


def write(path: Path, lives: dict[int, int]) -> None:
    sensors = " ".join(f"{100 + n}.5" for n in range(24))
    lines = [f"{engine} {cycle} {sensors}  " for engine, life in lives.items() for cycle in range(1, life + 1)]
    path.write_text("\n".join(lines) + "\n")


def test_labels_count_down_to_the_failure_or_to_nasas_answer(folder: Path, turbofan: Contract) -> None:
    fleet = Cmapss.open(folder, CmapssParams(), turbofan).read()
    labels = {t.unit: (t.censored, t.rul_cycles.tolist()) for t in fleet.trajectories()}
    expected = {
        "test-001": (True, [8, 7]),
        "test-002": (True, [11, 10, 9]),
        "train-001": (False, [3, 2, 1, 0]),
        "train-002": (False, [2, 1, 0]),
    }
    assert expected == labels
    assert [100.5, 101.5, 102.5, 103.5] == fleet.table.loc[0, ["setting1", "setting2", "setting3", "s1"]].tolist()


def test_max_units_takes_the_first_of_each_kind(folder: Path, turbofan: Contract) -> None:
    write(folder / FILES[0], {1: 4, 2: 3, 3: 3})
    fleet = Cmapss.open(folder, CmapssParams(max_units=2), turbofan).read()
    assert ("test-001", "test-002", "train-001", "train-002") == fleet.units


def test_origin_is_the_digest_of_each_file(folder: Path, turbofan: Contract) -> None:
    origin = Cmapss.open(folder, CmapssParams(), turbofan).origin()
    assert {name: sha256_file(folder / name) for name in FILES} == {item.name: item.sha256 for item in origin}


@pytest.mark.parametrize("nesting", [0, 1, 2])
def test_nasas_zip_gives_what_its_folder_gives(folder: Path, turbofan: Contract, nesting: int) -> None:
    data = zipped({f"data/{name}": (folder / name).read_bytes() for name in FILES})
    for _ in range(nesting):
        data = zipped({"6. Turbofan/CMAPSSData.zip": data, "readme.pdf": b"%PDF"})
    (folder / "nasa.zip").write_bytes(data)
    from_zip = Cmapss.open(folder / "nasa.zip", CmapssParams(), turbofan)
    from_folder = Cmapss.open(folder, CmapssParams(), turbofan)
    pd.testing.assert_frame_equal(from_folder.read().table, from_zip.read().table)
    assert from_folder.origin() == from_zip.origin()


def test_zips_nested_deeper_than_nasas_are_not_followed(folder: Path, turbofan: Contract) -> None:
    data = zipped({name: (folder / name).read_bytes() for name in FILES})
    for _ in range(3):
        data = zipped({"inner.zip": data})
    (folder / "deep.zip").write_bytes(data)
    with pytest.raises(ConfigError, match="found no train_FD001.txt"):
        Cmapss.open(folder / "deep.zip", CmapssParams(), turbofan)


def test_a_zip_with_a_file_twice_is_refused(folder: Path, turbofan: Contract) -> None:
    data = zipped({"a/train_FD001.txt": b"1", "b/train_FD001.txt": b"2"})
    (folder / "twice.zip").write_bytes(data)
    with pytest.raises(DataError, match="expected one train_FD001.txt, got two"):
        Cmapss.open(folder / "twice.zip", CmapssParams(), turbofan)


def test_a_zip_bomb_is_refused_after_as_many_bytes_as_are_allowed(folder: Path, turbofan: Contract) -> None:
    (folder / "bomb.zip").write_bytes(zipped({"train_FD001.txt": bytes(MAX_FILE_BYTES + 2)}))
    with pytest.raises(DataError, match="expected at most"):
        Cmapss.open(folder / "bomb.zip", CmapssParams(), turbofan)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + bytes(40)])
def test_a_broken_zip_is_refused(folder: Path, turbofan: Contract, data: bytes) -> None:
    (folder / "broken.zip").write_bytes(data)
    with pytest.raises(DataError, match="expected a zip"):
        Cmapss.open(folder / "broken.zip", CmapssParams(), turbofan)


def test_nothing_there_says_where_to_get_it(tmp_path: Path, turbofan: Contract) -> None:
    with pytest.raises(ConfigError, match="got nothing") as caught:
        Cmapss.open(tmp_path / "absent", CmapssParams(), turbofan)
    assert "NASA's Prognostics Data Repository" in caught.value.remedy
    with pytest.raises(ConfigError, match="found no train_FD001.txt, test_FD001.txt, RUL_FD001.txt"):
        Cmapss.open(tmp_path, CmapssParams(), turbofan)


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        (FILES[0], "1 2 100.5 101.5", "1 2 100.5", "line 2"),  # one number short: no missing value in silence
        (FILES[0], "1 1 100.5", "1 1 1 100.5", "expected 26 numbers"),
        (FILES[0], "100.5", "ten", "expected 26 numbers"),
        (FILES[0], "1 2 100.5", "1 2 nan", "line 2"),
        (FILES[0], "1 2 100.5", "1 2 inf", "line 2"),
        (FILES[0], "1 1 ", "2 1 ", "engines 1, 2, 3"),
        (FILES[0], "2 3 ", "4 3 ", "engines 1, 2, 3"),
        (FILES[0], "1 2 ", "1.5 2 ", "engines 1, 2, 3"),
        (FILES[2], "9 \n", "", "of 2 engines, got 1"),
        (FILES[2], "9 \n", "9 \n11 \n", "of 2 engines, got 3"),
        (FILES[2], "9 \n", "-9 \n", "remaining cycles"),
    ],
)
def test_a_file_that_is_not_nasas_form_is_refused(
    folder: Path, turbofan: Contract, name: str, old: str, new: str, complaint: str
) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=complaint) as refusal:
        Cmapss.open(folder, CmapssParams(), turbofan).read()
    assert "set data.path to the zip" in refusal.value.remedy


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfe1 1"])
def test_an_empty_or_binary_file_is_refused(folder: Path, turbofan: Contract, data: bytes) -> None:
    (folder / FILES[0]).write_bytes(data)
    with pytest.raises(DataError, match="train_FD001.txt"):
        Cmapss.open(folder, CmapssParams(), turbofan).read()


def test_a_contract_for_pumps_is_none_for_engines(folder: Path, pump: Contract) -> None:
    with pytest.raises(ConfigError, match="got 'pump'"):
        Cmapss.open(folder, CmapssParams(), pump).read()


def test_fd001_is_what_nasas_readme_says(cmapss_folder: Path, turbofan: Contract) -> None:
    fleet = Cmapss.open(cmapss_folder, CmapssParams(), turbofan).read()
    kinds = pd.Series([t.unit.split("-")[0] for t in fleet.trajectories() if t.censored == t.unit.startswith("test")])
    assert {"train": 100, "test": 100} == kinds.value_counts().to_dict()
    assert (20_631 + 13_096, CHANNELS) == (len(fleet), fleet.channels)
    assert (112, 98) == tuple(fleet.trajectory(f"test-00{n}").rul_cycles[-1] for n in (1, 2))


def test_the_bytes_of_a_subset_are_one(engines: Fleet, tmp_path: Path) -> None:
    engines.write(tmp_path / "a.parquet")
    Fleet(engines.table.copy()).write(tmp_path / "b.parquet")
    assert sha256_file(tmp_path / "a.parquet") == sha256_file(tmp_path / "b.parquet")
    assert np.float32 == engines.table["s2"].dtype


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()
