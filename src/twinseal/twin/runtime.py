"""The runtime: an admitted model, behind its guard, fed row by row or many rows at once, with the same answers.

It keeps the newest rows of each unit, behind its guard (`twinseal.guard`), and gives a Prediction for each row: never
an exception for bad telemetry, and never no answer. A prediction whose readings are `refused` has the conservative
answer, a remaining life of 0: a threshold on it leads to an inspection.

    ok         the estimate rests on the readings of the machine
    degraded   a reading is repaired now, or many in the window were, or the history is short
    refused    no estimate: inspect now
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import suggest
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.ledger import CAPPED_SHARE
from twinseal.prognostics.normaliser import F32, I64, baseline_of
from twinseal.telemetry.unit_names import MAX_EXACT, MAX_NAME, unit_name
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.admit import VerifiedModel, admit_installed
from twinseal.twin.batch import Batch
from twinseal.twin.commissioning import Signed
from twinseal.twin.rows import ReadRows, cycle_of, records
from twinseal.twin.state import State, pull_command
from twinseal.twin.units import Acts, Units
from twinseal.twin.units_image import UnitsImage

# Above this share of repaired rows in a window the answer is degraded; about 1 % of rows are repaired by mistake.
SOUND_SHARE = 0.1
_SURROGATES = re.compile("[\ud800-\udfff]")
MAX_UNITS = 10_000  # more than a fleet has; a limit on how often the model can be queried


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        unit: The unit, by `unit_name`.
        sent_unit: The unit as the row had it; None for what is neither a text nor a number.
        cycle: After which cycle; 0 when the row named none.
        rul_cycles: Remaining useful life in cycles, from 0 to the contract's cap; 0 when refused.
        more: Whether the estimate is at the cap: then the life may be longer than any that the model tells.
        low_cycles: Lower end of the 90 % interval; the interval is wider where readings were repaired.
        high_cycles: Upper end of the 90 % interval.
        readings: State of the rows that it is made from: `ok`, `degraded`, or `refused`; not the state of the machine.
        flagged: Channels of this row that the guard replaced.
        commissioned: Whether the answer is by the network that reads the unit's signed baseline.
        advice: For people.
    """

    unit: str
    sent_unit: str | int | float | None
    cycle: int
    rul_cycles: float
    more: bool
    low_cycles: float
    high_cycles: float
    readings: Literal["ok", "degraded", "refused"]
    flagged: tuple[str, ...]
    commissioned: bool
    advice: str


def current_model(state_dir: Path, anchor: Anchor, model: str) -> VerifiedModel:
    """The model that the twin at `state_dir` has installed, verified once more, offline.

    Expiry is not checked here: a twin that cannot reach its registry keeps its model. Checked are the reviewers'
    signatures, the evidence, and every byte.

    Raises:
        TrustError, EvidenceError, GateRefusedError: There is none, or what is there is not what was admitted.
    """
    state = State(state_dir)
    with suggest(_how_to_install(model, state_dir, anchor)), state.read_lock():
        return admit_installed(state, anchor, model)


def run(
    verified: VerifiedModel,
    rows: Iterable[Mapping[str, Any]],
    *,
    baselines: Mapping[str, NDArray[np.float64]] | None = None,
    acts: Acts | None = None,
    last_only: bool = False,
) -> Iterator[Prediction]:
    """Predictions for telemetry of any number of units, each unit's rows in order of its cycles.

    Args:
        verified: From `pull` or `current`.
        rows: Each with `unit`, `cycle` and the contract's channels in their units; other columns are ignored. Each is
            answered before the next one is taken.
        baselines: By unit, the rows (20, I) of its first cycles, signed when it was commissioned.
        acts: By unit, what commissioners have signed of its life, in order; a unit without any is an unknown machine.
            None: no machine is enrolled at all, and each is what it says that it is.
        last_only: One prediction for each unit, after its last row, instead of one for each row.

    Raises:
        TypeError: `verified` is not a VerifiedModel.
    """
    yield from run_batches(
        verified, ([row] for row in records(rows)), baselines=baselines, acts=acts, last_only=last_only
    )


def run_batches(
    verified: VerifiedModel,
    batches: Iterable[Sequence[Mapping[str, Any]]],
    *,
    baselines: Mapping[str, NDArray[np.float64]] | None = None,
    acts: Acts | None = None,
    news: Callable[[], Signed | None] | None = None,
    last_only: bool = False,
) -> Iterator[Prediction]:
    """As `run`, of rows that come some at a time: the answers are the same, and faster.

    Args:
        verified: As `run`; so are `baselines`, `acts`, and `last_only`.
        batches: Rows, some at a time.
        baselines: See there.
        acts: See there.
        last_only: See there.
        news: Asked before each batch: what commissioners have signed, if it is not as before.

    Raises:
        TypeError: As `run`.
    """
    runtime = Runtime(verified, baselines, acts)
    for rows in batches:
        if news is not None and (signed := news()) is not None:
            runtime.use(signed.acts, signed.baselines)
        if last_only:
            runtime.add_rows(rows)
        else:
            yield from runtime.predict_rows(rows)
    if last_only:
        yield from runtime.predictions()


class UnverifiedRuntime:
    """A twin that runs, of a model that nobody has verified: for assessments and tests. A twin makes a Runtime.

    Args:
        model: The model.
        baselines, acts: As in `run`.
        forgotten: By unit, how many of its first acts do not vouch for it, since a memory was lost; None: none was.
        keep_rows: Keep each unit's newest rows as they came, so that a runtime of another model can take over.

    Raises:
        DataError: A baseline has a reading that no network could take.
    """

    def __init__(
        self,
        model: Model,
        baselines: Mapping[str, NDArray[np.float64]] | None = None,
        acts: Acts | None = None,
        *,
        forgotten: Mapping[str, int] | None = None,
        keep_rows: bool = False,
    ) -> None:
        known = _normalised(model, baselines)
        self._model, self._units = model, Units(model, known, acts, forgotten=forgotten, keep_rows=keep_rows)

    def use(self, acts: Acts | None, baselines: Mapping[str, NDArray[np.float64]] | None = None) -> None:
        """From the next row on, know these acts of commissioners; those that are done already are not done again.

        Args:
            acts: As in `run`.
            baselines: As in `run`: those that count since, as an act may have ended one. None: those of before.

        Raises:
            DataError: A baseline has a reading that no network could take.
        """
        self._units.use(acts, None if baselines is None else _normalised(self._model, baselines))

    def image(self) -> UnitsImage:
        """All that it knows of its units."""
        return self._units.image()

    def restore(self, image: UnitsImage) -> None:
        """Go on from what another runtime of the same model knew, before the first row: every answer is as by that one.

        Raises:
            EvidenceError: It is of another model. This runtime is then of no use.
        """
        self._units.restore(image)

    def take_over(self, other: UnverifiedRuntime) -> None:
        """Go on from the runtime of another model, before the first row; it must have kept its rows.

        What it said of a life holds; its newest rows are read again. See `Units.take_over`.
        """
        self._units.take_over(other._units)

    def machines(self) -> list[str]:
        """The names of the machines that have a place here, in the order in which they were heard."""
        return [name for name in self._units.names if name]

    def knows(self, unit: str) -> bool:
        """Whether a machine has a place here, and somebody vouches for it, or nobody needs to."""
        return self._units.knows(unit)

    def predict(self, row: Mapping[str, Any]) -> Prediction:
        """The prediction after one more row."""
        return self.predict_rows([row])[0]

    def predict_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """The prediction after each of some more rows, in their order: those that `predict` gives one by one."""
        return self.predict_read(ReadRows.of(rows, self._model.contract.inputs))

    def predict_read(self, rows: ReadRows) -> list[Prediction]:
        """As `predict_rows`, of rows that were read for this model's inputs."""
        found: dict[int, Prediction] = {}
        for places, slots in self._hear(rows):
            found.update(zip(places, self._predictions(slots), strict=True))
        return [found[place] for place in range(len(rows))]

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store some more rows, without a prediction."""
        for _ in self._hear(ReadRows.of(rows, self._model.contract.inputs)):
            pass

    def predictions(self) -> Iterator[Prediction]:
        """The prediction of each unit after its last row."""
        yield from self._predictions(np.arange(len(self._units)))

    def _hear(self, rows: ReadRows) -> Iterator[tuple[list[int], I64]]:
        """Store rows, in rounds with one of each unit at most; after each, which rows they were, and whose (slots)."""
        units, said, readings = rows.units, rows.cycles, rows.readings
        slots = np.array([self._units.find(unit_name(unit), MAX_UNITS) for unit in units], dtype=np.int64)
        cycles = np.array([cycle_of(cycle) for cycle in said], dtype=np.int64)
        for places in _rounds(slots.tolist()):
            at = np.array(places)
            sent, words = [as_sent(units[place]) for place in places], [said[place] for place in places]
            self._units.hear(Batch(slots[at], cycles[at], readings[at], sent, words))
            yield places, slots[at]

    def _predictions(self, slots: I64) -> list[Prediction]:
        """What is said of units now, by slot."""
        units, model, fewest = self._units, self._model, self._model.contract.min_cycles
        window, cap = model.window, model.rul_cap_cycles
        lives, repaired = units.lives, units.repaired[slots].sum(axis=1)
        told = lives.answers[slots], lives.low[slots], lives.high[slots]
        known = (slots, *told, repaired, units.counts[slots], units.shown[slots])
        found: list[Prediction] = []
        for slot, life, low, high, rows, count, cycle in zip(*map(_listed, known), strict=True):
            name, sent, commissioned = units.names[slot], units.sent[slot], bool(units.commissioned[slot])
            flagged, rules = units.flagged.get(slot, ((), ()))
            if slot in units.refusals:
                advice = f"inspect now: {units.refusals[slot]}"
                found.append(Prediction(name, sent, cycle, 0.0, False, 0.0, 0.0, "refused", flagged, False, advice))
                continue
            more, length = life >= CAPPED_SHARE * cap, min(count, window)
            advice = _more_advice(low, cap) if more else _maintenance_advice(low)
            caveats = [lives.caveat(slot)]
            if rows or count < fewest or slot in units.notes:
                caveats += [self._repairs(rows, length, flagged, rules), self._history(count)]
                caveats.append(units.notes.get(slot, ""))
            advice = "; ".join(filter(None, (advice, *caveats)))
            weak = flagged or rows > SOUND_SHARE * length or count < fewest
            state: Literal["ok", "degraded"] = "degraded" if weak else "ok"
            found.append(Prediction(name, sent, cycle, life, more, low, high, state, flagged, commissioned, advice))
        return found

    def _repairs(self, repaired: int, length: int, flagged: tuple[str, ...], rules: tuple[str, ...]) -> str:
        if not repaired:
            return ""
        names = ", ".join(f"{name} ({rule})" for name, rule in zip(flagged, rules, strict=True))
        now = f", now {names}: check the sensor" if names else ""
        return f"{repaired} of the last {length} cycles were {'repaired' if self._model.repairs else 'doubted'}{now}"

    def _history(self, count: int) -> str:
        fewest = self._model.contract.min_cycles
        return f"a history of {count} cycles, fewer than {fewest}" if count < fewest else ""


class Runtime(UnverifiedRuntime):
    """A twin that runs: the model, and a window of each unit behind one guard.

    Args:
        verified: From `pull` or `current`; nothing else will do.
        baselines, acts, forgotten, keep_rows: As in UnverifiedRuntime.

    Raises:
        TypeError: It is something else.
        DataError: A baseline has a reading that no network could take.
    """

    def __init__(
        self,
        verified: VerifiedModel,
        baselines: Mapping[str, NDArray[np.float64]] | None = None,
        acts: Acts | None = None,
        *,
        forgotten: Mapping[str, int] | None = None,
        keep_rows: bool = False,
    ) -> None:
        if not isinstance(verified, VerifiedModel):
            raise TypeError(f"runtime: expected a VerifiedModel, got {type(verified).__name__}")
        super().__init__(verified.model, baselines, acts, forgotten=forgotten, keep_rows=keep_rows)


def _normalised(model: Model, baselines: Mapping[str, NDArray[np.float64]] | None) -> dict[str, F32]:
    return {unit: baseline_of(model.normaliser.apply(rows)) for unit, rows in (baselines or {}).items()}


def _listed(array: NDArray[Any]) -> list[Any]:
    return list(array.tolist())


def _rounds(slots: list[int]) -> list[list[int]]:
    """The places of rows, in rounds: in each round a unit's next row, and each unit once.

    >>> _rounds([7, 7, 8, 7])
    [[0, 2], [1], [3]]
    """
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for place, slot in enumerate(slots):
        number = seen[slot] = seen.get(slot, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds


def _how_to_install(model: str, state_dir: Path, anchor: Anchor) -> str:
    if model not in anchor.models:
        return f"Name a model of the anchor: --model {' or --model '.join(anchor.models)}"
    return f"Fetch it: {pull_command(model, state_dir)}"


def _maintenance_advice(low: float) -> str:
    """Planned by the lower end of the interval: by the estimate itself, half of the machines would fail before."""
    if low < 1:
        return "maintain now"
    return f"maintain within {int(low)} {'cycle' if low < 2 else 'cycles'}"


def _more_advice(low: float, cap: float) -> str:
    return f"more than {cap:.0f} cycles expected; no maintenance due within {int(low)}"


def as_sent(value: Any) -> str | int | float | None:
    """What a row had as its unit: text cut where no name is so long; None for what no file and no page can show."""
    if isinstance(value, str):
        return value[: 4 * MAX_NAME] if value.isascii() or not _SURROGATES.search(value) else None
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if plain and abs(value) < MAX_EXACT else None
