"""The life record: the acts of commissioners on every machine of a twin, signed; to and from bytes.

There is one record for a twin. It names every machine that the twin is to know, with its acts in order
(`trust.life_acts`). A machine that is not in it, or that is retired, is unknown. Acts are only added: whoever could
take one away could make a machine younger, or give it back what was already said of it. So the acts of a retired
machine stay, and a new machine under its name goes on behind them.

It is an in-toto Statement in a DSSE envelope, as a baseline record is (`trust.baseline_record`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from twinseal.digests import canonical_json, sha256
from twinseal.errors import EvidenceError, RollbackError
from twinseal.evidence import LIFE_RECORD, Statement, Subject
from twinseal.trust.baseline_record import check_unit, read_time, write_time
from twinseal.trust.life_acts import Act
from twinseal.trust.release.release import MAX_VERSION

MAX_RECORD_BYTES = 6 << 20  # of the envelope; a statement has at most 4 MiB
MAX_UNITS, MAX_ACTS, MAX_ALL_ACTS = 10_000, 1000, 40_000
_MAX_NAMES_BYTES = 1_400_000  # of all names together: so no statement is too long
_SUBJECT = "lives"
_FIELDS = frozenset(("model", "version", "begun", "lives", "time"))
_LIFE_FIELDS = frozenset(("acts", "retired", "baseline"))
_BASELINE_ENDS = ("new machine", "overhaul", "sensor replaced")  # what a baseline record before does not describe


@dataclass(frozen=True)
class Life:
    """What was done to one machine.

    Law: each act can follow the one before: a count that falls, or an age that falls, is what an act says it is.

    Attributes:
        acts: In their order; the first one, and each that follows after the machine was retired, is "new machine".
        retired: Whether the twin is to know it no longer.
        baseline: Baseline records of this unit up to this version do not describe the machine: they are from before
            an act. 0: all do.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    acts: tuple[Act, ...]
    retired: bool = False
    baseline: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.acts) <= MAX_ACTS or self.acts[0].kind != "new machine":
            raise EvidenceError(f"life: expected 1 to {MAX_ACTS} acts, a new machine first, got {len(self.acts)}")
        if type(self.retired) is not bool or type(self.baseline) is not int or not 0 <= self.baseline <= MAX_VERSION:
            raise EvidenceError(
                f"life: expected whether it is retired, and a version, got {self.retired!r:.40}, {self.baseline!r:.40}"
            )
        for before, act in zip(self.acts, self.acts[1:], strict=False):
            _check_after(before, act)

    @property
    def begins(self) -> int:
        """The operating count after which the cycles are that a baseline record describes."""
        last = next(act for act in reversed(self.acts) if act.kind in _BASELINE_ENDS)
        return max(0, last.cycle - last.age) if last.kind == "new machine" else last.cycle

    def age_at(self, cycle: int) -> int:
        """The machine's age, cycles, at an operating count after its last act.

        Raises:
            EvidenceError: The count is before that act.
        """
        last = self.acts[-1]
        if cycle < last.cycle:
            raise EvidenceError(
                f"act: expected an operating count of at least {last.cycle}, as at the last act, got {cycle}"
            )
        return last.age + cycle - last.cycle

    def then(self, act: Act, baseline: int) -> Life:
        """The life after one more act.

        Args:
            act: What was done.
            baseline: The version of the newest baseline record of the unit that was there before; 0: none.

        Raises:
            EvidenceError: The act cannot follow.
        """
        ended = baseline if act.kind in _BASELINE_ENDS else 0
        return Life((*self.acts, act), retired=False, baseline=max(self.baseline, ended))


@dataclass(frozen=True)
class LifeRecord:
    """The lives of all machines of one twin.

    Law: `LifeRecord.from_bytes(record.to_bytes()) == record`.

    Attributes:
        model: Name of the model that the twin runs.
        version: From 1; the record with the greater version counts.
        begun: The version with which this history began; one that was begun anew has a later one.
        lives: By unit.
        time: When it was signed, by the clock of whoever did; aware, UTC, whole seconds. For people.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    model: str
    version: int
    begun: int
    lives: Mapping[str, Life] = field(hash=False)
    time: datetime

    def __post_init__(self) -> None:
        check_unit(self.model)
        whole = type(self.version) is int and type(self.begun) is int
        if not whole or not 1 <= self.begun <= self.version <= MAX_VERSION:
            raise EvidenceError(
                f"life record: expected versions from 1 to {MAX_VERSION}, got {self.version!r:.40}, begun with "
                f"{self.begun!r:.40}"
            )
        for unit in self.lives:
            check_unit(unit)
        acts = sum(len(life.acts) for life in self.lives.values())
        names = len(canonical_json(list(self.lives)))
        if len(self.lives) > MAX_UNITS or acts > MAX_ALL_ACTS or names > _MAX_NAMES_BYTES:
            raise EvidenceError(
                f"life record: expected at most {MAX_UNITS} units, {MAX_ALL_ACTS} acts, and {_MAX_NAMES_BYTES} bytes "
                f"of names, got {len(self.lives)}, {acts}, {names}",
                remedy="A record that begins anew names only today's machines: twinseal unit enroll --anew",
            )
        if self.time.tzinfo != UTC or self.time.microsecond:
            raise EvidenceError(f"life record: expected a time in UTC and whole seconds, got {self.time!r}")

    @property
    def acts(self) -> dict[str, tuple[Act, ...]]:
        """The acts of each machine that the twin knows; none that is retired."""
        return {unit: life.acts for unit, life in self.lives.items() if not life.retired}

    def knows(self, unit: str) -> bool:
        """Whether a machine is enrolled, and not retired."""
        return unit in self.lives and not self.lives[unit].retired

    def life_of(self, unit: str) -> Life:
        """The life of a machine that the twin knows.

        Raises:
            EvidenceError: It is not in the record, or retired.
        """
        life = self.lives.get(unit)
        if life is None or life.retired:
            got = "a retired one" if life else "none of this name"
            raise EvidenceError(
                f"{unit!a:.80}: expected a machine that is enrolled, got {got}",
                remedy="What is enrolled: twinseal unit show. A machine is enrolled by twinseal unit enroll",
            )
        return life

    def with_machines(self, units: Iterable[str], act: Act, baselines: Mapping[str, int]) -> LifeRecord:
        """The record once new machines are enrolled.

        Args:
            units: Their names; that of a retired one may be used again.
            act: The act "new machine", for each.
            baselines: As `with_act`, by unit.

        Raises:
            EvidenceError: One of them is enrolled.
        """
        lives = dict(self.lives)
        for unit in units:
            life = lives.get(unit)
            if self.knows(unit):
                raise EvidenceError(
                    f"{unit!a:.80}: expected a machine that is not enrolled, got one that is",
                    remedy="If another machine is to have its name: twinseal unit retire, then enroll it again.",
                )
            baseline = baselines.get(unit, 0)
            lost = baseline if self.begun > 1 else 0  # what was done to it by the record before is not known any more
            lives[unit] = life.then(act, baseline) if life else Life((act,), baseline=lost)
        return replace(self, lives=lives)

    def with_act(self, unit: str, act: Act, baseline: int) -> LifeRecord:
        """The record after one more act on an enrolled machine.

        Args:
            unit: Its name.
            act: What was done.
            baseline: As `Life.then`.

        Raises:
            EvidenceError: The machine is not enrolled, or the act cannot follow.
        """
        return replace(self, lives={**self.lives, unit: self.life_of(unit).then(act, baseline)})

    def without(self, units: Iterable[str]) -> LifeRecord:
        """The record once machines are retired: the twin knows them no longer.

        Raises:
            EvidenceError: One of them is not enrolled.
        """
        return replace(
            self, lives={**self.lives, **{unit: replace(self.life_of(unit), retired=True) for unit in units}}
        )

    def check_follows(self, before: LifeRecord) -> None:
        """Refuse this record if it takes back what an older one said.

        A record that says that it was begun anew takes everything back, and may.

        Raises:
            RollbackError: It takes back an act, or a machine that was retired without a new one under its name.
        """
        if self.begun > before.version:
            return
        for unit, old in before.lives.items():
            life = self.lives.get(unit)
            where = f"life record: {unit!a:.80}: expected"
            if self.begun != before.begun or life is None or life.acts[: len(old.acts)] != old.acts:
                raise RollbackError(f"{where} the {len(old.acts)} acts of version {before.version} first, got others")
            more = life.acts[len(old.acts) :]
            if old.retired and not life.retired and (not more or more[0].kind != "new machine"):
                raise RollbackError(f"{where} it retired, or a new machine under its name, got neither")
            if life.baseline < old.baseline:
                raise RollbackError(f"{where} baseline records to end after {old.baseline}, got {life.baseline}")

    def to_bytes(self) -> bytes:
        """The canonical bytes of the statement: what is signed."""
        lives = {
            unit: {
                "acts": [[act.kind, act.cycle, act.age] for act in life.acts],
                "retired": life.retired,
                "baseline": life.baseline,
            }
            for unit, life in self.lives.items()
        }
        predicate = {
            "model": self.model,
            "version": self.version,
            "begun": self.begun,
            "lives": lives,
            "time": write_time(self.time),
        }
        return Statement((Subject(_SUBJECT, sha256(canonical_json(lives))),), LIFE_RECORD, predicate).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "life record") -> LifeRecord:
        """The record that `data` is the statement of.

        Raises:
            EvidenceError: It is no such statement, or not in canonical form.
        """
        statement = Statement.from_bytes(data, where)
        predicate = statement.predicate
        if statement.predicate_type != LIFE_RECORD:
            raise EvidenceError(f"{where}: expected {LIFE_RECORD}, got {statement.predicate_type}")
        if set(predicate) != _FIELDS or not isinstance(predicate["lives"], dict):
            raise EvidenceError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(predicate)[:80]}")
        lives = {unit: _life(value, f"{where}: {unit!a:.80}") for unit, value in predicate["lives"].items()}
        time = read_time(predicate["time"], where)
        record = cls(predicate["model"], predicate["version"], predicate["begun"], lives, time)
        if record.to_bytes() != data:  # also: the subject is the digest of the lives
            raise EvidenceError(f"{where}: expected a life record in its canonical form, got another")
        return record


def _life(value: Any, where: str) -> Life:
    if not isinstance(value, dict) or set(value) != _LIFE_FIELDS or not isinstance(value["acts"], list):
        raise EvidenceError(f"{where}: expected acts, got {str(value)[:80]}")
    if not all(isinstance(item, list) and len(item) == 3 for item in value["acts"]):
        raise EvidenceError(f"{where}: expected of each act its kind, count and age, got {str(value)[:80]}")
    try:
        return Life(tuple(Act(*item) for item in value["acts"]), value["retired"], value["baseline"])
    except EvidenceError as error:
        raise EvidenceError(f"{where}: {error}") from error


def _check_after(before: Act, act: Act) -> None:
    """Refuse an act that cannot be the next one after `before`."""
    if act.kind == "new machine":
        return  # another machine, under a name that was retired
    if act == before:
        raise EvidenceError(f"{act.kind}: expected another act than the last one, got the same again")
    if act.kind == "counter replaced":
        if act.age < before.age:
            raise EvidenceError(f"counter replaced: expected an age of at least {before.age}, got {act.age}")
        return
    if act.cycle < before.cycle:
        raise EvidenceError(
            f"{act.kind}: expected an operating count of at least {before.cycle}, as at the last act, got {act.cycle}"
        )
    age = before.age + act.cycle - before.cycle
    if act.kind == "sensor replaced" and act.age != age:
        raise EvidenceError(f"sensor replaced: expected the age to stay, {age}, got {act.age}")
    if act.age > age:
        raise EvidenceError(f"overhaul: expected at most the age before it, {age}, got {act.age}")
