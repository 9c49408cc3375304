"""Windows: what the network sees of a fleet, with the split and the normaliser that made them.

Between accepted telemetry and tensors: cap the remaining useful life (RUL), split by unit, fit the normaliser on the
training units only, pad, and keep it all in two files of deterministic bytes. Only `prepare` makes windows.
Rules: a unit is in one split only; a window never crosses units; rows are stored once, windows are views of them.

    >>> rows, one = np.float32([[0.0], [1.0], [2.0], [3.0]]), np.zeros(1, dtype=np.int64)
    >>> kept = {"rows": rows, "regimes": np.zeros(4, dtype=np.int64), "baselines": rows[:1], "unit_names": ("pump-1",)}
    >>> Windows(**kept, ends=np.array([3]), rul=np.float32([9.0]), cycles=one, units=one, window=2).batch().tolist()
    [[[1.0], [2.0]]]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import structlog

from twinseal.config import Field, Settings, parse
from twinseal.digests import parse_json, sha256
from twinseal.errors import ConfigError, EvidenceError
from twinseal.files import write_json, writing_whole
from twinseal.prognostics.cutting import Histories, View, cuts, every
from twinseal.prognostics.normaliser import F32, F64, Normaliser
from twinseal.prognostics.raw_rows import RawRows
from twinseal.prognostics.splitting import Split, seed, split_units
from twinseal.prognostics.tensors import are_finite, read_tensors, write_tensors
from twinseal.reading import open_regular, read_regular

if TYPE_CHECKING:
    from twinseal.telemetry.contract import Contract
    from twinseal.telemetry.fleet import Fleet

log = structlog.get_logger()

TENSORS, DESCRIPTION = "windows.safetensors", "preparation.json"
SPLITS = ("train", "validation", "test")
_MAX_TENSOR_BYTES, _MAX_DESCRIPTION_BYTES = 4 << 30, 4 << 20

I64 = npt.NDArray[np.int64]


class PrepareParams(Settings):
    """The section `prepare` of params.yaml: what the network sees. What it is tested on is policy (`SplitPolicy`).

    Attributes:
        window: Cycles that the network looks back.
        stride: Cycles between two training windows of a unit. At most 10: intervals are set and measured on these
            windows, and with a few of the last ones alone they would be those of failing machines.
    """

    window: int = 100
    stride: int = 1

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse values that no preparation can obey."""
        _within("window", self.window, 2, 10_000)
        _within("stride", self.stride, 1, 10)


def _within(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: expected {lowest} to {highest}, got {value}")


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of some units: rows kept once, each window the `window` rows before its end.

    Window i is `rows[ends[i] - window : ends[i]]`; its newest reading is `rows[ends[i] - 1]`.

    Attributes:
        rows: (R, C) float32 in σ of the training units, unit after unit, each padded on the left by what its first rows
            are on average.
        regimes: (R,) int64, the operating regime of each row; 0 where there is only one.
        ends: (N,) int64, one past the last row of each window.
        rul: (N,) float32 in cycles, capped: what is to be estimated.
        cycles: (N,) int64, the unit's cycle at the newest reading.
        units: (N,) int64, index into unit_names.
        baselines: (U, C) float32 in σ, what the first BASELINE_CYCLES rows of each unit are on average.
        unit_names: The U units.
        window: L, the rows of a window.

    Raises:
        ValueError: Shapes or types disagree, a window reaches outside the rows, or a value is not finite.
    """

    rows: F32
    regimes: I64
    ends: I64
    rul: F32
    cycles: I64
    units: I64
    baselines: F32
    unit_names: tuple[str, ...]
    window: int

    def __post_init__(self) -> None:
        count = len(self.ends)
        if self.rows.ndim != 2 or any(a.shape != (count,) for a in (self.ends, self.rul, self.cycles, self.units)):
            raise ValueError("windows: expected rows (R, C) and one end, rul, cycle and unit a window")
        if self.regimes.shape != self.rows.shape[:1] or self.baselines.shape != (
            len(self.unit_names),
            self.rows.shape[1],
        ):
            raise ValueError("windows: expected a regime a row, and a baseline (C,) a unit")
        if any(a.dtype != np.float32 or not are_finite(a) for a in (self.rows, self.rul, self.baselines)):
            raise ValueError("windows: expected finite float32 rows, RULs and baselines")
        if count and not (self.window <= self.ends.min() and self.ends.max() <= len(self.rows)):
            raise ValueError("windows: expected every window within the rows")
        if count and not (self.units.min() >= 0 and self.units.max() < len(self.unit_names)):
            raise ValueError("windows: expected every window to have a named unit")

    def __len__(self) -> int:
        return len(self.ends)

    def batch(self, indices: npt.ArrayLike | slice | None = None) -> F32:
        """Some windows, copied out, oldest reading first.

        Args:
            indices: (B,) int, a boolean mask (N,), or a slice; all windows by default.

        Returns:
            (B, L, C) float32 in σ.
        """
        ends = (
            self.ends if indices is None else self.ends[indices if isinstance(indices, slice) else np.asarray(indices)]
        )
        views = np.lib.stride_tricks.sliding_window_view(self.rows, self.window, axis=0)  # (R-L+1, C, L)
        return np.ascontiguousarray(views[ends - self.window].transpose(0, 2, 1))

    def batch_regimes(self) -> I64:
        """The regime of every row of every window, (N, L)."""
        views = np.lib.stride_tricks.sliding_window_view(self.regimes, self.window)
        return np.asarray(views[self.ends - self.window])

    def context(self) -> F32:
        """What is known beside the readings, (N, 1 + C) float32: age in cycles, then the unit's baseline in σ."""
        return np.column_stack([self.cycles, self.baselines[self.units]]).astype(np.float32)

    def histories(self, most: int | None = None, seed: int = 0) -> list[tuple[F64, I64]]:
        """Of each unit that has windows: its rows (R, C) float64 in σ up to its newest one, and their regimes.

        Without what pads them: a unit's cycles count from 1, without gaps.

        Args:
            most: Of so many units at most, drawn at random where there are more; of all by default.
            seed: Of the draw.
        """
        order = np.lexsort((self.ends, self.units))
        last = order[np.append(np.diff(self.units[order]) > 0, True)] if len(order) else order  # by unit
        if most is not None and len(last) > most:
            last = last[_draw(len(last), most, seed)]
        spans = [slice(self.ends[at] - self.cycles[at], self.ends[at]) for at in last]
        return [(self.rows[span].astype(np.float64), self.regimes[span]) for span in spans]

    def drawn(self, most: int, seed: int) -> Windows:
        """These windows; where there are more than `most`, so many of them drawn at random, in order."""
        return self if len(self) <= most else self.take(_draw(len(self), most, seed))

    def take(self, indices: npt.ArrayLike) -> Windows:
        """The windows at `indices` ((B,) int or a boolean mask (N,)), over the same rows."""
        at = np.asarray(indices)
        return replace(self, ends=self.ends[at], rul=self.rul[at], cycles=self.cycles[at], units=self.units[at])

    def with_values(self, values: F32) -> Windows:
        """The same windows with other readings: `with_values(values).batch() == values`. For attacks on each by itself.

        Args:
            values: (N, L, C) float32 in σ.
        """
        count, window, channels = values.shape
        rows = np.ascontiguousarray(values.reshape(count * window, channels), dtype=np.float32)  # (N·L, C)
        seen = self.batch_regimes()
        return replace(self, rows=rows, regimes=seen.reshape(-1), ends=(np.arange(count, dtype=np.int64) + 1) * window)


def _draw(count: int, most: int, seed: int) -> I64:
    """`most` of `count` numbers, each once, rising."""
    return np.sort(np.random.default_rng(seed).choice(count, size=most, replace=False)).astype(np.int64)


def join(first: Windows, second: Windows) -> Windows:
    """The windows of `first`, then those of `second`; both must look back equally far.

    Raises:
        ValueError: They differ in window or channels.
    """
    if (first.window, first.rows.shape[1]) != (second.window, second.rows.shape[1]):
        raise ValueError("windows: expected the same window and channels in both")
    names = tuple(dict.fromkeys(first.unit_names + second.unit_names))
    number = {name: at for at, name in enumerate(names)}
    renumber = np.array([number[name] for name in second.unit_names], dtype=np.int64)
    known = [dict(zip(part.unit_names, part.baselines, strict=True)) for part in (second, first)]
    baselines = known[0] | known[1]
    return Windows(
        rows=np.concatenate([first.rows, second.rows]),
        regimes=np.concatenate([first.regimes, second.regimes]),
        ends=np.concatenate([first.ends, second.ends + len(first.rows)]),
        rul=np.concatenate([first.rul, second.rul]),
        cycles=np.concatenate([first.cycles, second.cycles]),
        units=np.concatenate([first.units, renumber[second.units]]),
        baselines=np.stack([baselines[name] for name in names]),
        unit_names=names,
        window=first.window,
    )


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that training needs, and all that serving must repeat.

    Attributes:
        train: Every stride-th window of the training units.
        raw: The rows of the training units as they were read, unit after unit.
        validation: Every window of the validation units.
        test: The last window of each censored unit, or the cuts of the test units.
        normaliser: Fitted on the training units.
        channels: Names of the C channels, in order.
        window: Cycles of a window.
        rul_cap_cycles: The cap that `rul` obeys.
        salt: What the units were divided by, and whatever training draws at random (`splitting`).
    """

    train: Windows
    raw: RawRows
    validation: Windows
    test: Windows
    normaliser: Normaliser
    channels: tuple[str, ...]
    window: int
    rul_cap_cycles: float
    salt: str
    _files: _Files | None = field(init=False, repr=False, default=None)

    def learnt(self, most: int) -> Prepared:
        """With no more than `most` windows to learn from, and to watch: drawn by the salt where there are more."""
        places = {name: seed(self.salt, "windows") + at for at, name in enumerate(("train", "validation"))}
        return replace(self, **{name: getattr(self, name).drawn(most, place) for name, place in places.items()})

    def write(self, directory: Path) -> None:
        """Write windows.safetensors and preparation.json: equal values give equal bytes.

        Raises:
            OSError: They cannot be written.
        """
        splits = {name: getattr(self, name) for name in SPLITS}
        tensors = {f"{name}.{key}": getattr(w, key) for name, w in splits.items() for key in _ARRAYS}
        tensors |= {f"raw.{key}": getattr(self.raw, key) for key in ("rows", "lengths")}
        with writing_whole(directory / TENSORS) as stream:
            write_tensors(stream, tensors)
        description = Description(
            channels=self.channels,
            window=self.window,
            rul_cap_cycles=self.rul_cap_cycles,
            salt=self.salt,
            normaliser=self.normaliser.to_dict(),
            units={name: w.unit_names for name, w in splits.items()},
        )
        write_json(directory / DESCRIPTION, description.model_dump(mode="json"))

    @classmethod
    def read(cls, directory: Path) -> Prepared:
        """Law: `Prepared.read(d)` after `prepared.write(d)` equals `prepared`.

        Raises:
            EvidenceError: The files are absent, malformed, or disagree with each other.
        """
        try:
            described = read_regular(directory / DESCRIPTION, _MAX_DESCRIPTION_BYTES)
            about = parse(Description, _parsed(described), str(directory / DESCRIPTION))
            with open_regular(directory / TENSORS) as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                stream.seek(0)
                tensors = read_tensors(stream, _MAX_TENSOR_BYTES)
            windows = {name: _windows_of(tensors, name, about) for name in SPLITS}
            raw = RawRows(tensors["raw.rows"], tensors["raw.lengths"])
            if len(raw.lengths) != len(windows["train"].unit_names):
                raise ValueError("raw rows: expected those of the training units")
            normaliser = Normaliser.from_dict(about.normaliser)
        except (ConfigError, EvidenceError, OSError, KeyError, ValueError) as error:
            raise EvidenceError(
                f"{directory}: expected prepared windows, "
                f"got {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                remedy="Make them again: dvc repro prepare",
            ) from error
        found = cls(
            **windows,
            raw=raw,
            normaliser=normaliser,
            channels=about.channels,
            window=about.window,
            rul_cap_cycles=about.rul_cap_cycles,
            salt=about.salt,
        )
        object.__setattr__(found, "_files", _Files(directory.resolve(), (digest, sha256(described))))
        return found

    def __reduce_ex__(self, protocol: Any) -> Any:
        """To another process as the files that it was read from, and their digests; by value if it never was."""
        return super().__reduce_ex__(protocol) if self._files is None else (_read_again, (self._files,))


@dataclass(frozen=True)
class _Files:
    """The files of prepared windows: where they are, and the digests of both."""

    directory: Path
    digests: tuple[str, str]


def _read_again(files: _Files) -> Prepared:
    found = Prepared.read(files.directory)
    if found._files != files:
        raise EvidenceError(
            f"{files.directory}: expected the prepared windows that the stage began with, got others",
            remedy="Nothing may write there while a stage runs; a worker on another machine needs the same folder.",
        )
    return found


def _parsed(described: bytes) -> Any:
    return parse_json(described, DESCRIPTION, limit=_MAX_DESCRIPTION_BYTES)


_ARRAYS = ("rows", "regimes", "ends", "rul", "cycles", "units", "baselines")


class Description(Settings):
    """What preparation.json holds."""

    channels: tuple[str, ...]
    window: int
    rul_cap_cycles: float
    salt: str = Field(min_length=1)
    normaliser: dict[str, Any]
    units: dict[str, tuple[str, ...]]


def _windows_of(tensors: dict[str, npt.NDArray[Any]], name: str, about: Description) -> Windows:
    arrays = {key: tensors[f"{name}.{key}"] for key in _ARRAYS}
    shape = arrays["rows"].shape
    if len(shape) != 2 or shape[1] != len(about.channels):
        raise ValueError(f"{name}: {shape} rows for {len(about.channels)} channels")
    return Windows(**arrays, unit_names=about.units[name], window=about.window)


def prepare(fleet: Fleet, contract: Contract, params: PrepareParams, split: Split) -> Prepared:
    """Windows for training, validation and test from accepted telemetry.

    Units that ran to failure are split by their own names and the salt. The test is the last window of every censored
    unit whose true RUL is known, as C-MAPSS has it. A fleet that has fewer of them than `test_share` of the units that
    ran to failure gives up this share too, each cut at `cuts_per_unit` random cycles. Censored units never train: their
    history has no failure in it.

    Raises:
        DataError: Too few units ran to failure for the split, or a label is missing.
    """
    told = Histories(fleet, contract.inputs)
    is_cut = fleet.table["censored"].to_numpy()[fleet.starts]
    ends_known = np.isfinite(fleet.table["rul"].to_numpy()[fleet.starts + fleet.lengths - 1])
    complete = [name for name, cut in zip(fleet.units, is_cut, strict=True) if not cut]
    known = [name for name, cut in zip(fleet.units, is_cut & ends_known, strict=True) if cut]
    parts = split_units(complete, split, with_test=len(known) < split.policy.test_share * len(complete))
    rng = np.random.default_rng(seed(split.salt, "cuts"))
    cap = float(contract.rul_cap_cycles)
    raw = told.rows(parts["train"])
    normaliser = Normaliser.fit(raw.rows, contract.regimes, raw.lengths)
    chosen = {
        "train": [(name, every(told.length(name), params.stride)) for name in parts["train"]],
        "validation": [(name, every(told.length(name), 1)) for name in parts["validation"]],
        "test": [
            *((name, np.array([told.length(name)])) for name in known),
            *(
                (name, cuts(told.length(name), contract.min_cycles, split.policy.cuts_per_unit, rng))
                for name in parts["test"]
            ),
        ],
    }
    view = View(normaliser, told, cap, params.window)
    windows = {
        key: Windows(**view.cut(some), unit_names=tuple(name for name, _ in some), window=params.window)
        for key, some in chosen.items()
    }
    prepared = Prepared(
        **windows,
        raw=raw,
        normaliser=normaliser,
        channels=contract.channels,
        window=params.window,
        rul_cap_cycles=cap,
        salt=split.salt,
    )
    log.info("windows.prepared", **{name: len(getattr(prepared, name)) for name in SPLITS})
    return prepared
