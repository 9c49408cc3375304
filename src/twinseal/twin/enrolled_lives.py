"""Enrolled lives: which machines a twin is to know, and what commissioners have done to each.

    lives.dsse.json            the life record (`trust.life_record`)
    lives.proposed.dsse.json   one that not enough commissioners have signed yet; never used

`signed_records` says when a record counts. If it does not, `enrolled_lives` raises: no machine is known then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from twinseal.trust.life_acts import Act
from twinseal.trust.life_record import MAX_RECORD_BYTES, LifeRecord
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.signed_records import CurrentRecord, RecordKind, current_record

LIVES: RecordKind[LifeRecord] = RecordKind(
    name="lives",
    command="twinseal unit",
    remedy="Find out who changed it. If the machines' acts are lost, enroll them again: twinseal unit enroll --anew",
    event="lives",
    limit=MAX_RECORD_BYTES,
    read=LifeRecord.from_bytes,
    empty=lambda model, version, time: LifeRecord(model, version, version, {}, time),
    dated=lambda record, version, time: replace(record, version=version, time=time),
    check_follows=lambda before, after: after.check_follows(before),
    counted=lambda record: {"units": str(len(record.acts)), "acts": str(sum(map(len, record.acts.values())))},
)


def enrolled_lives(state_dir: Path, anchor: Anchor, model: str, now: datetime) -> LifeRecord | None:
    """The life record that counts; None where no machine was ever enrolled. As `signed_records.current_record`."""
    return current_record(LIVES, state_dir, anchor, model, now)


class CurrentLives(CurrentRecord[LifeRecord]):
    """The life record that counts, while a twin runs: read again when its file was changed."""

    def __init__(self, state_dir: Path, anchor: Anchor, model: str) -> None:
        super().__init__(LIVES, state_dir, anchor, model)
        self._of: LifeRecord | None = None
        self._acts: Mapping[str, tuple[Act, ...]] | None = None

    def acts(self, now: datetime) -> Mapping[str, tuple[Act, ...]] | None:
        """Each enrolled machine's acts in order, all that were ever signed; None where no machine was ever enrolled.

        As long as the record is the same, it is the same object. After a machine was retired and another one enrolled
        under its name, the new one's acts follow the old one's: the last "new machine" begins the life that counts.

        Raises:
            As `enrolled_lives`, and `CurrentRecord.record`.
        """
        record = self.record(now)
        if record is not self._of:
            self._of, self._acts = record, record.acts if record else None
        return self._acts
