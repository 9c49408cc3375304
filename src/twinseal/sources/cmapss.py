"""NASA's C-MAPSS: turbofan engines run to failure (train), or until some time before it (test), with the true answer.

Saxena, Goebel, Simon and Eklund, "Damage Propagation Modeling for Aircraft Engine Run-to-Failure Simulation", PHM 2008.
Three text files for each subset, with 26 columns: unit, cycle, three settings, 21 sensors. RUL_FD001.txt holds, for
each test engine, how many cycles it still ran after its last row. The files are read from a folder, or directly from
NASA's zip, which holds them in a second zip.

Units are called `train-001` and `test-001`; the history of a test engine is censored. Both are one fleet.

Rules: bytes are read once, then hashed and parsed. Every line has 26 numbers, or the file is refused: a short line
would otherwise become missing values without a word.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinseal.digests import sha256
from twinseal.errors import ConfigError, DataError, suggest
from twinseal.evidence import Subject
from twinseal.reading import read_regular
from twinseal.sources.source import SourceParams
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.csv_lines import check_csv
from twinseal.telemetry.fleet import Fleet

SETTINGS = tuple(f"setting{number}" for number in range(1, 4))
SENSORS = tuple(f"s{number}" for number in range(1, 22))
CHANNELS = (*SETTINGS, *SENSORS)
SUBSETS = ("FD001", "FD002", "FD003", "FD004")
MAX_FILE_BYTES = 64 << 20  # NASA's largest file has 11 MB, the zip 12 MB
_MAX_NESTING = 2

REMEDY = (
    "Get 'CMAPSSData.zip' from NASA's Prognostics Data Repository (Turbofan Engine Degradation Simulation Data Set), "
    "and set data.path to the zip or to the folder with its files."
)


class CmapssParams(SourceParams):
    """What an experimenter may change.

    Attributes:
        subset: FD001 … FD004; each has a contract of its own.
        max_units: Use only the first so many train engines and the first so many test engines; null uses all.

    Raises:
        ValueError: There is no such subset, or fewer than two engines are asked for.
    """

    subset: str = "FD001"
    max_units: int | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a subset that does not exist, and fewer than two engines."""
        if self.subset not in SUBSETS:
            raise ValueError(f"subset: expected one of {', '.join(SUBSETS)}, got {self.subset!r}")
        if self.max_units is not None and self.max_units < 2:
            raise ValueError(f"max_units: expected 2 or more, or null, got {self.max_units}")

    def open(self, path: Path, contract: Contract) -> Cmapss:
        """The subset in the folder or zip at `path`; see `Cmapss.open`."""
        return Cmapss.open(path, self, contract)


@dataclass(frozen=True)
class Cmapss:
    """One subset of C-MAPSS as a source of telemetry.

    Attributes:
        params: Which subset, and how much of it.
        contract: What the telemetry must be.
        files: The bytes of the three files, by name.
    """

    params: CmapssParams
    contract: Contract
    files: dict[str, bytes]

    @classmethod
    def open(cls, path: Path, params: CmapssParams, contract: Contract) -> Cmapss:
        """The source at `path`: a folder with the files, or a zip.

        Raises:
            ConfigError: There is nothing at `path`, or a file is missing.
            DataError: The zip is broken, or a file is longer than NASA's files.
            OSError: A file cannot be read.
        """
        names = [f"{kind}_{params.subset}.txt" for kind in ("train", "test", "RUL")]
        if not path.exists():
            raise ConfigError(f"data.path: expected C-MAPSS in a folder or a zip, got nothing at {path}", remedy=REMEDY)
        with suggest(REMEDY):
            files = _read_folder(path, names) if path.is_dir() else _read_zip(_read_bounded(path), names, path.name)
        missing = [name for name in names if name not in files]
        if missing:
            raise ConfigError(f"{path}: expected {', '.join(names)}, found no {', '.join(missing)}", remedy=REMEDY)
        return cls(params, contract, files)

    def remarks(self) -> tuple[str, ...]:
        """None: these files have one form."""
        return ()

    def mapping(self) -> None:
        """None: its files are NASA's."""

    def origin(self) -> tuple[Subject, ...]:
        """The three files with their digests."""
        return tuple(Subject(name, sha256(data)) for name, data in sorted(self.files.items()))

    def read(self) -> Fleet:
        """Train and test engines as one fleet.

        Raises:
            ConfigError: The contract is for another asset.
            DataError: A file differs from NASA's description.
        """
        if tuple(self.contract.all_channels) != CHANNELS:
            raise ConfigError(
                f"data.asset: expected an asset with the channels of C-MAPSS, got '{self.contract.asset}'",
                remedy="Set data.asset to turbofan, or data.source to where the telemetry of this asset is.",
            )
        subset = self.params.subset
        with suggest(REMEDY):
            train, test = (self._engines(f"{kind}_{subset}.txt") for kind in ("train", "test"))
            answer = _remaining_cycles(self.files[f"RUL_{subset}.txt"], f"RUL_{subset}.txt", test["engine"].nunique())
        return Fleet.of(
            pd.concat(
                [
                    _labelled_rows(train, "train", np.zeros(train["engine"].max()), self.params.max_units),
                    _labelled_rows(test, "test", answer, self.params.max_units),
                ],
                ignore_index=True,
            )
        )

    def _engines(self, name: str) -> pd.DataFrame:
        table = _parse_numbers(self.files[name], name, columns=2 + len(CHANNELS))
        table.columns = pd.Index(["engine", "cycle", *CHANNELS])
        engines = table["engine"].to_numpy()
        changes = np.diff(engines)
        if engines[0] != 1 or not np.isin(changes, (0, 1)).all():
            raise DataError(f"{name}: expected engines 1, 2, 3, … one after the other, got another order")
        return table.astype({"engine": "int64"})


def _labelled_rows(table: pd.DataFrame, kind: str, left: np.ndarray[Any, Any], most: int | None) -> pd.DataFrame:
    """The rows of the first `most` engines with unit, censored and rul; `left` is what remains after the last row."""
    engine = table["engine"]
    last = table.groupby("engine")["cycle"].transform("max")
    labelled = table.assign(
        unit=[f"{kind}-{number:03d}" for number in engine],
        censored=kind == "test",
        rul=last - table["cycle"] + left[engine - 1],
    )
    return labelled[engine <= (most or engine.max())].drop(columns="engine")


def _remaining_cycles(data: bytes, name: str, engines: int) -> np.ndarray[Any, Any]:
    left = _parse_numbers(data, name, columns=1)[0].to_numpy()
    if len(left) != engines or np.any(left < 0):
        raise DataError(f"{name}: expected the remaining cycles of {engines} engines, got {len(left)} numbers")
    return left


def _parse_numbers(data: bytes, name: str, *, columns: int) -> pd.DataFrame:
    """The numbers in the file, (R, columns) float64."""
    check_csv(io.BytesIO(data), name, separators=b" \t")
    try:
        table = pd.read_csv(io.BytesIO(data), sep=r"\s+", header=None, dtype=np.float64, encoding="ascii")
    except (ValueError, OverflowError) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        raise DataError(f"{name}: expected {columns} numbers a line, got something else ({error})") from error
    odd = np.flatnonzero(~np.isfinite(table.to_numpy()).all(axis=1))
    if table.shape[1] != columns or len(odd):
        where = f"line {odd[0] + 1}" if len(odd) else f"{table.shape[1]} columns"
        raise DataError(f"{name}: expected {columns} numbers in every line, got others ({where})")
    return table


def _read_folder(path: Path, names: list[str]) -> dict[str, bytes]:
    return {name: _read_bounded(path / name) for name in names if (path / name).is_file()}


def _read_bounded(path: Path) -> bytes:
    data = read_regular(path, MAX_FILE_BYTES, follow=True)
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data


def _read_zip(data: bytes, names: list[str], where: str, depth: int = 0) -> dict[str, bytes]:
    """The files called `names` in the zip, or in a zip inside it. Nothing is written to disk."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                name = entry.filename.rsplit("/", 1)[-1]
                if name in names:
                    if name in found:
                        raise DataError(f"{where}: expected one {name}, got two")
                    found[name] = _read_member(archive, entry)
                elif name.lower().endswith(".zip") and depth < _MAX_NESTING:
                    found = _read_zip(_read_member(archive, entry), names, name, depth + 1) | found
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{where}: expected a zip, got something else ({error})", remedy=REMEDY) from error
    return found


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # LZMA takes the memory that it names
        raise DataError(f"{entry.filename[:80]!r}: expected a deflated file in the zip, got another compression")
    # The length in the archive cannot be trusted: read one byte more than allowed.
    with archive.open(entry) as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{entry.filename}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data
