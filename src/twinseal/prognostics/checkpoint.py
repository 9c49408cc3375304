"""The checkpoint: a model as four files, written with deterministic bytes and read as if an enemy had written them.

    model.safetensors   the weights; no metadata, every tensor float32
    config.json         architecture, channels, normaliser, intervals, and which asset, model and family this is
    guard.json          how the channels of a machine go together, for the guard that stands before the networks
    contract.json       the contract whose telemetry the network was trained on

Reading is step 6 of the twin's admission: the bytes are already signed, and are still not trusted to be well formed.
Nothing is executed, nothing is allocated beyond the limits below, and what is not exactly expected is refused. The
tensors are `twinseal.prognostics.weights`'s: large ones are mapped, not read.

Laws: `write_model(d, …)` twice gives the same bytes; `read_model(d)` predicts what the written network predicted.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from twinseal.config import Settings, parse
from twinseal.digests import parse_json
from twinseal.errors import ConfigError, DataError, EvidenceError
from twinseal.files import write_whole
from twinseal.guard.guard import Guard
from twinseal.guard.parameters import GuardParams
from twinseal.prognostics.architecture import Architecture
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.families import Family
from twinseal.prognostics.finite_answers import require_finite_answers
from twinseal.prognostics.inference import Inference
from twinseal.prognostics.ledger import CAPPED_SHARE, Ledger
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import F32, F64, I64, Normaliser, baseline_of, in_float32, pad, padded
from twinseal.prognostics.weights import MAX_WEIGHTS_BYTES, REMEDY, WEIGHTS, parse_weights, read_weights
from twinseal.reading import read_regular, require_folder
from twinseal.telemetry.contract import Contract

CONFIG, CONTRACT, GUARD = "config.json", "contract.json", "guard.json"
MAX_BYTES = {WEIGHTS: MAX_WEIGHTS_BYTES, CONFIG: 1 << 20, CONTRACT: 1 << 20, GUARD: 8 << 20}


class ModelConfig(Settings):
    """What config.json holds; unknown keys are refused.

    Attributes:
        format: Version of the files.
        asset: Kind of asset, as in the contract.
        model: Name of the model, as in the contract.
        family: What kind of networks these are, see `training`.
        channels: Names of the channels, as in the contract, in order.
        normaliser: As `Normaliser.to_dict`.
        architecture: Of the networks.
        intervals: How far the truth lies from what each of them says, by mode.
        life_bounds: What each of them states of whole lives, by mode.
    """

    format: Literal["twinseal-model/3"] = "twinseal-model/3"
    asset: str
    model: str
    family: Family
    channels: tuple[str, ...]
    normaliser: dict[str, Any]
    architecture: Architecture
    intervals: dict[str, Intervals]
    life_bounds: dict[str, LifeBound]


@dataclass(frozen=True, eq=False)
class Model:
    """Networks with all that they need to read raw telemetry.

    Attributes:
        inference: The networks.
        contract: What telemetry must be before a network sees it.
        normaliser: Raw units → σ of the training units.
        family: What kind of networks these are.
        guard: What the guard before them knows of the machines.
        intervals: How far the truth lies from what each network says, by mode.
        life_bounds: What it states of whole lives, by mode.

    Raises:
        ValueError: They disagree about the channels, the cap or the modes.
    """

    inference: Inference
    contract: Contract
    normaliser: Normaliser
    family: Family
    guard: GuardParams
    intervals: dict[str, Intervals]
    life_bounds: dict[str, LifeBound]

    def __post_init__(self) -> None:
        counts = {len(self.channels), self.inference.config.plain.channels, self.normaliser.mean.shape[1]}
        if len(counts | {len(self.guard.stuck_cycles)}) != 1:
            raise ValueError(
                f"model: expected as many channels in contract, network, normaliser and guard, got {sorted(counts)}"
            )
        regimes = self.contract.regimes
        known = (regimes.points, regimes.within) if regimes else (((),), ())
        if (tuple(map(tuple, self.normaliser.points.tolist())), tuple(self.normaliser.within.tolist())) != known:
            raise ValueError("model: expected a normaliser of the contract's regimes, got one of others")
        if set(self.intervals) != set(self.inference.modes()):
            raise ValueError(f"model: expected intervals of each network, got {sorted(self.intervals)}"[:200])
        if set(self.life_bounds) != set(self.intervals):
            raise ValueError(f"model: expected life bounds of each network, got {sorted(self.life_bounds)}"[:200])
        if any(found.edges[-1] > self.rul_cap_cycles for found in self.life_bounds.values()):
            raise ValueError("model: expected life bounds of estimates up to the cap, got others")
        if any(found.cap_cycles != self.rul_cap_cycles for found in self.intervals.values()):
            raise ValueError("model: expected intervals up to the cap, got others")
        if self.rul_cap_cycles != self.contract.rul_cap_cycles:
            raise ValueError(
                f"model: expected the contract's cap of {self.contract.rul_cap_cycles:g} cycles, "
                f"got {self.rul_cap_cycles:g}"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the C channels that the networks read, in order."""
        return self.contract.channels

    @property
    def window(self) -> int:
        """L, the rows that the networks look back; more are ignored."""
        return self.inference.config.plain.window

    @property
    def oldest_cycles(self) -> int:
        """The oldest age of which the networks know anything."""
        return min(ensemble.config.oldest_cycles for ensemble in self.inference.modes().values())

    def guard_of(self, units: int = 1, *, window: int = 0) -> Guard:
        """The guard before these networks."""
        return Guard(self.guard, self.contract, units, window=window)

    def ledger_of(self, units: int = 1) -> Ledger:
        """New ledgers of units' lives, for answers of these networks."""
        return Ledger(units, self.window, self.contract.max_lost_share, CAPPED_SHARE * self.rul_cap_cycles)

    def at_most(self, mode: str, estimate: npt.ArrayLike, repaired: npt.ArrayLike = False) -> F64:
        """What estimates (N,) of one ensemble state: the cycles left at the latest; ∞ for nothing.

        Args:
            mode: `plain` or `commissioned`.
            estimate: Cycles.
            repaired: (N,) or one; whether readings of the window were repaired.
        """
        widen = np.where(repaired, self.guard.widen, 1.0)
        return self.life_bounds[mode].at_most(estimate, widen)

    @property
    def repairs(self) -> bool:
        """Whether answers may rest on repaired rows.

        A median resists an attacker who controls few of its members. A channel rebuilt from the channels of other
        members would carry false readings over to them. So here the guard flags and abstains, and does not repair.
        """
        return self.inference.config.plain.aggregation == "mean"

    @property
    def rul_cap_cycles(self) -> float:
        """The longest remaining life that is ever stated."""
        return self.inference.config.plain.rul_cap_cycles

    def inputs(self, known: F32) -> F32:
        """The window (1, L, C) float32 that the networks see of normalised rows `known` (R, C), as in training."""
        return pad(known, self.window)[None, -self.window :]

    def predict(
        self, rows: npt.NDArray[np.floating], cycle: int, baseline: npt.NDArray[np.floating] | None = None
    ) -> float:
        """The remaining useful life after the last of `rows`.

        Args:
            rows: (R, I) readings of one unit, oldest first, the contract's inputs each in its unit, NaN where one is
                missing. Fewer than the window are padded as in training.
            cycle: The unit's age in cycles at the last of them.
            baseline: (20, I) readings of its first cycles, likewise, if they can be trusted; None if there are none.

        Returns:
            Cycles, from 0 to the cap.

        Raises:
            DataError: A reading is infinite, or so large that no estimate comes out.
            ValueError: The rows are none, or have another number of columns.
        """
        known = self.normaliser.apply(np.asarray(rows))
        if not len(known):
            raise ValueError("rows: expected a row at least, got none")
        return self.answer(known, cycle, None if baseline is None else baseline_of(self.normaliser.apply(baseline)))

    def answer(self, known: F32, cycle: int, baseline: F32 | None = None) -> float:
        """As `predict`, from normalised rows (R, C) float32 in σ and a normalised baseline (C,)."""
        ensemble = self.inference.plain if baseline is None else self.inference.commissioned or self.inference.plain
        base = np.zeros(len(self.channels), dtype=np.float32) if baseline is None else baseline
        context = np.concatenate([[np.float32(cycle)], base], dtype=np.float32)[None]
        estimate = float(ensemble.estimates(self.inputs(known), context)[0])
        if not np.isfinite(estimate):
            raise DataError("rows: expected readings that an estimate can be made from, got values too large")
        return min(max(estimate, 0.0), self.rul_cap_cycles)

    def answers(self, rows: F64, counts: I64, cycles: I64, baselines: F32 | None = None) -> F64:
        """As `answer`, of many units at once: (B,) cycles; NaN where no estimate comes out.

        Args:
            rows: (B, L, C) in σ, the newest of each unit.
            counts: (B,), how many of them there have been, at least 1.
            cycles: (B,), its age at the last.
            baselines: (B, C) in σ; None where there are none.
        """
        windows = padded(rows, counts)
        ensemble = self.inference.plain if baselines is None else self.inference.commissioned or self.inference.plain
        base = np.zeros((len(rows), len(self.channels)), dtype=np.float32) if baselines is None else baselines
        context = np.concatenate([cycles[:, None], base], axis=1, dtype=np.float32)
        found = ensemble.estimates(windows, context).astype(np.float64)
        known = np.isfinite(found) & np.isfinite(windows).all(axis=(1, 2))
        return np.where(known, np.clip(found, 0.0, self.rul_cap_cycles), np.nan)

    def guarded_answer(self, repaired: F64, given: F64, cycle: int, baseline: F32 | None = None) -> float:
        """As `answer`, from rows (R, C) in σ as the guard repaired them, and as they were given.

        A repair may only shorten a life: an attacker who causes one could otherwise raise the answer above the bound
        that is certified for the attacker's rows. So the answer is the lower of the two.
        """
        told = self.answer(in_float32(given), cycle, baseline)
        if not self.repairs or np.array_equal(repaired, given):
            return told
        return min(told, self.answer(in_float32(repaired), cycle, baseline))


def write_model(directory: Path, model: Model) -> None:
    """Write a model's files; nothing else may be in `directory`.

    Raises:
        EvidenceError: What would be written could not be read back: a weight is not finite, say.
        OSError: A file cannot be written.
    """
    config = ModelConfig(
        asset=model.contract.asset,
        model=model.contract.model,
        family=model.family,
        channels=model.channels,
        normaliser=model.normaliser.to_dict(),
        architecture=model.inference.config,
        intervals=model.intervals,
        life_bounds=model.life_bounds,
    )
    # No metadata: safetensors writes it in the order of a randomly seeded hash.
    weights = save({name: np.ascontiguousarray(array) for name, array in model.inference.arrays.items()})
    files = {
        WEIGHTS: weights,
        CONFIG: _json(config.model_dump(mode="json")),
        CONTRACT: _json(model.contract.to_dict()),
        GUARD: _json(model.guard.model_dump(mode="json")),
    }
    if parse_model(files).channels != model.channels:  # what cannot be read back is not written
        raise ValueError(f"model: expected channels {model.channels} to be read back, got another order")
    for name, data in files.items():
        write_whole(directory / name, data)


def read_model(directory: Path) -> Model:
    """The model in `directory`.

    Raises:
        EvidenceError: Not exactly the four files, each a regular one of honest size; or as `parse_model`.
    """
    try:
        names = sorted(path.name for path in require_folder(directory).iterdir())
        if names != sorted(MAX_BYTES):
            raise EvidenceError(f"{directory}: expected {', '.join(sorted(MAX_BYTES))}, got {names[:9]}", remedy=REMEDY)
        for name, limit in MAX_BYTES.items():
            _check_file(directory / name, limit)
        texts = {name: read_regular(directory / name, MAX_BYTES[name]) for name in (CONFIG, CONTRACT, GUARD)}
        return _parse(texts, lambda architecture: read_weights(directory / WEIGHTS, architecture))
    except OSError as error:
        raise EvidenceError(f"{directory}: expected a model, got none ({error.strerror})", remedy=REMEDY) from error


def parse_model(files: Mapping[str, bytes]) -> Model:
    """The model that untrusted bytes stand for.

    1. config.json: known keys only, sizes within limits.
    2. contract.json: a contract, of the same asset, model, channels and cap.
    3. the header of model.safetensors: short, and exactly the tensors that the architecture has.
    4. the tensors: finite, scales above 0.
    5. guard.json: of the same channels, thresholds above 0, a positive definite precision.
    6. it answers all readings within its own contract with finite numbers (`finite_answers`).

    Args:
        files: The bytes of the four files, by name.

    Raises:
        EvidenceError: Anything else.
    """
    if set(files) != set(MAX_BYTES):
        raise EvidenceError(f"model: expected {', '.join(sorted(MAX_BYTES))}, got {sorted(files)[:9]}", remedy=REMEDY)
    return _parse(files, lambda architecture: parse_weights(files[WEIGHTS], architecture))


def _parse(texts: Mapping[str, bytes], weights: Callable[[Architecture], dict[str, F32]]) -> Model:
    try:
        values = {name: parse_json(texts[name], name, limit=MAX_BYTES[name]) for name in (CONFIG, CONTRACT, GUARD)}
        config = parse(ModelConfig, values[CONFIG], CONFIG)  # 1
        contract = Contract.from_dict(values[CONTRACT], CONTRACT)  # 2
        for name in ("asset", "model", "channels"):
            if getattr(config, name) != getattr(contract, name):
                got, expected = str(getattr(config, name))[:80], str(getattr(contract, name))[:80]
                raise EvidenceError(f"{CONFIG}: {name}: expected the contract's {expected}, got {got}", remedy=REMEDY)
        inference = Inference(config.architecture, weights(config.architecture))  # 3, 4
        normaliser = Normaliser.from_dict(config.normaliser)
        guard = parse(GuardParams, values[GUARD], GUARD)  # 5
        model = Model(inference, contract, normaliser, config.family, guard, config.intervals, config.life_bounds)
        require_finite_answers(model)  # 6
        return model
    except EvidenceError as error:
        error.remedy = error.remedy or REMEDY
        raise
    except (ConfigError, ValueError) as error:
        raise EvidenceError(f"model: {error}", remedy=REMEDY) from error


def _json(value: Any) -> bytes:
    """JSON for people and programs, keys as they come: sorted, a contract's channels would be hard to read."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _check_file(path: Path, limit: int) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        raise EvidenceError(
            f"{path.name}: expected a regular file of at most {limit} bytes, got {found.st_size}", remedy=REMEDY
        )
