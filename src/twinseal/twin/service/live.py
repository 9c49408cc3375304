"""The live twin: rows and frames in, answers out; what it learns is on the disk before anybody is answered.

One process has it, one delivery at a time. A delivery is verified, remembered, answered, in this order; so after
kill -9 at any time the next start knows every row that was acknowledged, and answers on as if nothing had happened.

What cannot be answered is answered all the same, by the conservative answer: inspect now. That is so for every machine
while the twin is `silent`: its model was revoked, is not what was admitted any more, or nobody has confirmed it for
longer than the operator allows. Rows are remembered all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog

from twinseal.errors import EvidenceError, TwinsealError
from twinseal.telemetry.unit_names import unit_name
from twinseal.trust.release.release import Release
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.admit import VerifiedModel, admit_installed
from twinseal.twin.answers import Answer
from twinseal.twin.commissioning import CurrentSigned, Signed
from twinseal.twin.delivered import Delivered, FrameMark
from twinseal.twin.frame_gate import Refused, Taken
from twinseal.twin.inputs.source import Item, SignedFrame, Unreadable, UnsignedRow
from twinseal.twin.journal import Journal
from twinseal.twin.memory import describe_installed
from twinseal.twin.rows import ReadRows
from twinseal.twin.runtime import Prediction, Runtime, current_model
from twinseal.twin.service.approval import check_approval
from twinseal.twin.service.enrolled_devices import EnrolledDevices
from twinseal.twin.service.heard import Heard, Parts
from twinseal.twin.service.shadow import compare
from twinseal.twin.state import State
from twinseal.twin.trust_ends import trust_ends
from twinseal.twin.unit_memory import Recalled, UnitMemory

log = structlog.get_logger()


@dataclass(frozen=True)
class Limits:
    """What an operator sets.

    Attributes:
        max_apart_share: Of the machines, on which a new model may disagree with the one that runs.
        max_newly_refused_share: Of the machines, that may lose their estimate by a new model.
        without_trust_s: So long after its trust has ended a model still answers.
        unsigned: Whether rows without a signature are answered where devices are enrolled: of machines that none of
            them delivers.
    """

    max_apart_share: float = 0.1
    max_newly_refused_share: float = 0.05
    without_trust_s: float = 7 * 86_400.0
    unsigned: bool = False


@dataclass(frozen=True)
class Adoption:
    """What became of a new model.

    Attributes:
        release: Its number.
        fault: Why it was not adopted; empty if it answers now.
    """

    release: int
    fault: str = ""


class LiveTwin:
    """A twin that runs.

    Side effects: its memory in the state; the caller holds the service's lock.

    Args:
        state_dir: The twin's own directory.
        anchor: The root that it was installed with.
        model: Name of its model.
        now: Aware, UTC.
        limits: What the operator sets.

    Attributes:
        verified: The model.
        ends: Until when its trust lasts.
        devices: Those that are enrolled.
        signed: What commissioners have signed of the machines.
        older: As `memory.describe_installed`, of the release that was installed at the start.
        lost: Why its memory of units is lost; empty if it is not.
        silent: Why no machine gets an estimate now; empty if they do.

    Raises:
        TrustError, EvidenceError, GateRefusedError: As `runtime.current_model`.
        OSError: Its memory cannot be read or written.
    """

    def __init__(self, state_dir: Path, anchor: Anchor, model: str, now: datetime, limits: Limits) -> None:
        self._state, self._anchor, self._model, self._limits = State(state_dir), anchor, model, limits
        self.verified: VerifiedModel = current_model(state_dir, anchor, model)
        self.devices = EnrolledDevices(state_dir, anchor, model)
        self._memory = UnitMemory(state_dir, model)
        self.lost = self.silent = ""
        self._news, self.signed = self._signed_of(self.verified, now)
        self.older = describe_installed(self._state, self.verified.release)
        self._runtime = self._begin(now)
        self.devices.renew(now)
        self.check(now)

    def _begin(self, now: datetime) -> Runtime:
        """The runtime as it was when the twin ended, or a new one."""
        try:
            recalled = self._memory.recall()
            runtime = (
                self._new_runtime(self.verified, self.signed) if recalled is None else self._recalled(recalled, now)
            )
        except EvidenceError as error:
            self.lost = str(error)
            log.warning("units.lost", reason=self.lost)
            forgotten = {unit: len(acts) for unit, acts in (self.signed.acts or {}).items()}
            runtime = self._new_runtime(self.verified, self.signed, forgotten)
            self._memory.keep(runtime.image(), self._digest, now, forgotten=forgotten, lost=self.lost)
        else:
            self._memory.keep(runtime.image(), self._digest, now)
        return runtime

    def _recalled(self, recalled: Recalled, now: datetime) -> Runtime:
        verified, signed = self.verified, self.signed
        if recalled.kept.release != self._digest:
            verified = self._installed(recalled.kept.release)
            _, signed = self._signed_of(verified, now)
        runtime = self._new_runtime(verified, signed, recalled.kept.forgotten)
        runtime.restore(recalled.image)
        self.devices.follow([mark for delivered in recalled.deliveries for mark in delivered.frames])
        try:
            for delivered in recalled.deliveries:
                runtime.predict_read(delivered.rows(verified.model.contract.inputs))
        except Exception as error:  # a row that ends the program once must not end it at every start
            log.exception("units.replay")
            raise EvidenceError(f"memory of units: expected rows that can be read again, got {error}") from error
        if verified is self.verified:
            return runtime
        newer = self._new_runtime(self.verified, self.signed, recalled.kept.forgotten)
        newer.take_over(runtime)
        return newer

    def _installed(self, digest: str) -> VerifiedModel:
        """The model of a release that was current before."""
        with self._state.read_lock():
            folder = self._state.installed(digest)
            if folder is None:
                raise EvidenceError(f"memory of units: expected the release {digest[:12]}… that it is of, got none")
            return admit_installed(self._state, self._anchor, self._model, folder)

    def _signed_of(self, verified: VerifiedModel, now: datetime) -> tuple[CurrentSigned, Signed]:
        """What is signed of the machines, as this model reads it."""
        current = CurrentSigned(self._state.path, self._anchor, verified)
        found = current.news(now)
        assert found is not None  # noqa: S101 - the first time, all of it is news
        return current, found

    def _new_runtime(
        self, verified: VerifiedModel, signed: Signed, forgotten: Mapping[str, int] | None = None
    ) -> Runtime:
        return Runtime(verified, signed.baselines, signed.acts, forgotten=forgotten, keep_rows=True)

    def _change(self, verified: VerifiedModel, now: datetime, may: Callable[[Runtime], str]) -> str:
        """Let another model answer, if it `may`; else why not.

        Raises:
            OSError: The memory cannot be written; nothing was changed.
        """
        news, signed = self._signed_of(verified, now)
        newer = self._new_runtime(verified, signed, self._memory.forgotten)
        newer.take_over(self._runtime)
        if fault := may(newer):
            return fault
        self.devices.keep()
        self._memory.keep(newer.image(), verified.release.sha256, now)
        self.verified, self._runtime, self._news, self.signed = verified, newer, news, signed
        self.check(now)
        return ""

    @property
    def _digest(self) -> str:
        return self.verified.release.sha256

    def hear(self, items: Sequence[Item], now: datetime) -> Heard:
        """Verify a delivery; then `remember` it, until that succeeds, and `answer` it.

        Args:
            items: As a source delivers them.
            now: Aware, UTC.
        """
        self._obey(now)
        told: list[Taken | Refused | Unreadable] = []
        rows: list[ReadRows] = []
        inputs = self.verified.model.contract.inputs
        signed: list[bool | None] = []
        marks: list[FrameMark] = []
        parts = Parts()
        for item in items:
            if isinstance(item, Unreadable):
                told.append(item)
            elif isinstance(item, SignedFrame):
                done = self.devices.decide(item.message, now)
                told.append(done)
                if isinstance(done, Taken):
                    marks.append(FrameMark(done.key, done.frame.sequence, done.frame.units))
                    rows.append(done.frame.read(inputs))
                    signed += [True] * len(done.frame)
                    parts.add(len(done.frame), len(done.frame.units))
            elif why := self._why_unsigned_is_refused(item):
                told.append(Unreadable("unsigned", why, item.origin))
            else:
                rows.append(ReadRows.of([item.row], inputs))
                signed.append(False if self.devices.some else None)
                parts.add(1)
        read = ReadRows.joined(rows, len(inputs))
        return Heard(read, tuple(signed), tuple(marks), tuple(told), tuple(parts.ended))

    def _why_unsigned_is_refused(self, item: UnsignedRow) -> str:
        if not self.devices.some:
            return ""
        if not self._limits.unsigned:
            return f"row from {item.origin}: expected a signed frame, since devices are enrolled here, got a row"
        if self.devices.fault:
            return f"row from {item.origin}: expected devices that count, got none: {self.devices.fault}"
        unit = unit_name(item.row.get("unit"))
        device = self.devices.deliverer(unit)
        return f"row from {item.origin}: expected {unit} in a frame of {device}, got a row" if device else ""

    def _obey(self, now: datetime) -> None:
        """Know what was signed since the last delivery; rows of before are not read again by it."""
        self.devices.renew(now)
        if (signed := self._news.news(now)) is not None:
            self.signed = signed
            self.keep(now, always=True)
            self._runtime.use(signed.acts, signed.baselines)
            self.keep(now, always=True)

    def remember(self, heard: Heard) -> None:
        """Keep a delivery on the disk.

        Raises:
            OSError: It is not there, and must not be answered: call this again.
        """
        inputs = self.verified.model.contract.inputs
        row = mark = 0
        delivered = []
        for rows, marks in heard.parts:
            part = heard.rows.part(row, row + rows)
            delivered.append(Delivered.of(part, inputs, heard.marks[mark : mark + marks]))
            row, mark = row + rows, mark + marks
        if delivered:
            self._memory.append(*delivered)

    def answer(self, heard: Heard, now: datetime) -> tuple[Answer, ...]:
        """The answer to each row of a delivery that is remembered."""
        return self._answers(self._runtime.predict_read(heard.rows), heard.signed, now)

    def answers(self, now: datetime) -> tuple[Answer, ...]:
        """What is said of each unit now, after its newest row; `signed` is not known then, and null."""
        found = list(self._runtime.predictions())
        return self._answers(found, [None] * len(found), now)

    def machines(self) -> tuple[str, ...]:
        """The machines that rows are expected of: those that are enrolled; where none is, those that were heard."""
        return tuple(self._runtime.machines() if self.signed.acts is None else self.signed.acts)

    def machine(self, answer: Answer) -> str:
        """The name of the machine that an answer is about; "" for none, or one that nobody vouches for."""
        unit = unit_name(answer.unit)
        return unit if self._runtime.knows(unit) or unit in (self.signed.acts or ()) else ""

    def _answers(
        self, predictions: Iterable[Prediction], signed: Sequence[bool | None], now: datetime
    ) -> tuple[Answer, ...]:
        if self.silent:
            why = f"inspect now: {self.silent}"
            predictions = [replace(item, readings="refused", commissioned=False, advice=why) for item in predictions]
        release, trust = self.verified.release, self.ends.state(now)
        return tuple(
            Answer.of(item, release.model, release.version, trust, now, by)
            for item, by in zip(predictions, signed, strict=True)
        )

    def keep(self, now: datetime, *, always: bool = False) -> bool:
        """Renew the memory on the disk, if it is due; whether it was renewed.

        Raises:
            OSError: It is not; the one before, and the rows since then, still count.
        """
        if not always and not self._memory.is_due:
            return False
        self.devices.keep()
        self._memory.keep(self._runtime.image(), self._digest, now)
        return True

    def close(self, now: datetime) -> None:
        """Keep all of it, and end.

        Raises:
            OSError: As `keep`; the next start then reads more rows again.
        """
        try:
            self.keep(now, always=True)
        finally:
            self._memory.close()

    def check(self, now: datetime) -> str:
        """Whether the model may answer: it is approved, and confirmed lately. Why not, or the empty text."""
        self.ends = trust_ends(self._state, self._anchor, self._model)
        self.silent = self._why_silent(now)
        return self.silent

    def verify_again(self, now: datetime) -> str:
        """Verify the model that runs once more, every byte; then as `check`."""
        try:
            self._installed(self._digest)
        except (TwinsealError, OSError) as error:
            self.silent = f"the model is not what was admitted: {error}"
            return self.silent
        return self.check(now)

    def _why_silent(self, now: datetime) -> str:
        try:
            with self._state.read_lock():
                check_approval(self._state, self._anchor, self.verified.release)
        except (TwinsealError, OSError) as error:
            return f"the model is approved no longer: {error}"
        ended = [
            item for item in self.ends.expiries if (now - item.expires).total_seconds() >= self._limits.without_trust_s
        ]
        if ended:
            first = min(ended, key=lambda item: item.expires)
            return f"nobody has confirmed the model since {first.expires:%Y-%m-%d %H:%M} UTC ({first.what})"
        return ""

    def adopt(self, verified: VerifiedModel, now: datetime) -> Adoption:
        """Let another model answer from now on, if it agrees with the one that runs; else go back to that one.

        Args:
            verified: The release that is installed as current now.
            now: Aware, UTC.

        Raises:
            OSError: The memory cannot be written: the model that ran goes on; try again.
            TrustError, EvidenceError: It cannot be gone back to.
        """
        release = verified.release

        def may(newer: Runtime) -> str:
            if self.silent:  # there is nothing to keep: the model that runs may not answer
                return ""
            found = compare(self._runtime.predictions(), newer.predictions())
            return found.fault(self._limits.max_apart_share, self._limits.max_newly_refused_share)

        fault = self._change(verified, now, may)
        if fault:
            self._go_back_from(release, fault, now)
        return Adoption(release.version, fault)

    def _go_back_from(self, release: Release, why: str, now: datetime) -> None:
        Journal(self._state.path, self._model, now).log_fallback(release, why)
        self._state.fall_back(release.sha256)

    def fall_back(self, why: str, now: datetime) -> int:
        """Go back to the release before, if it is approved still; its number.

        Args:
            why: For the log.
            now: Aware, UTC.

        Raises:
            TrustError, EvidenceError: There is none, it is approved no longer, or not what was admitted.
            OSError: As `adopt`.
        """
        with self._state.read_lock():
            before = self._state.before()
            verified = admit_installed(self._state, self._anchor, self._model, before)
            check_approval(self._state, self._anchor, verified.release)
        self._go_back_from(self.verified.release, why, now)
        self._change(verified, now, lambda _newer: "")
        return verified.release.version
