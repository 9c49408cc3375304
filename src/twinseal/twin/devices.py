"""Devices: which gateways a twin takes telemetry from, as the commissioners have signed it.

    devices.dsse.json            the device record (`trust.device_record`)
    devices.proposed.dsse.json   one that not enough commissioners have signed yet; never used

`signed_records` says when a record counts. If it does not, no frame is taken: `enrolled_devices` raises.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from twinseal.trust.device_record import AGE_S, MAX_RECORD_BYTES, DeviceRecord
from twinseal.trust.root.anchor import Anchor
from twinseal.twin.signed_records import CurrentRecord, RecordKind, current_record

DEVICES: RecordKind[DeviceRecord] = RecordKind(
    name="devices",
    command="twinseal device",
    remedy="Find out who changed it. Then enroll the devices again: twinseal device enroll --anew",
    event="enrolled",
    limit=MAX_RECORD_BYTES,
    read=DeviceRecord.from_bytes,
    empty=lambda model, version, time: DeviceRecord(model, version, AGE_S, (), (), time),
    dated=lambda record, version, time: replace(record, version=version, time=time),
    check_follows=lambda *_: None,  # each record says all that holds: a device that is not listed delivers nothing
    counted=lambda record: {"devices": str(len(record.devices))},
)


def enrolled_devices(state_dir: Path, anchor: Anchor, model: str, now: datetime) -> DeviceRecord | None:
    """The device record that counts; None where no device was ever enrolled. As `signed_records.current_record`."""
    return current_record(DEVICES, state_dir, anchor, model, now)


class CurrentDevices(CurrentRecord[DeviceRecord]):
    """The device record that counts, while a twin runs: read again when its file was changed."""

    def __init__(self, state_dir: Path, anchor: Anchor, model: str) -> None:
        super().__init__(DEVICES, state_dir, anchor, model)
