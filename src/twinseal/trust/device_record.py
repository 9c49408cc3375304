"""The device record: which gateways may deliver which units and channels, signed by commissioners; to and from bytes.

There is one record for a twin. It lists every device with its key, so that who may deliver what is seen on one page.
A device that is not in the newest record delivers nothing: to revoke one is to sign a record without it. The key of a
device that was revoked, or that got a new key, is listed as revoked, and never counts again.

It is an in-toto Statement in a DSSE envelope, as a baseline record is (`twinseal.trust.baseline_record`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from twinseal.digests import canonical_json, is_sha256, sha256
from twinseal.errors import EvidenceError, SignatureError
from twinseal.evidence import DEVICE_RECORD, Statement, Subject
from twinseal.trust.baseline_record import check_unit, read_time, write_time
from twinseal.trust.keys.device_keys import DeviceKey
from twinseal.trust.release.release import MAX_VERSION

MAX_RECORD_BYTES = 4 << 20
MAX_DEVICES, MAX_UNITS, MAX_NAMES = 1000, 2048, 1024
MAX_AGE_S, MAX_RATE = 86_400, 10_000
AGE_S, RATE = 60, 100  # unless the commissioners say otherwise
_SUBJECT = "devices"
_FIELDS = frozenset(("model", "version", "max_age_s", "devices", "revoked", "time"))
_DEVICE_FIELDS = frozenset(("name", "key", "units", "channels", "frames_per_second"))


@dataclass(frozen=True)
class Device:
    """One gateway, and what it may deliver.

    Attributes:
        name: As its frames have it.
        key: What they are signed with.
        units: Names of machines, sorted.
        channels: Names of the contract's inputs, sorted.
        frames_per_second: How many of its frames, of 100 rows each, are taken in the long run.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    name: str
    key: DeviceKey
    units: tuple[str, ...]
    channels: tuple[str, ...]
    frames_per_second: int = RATE

    def __post_init__(self) -> None:
        for what, names, most in (("units", self.units, MAX_UNITS), ("channels", self.channels, MAX_NAMES)):
            if not 1 <= len(names) <= most or any(check_unit(name) != name for name in (self.name, *names)):
                raise EvidenceError(f"device {self.name!a:.80}: expected 1 to {most} {what}, got {len(names)}")
            if list(names) != sorted(set(names)):
                raise EvidenceError(f"device {self.name}: expected {what} sorted, each once, got others")
        if type(self.frames_per_second) is not int or not 1 <= self.frames_per_second <= MAX_RATE:
            raise EvidenceError(
                f"device {self.name}: expected 1 to {MAX_RATE} frames a second, got {self.frames_per_second!r:.40}"
            )


@dataclass(frozen=True)
class DeviceRecord:
    """All devices of one twin.

    Law: `DeviceRecord.from_bytes(record.to_bytes()) == record`.

    Attributes:
        model: Name of the model that reads the telemetry.
        version: From 1; the record with the greater version counts.
        max_age_s: How far the time of a frame may be from the twin's clock, in seconds, either way.
        devices: By name; no unit and no key is of two of them.
        revoked: Fingerprints of keys that never count again, sorted.
        time: When it was signed, by the clock of whoever did; aware, UTC, whole seconds. For people.

    Raises:
        EvidenceError: A part does not fit this description.
    """

    model: str
    version: int
    max_age_s: int
    devices: tuple[Device, ...]
    revoked: tuple[str, ...]
    time: datetime

    def __post_init__(self) -> None:
        check_unit(self.model)
        if type(self.version) is not int or not 1 <= self.version <= MAX_VERSION:
            raise EvidenceError(f"device record: expected a version from 1 to {MAX_VERSION}, got {self.version!r:.40}")
        if type(self.max_age_s) is not int or not 1 <= self.max_age_s <= MAX_AGE_S:
            raise EvidenceError(f"device record: expected an age of 1 to {MAX_AGE_S} s, got {self.max_age_s!r:.40}")
        names = [item.name for item in self.devices]
        if len(names) > MAX_DEVICES or names != sorted(set(names)):
            raise EvidenceError(f"device record: expected at most {MAX_DEVICES} devices by name, each once, got others")
        if not all(map(is_sha256, self.revoked)) or list(self.revoked) != sorted(set(self.revoked)):
            raise EvidenceError("device record: expected revoked keys as sorted SHA-256, each once, got others")
        if self.time.tzinfo != UTC or self.time.microsecond:
            raise EvidenceError(f"device record: expected a time in UTC and whole seconds, got {self.time!r}")
        self._check_apart()

    def _check_apart(self) -> None:
        owners: dict[str, str] = {}
        for item in self.devices:
            if item.key.fingerprint in self.revoked:
                raise EvidenceError(
                    f"device {item.name}: expected a key that counts, got the revoked one {item.key.fingerprint[:16]}…",
                    remedy=f"Make a new one where the gateway is: twinseal device key {item.name}",
                )
            for what in (*(f"unit {unit}" for unit in item.units), f"key {item.key.fingerprint[:16]}…"):
                if (other := owners.setdefault(what, item.name)) != item.name:
                    raise EvidenceError(
                        f"device {item.name}: expected units and a key of its own, got the {what} of {other}",
                        remedy=f"Revoke {other} first, or enroll it again without that unit.",
                    )

    @property
    def by_key(self) -> dict[str, Device]:
        """The devices by the fingerprint of their key."""
        return {item.key.fingerprint: item for item in self.devices}

    def with_device(self, device: Device) -> DeviceRecord:
        """The record once `device` is enrolled; it replaces the one of its name, whose key, if another, is revoked.

        Raises:
            EvidenceError: Its key is revoked; or it shares a key or a unit with another.
        """
        old = [item.key.fingerprint for item in self.devices if item.name == device.name and item.key != device.key]
        kept = [item for item in self.devices if item.name != device.name]
        devices = tuple(sorted((*kept, device), key=lambda item: item.name))
        return replace(self, devices=devices, revoked=tuple(sorted({*self.revoked, *old})))

    def without(self, name: str) -> DeviceRecord:
        """The record once the device called `name` is revoked.

        Raises:
            EvidenceError: There is none.
        """
        gone = [item.key.fingerprint for item in self.devices if item.name == name]
        if not gone:
            names = ", ".join(item.name for item in self.devices) or "none"
            raise EvidenceError(f"device: expected one of {names}, got {name!a:.80}"[:400])
        kept = tuple(item for item in self.devices if item.name != name)
        return replace(self, devices=kept, revoked=tuple(sorted({*self.revoked, *gone})))

    def to_bytes(self) -> bytes:
        """The canonical bytes of the statement: what is signed."""
        devices = [
            {
                "name": item.name,
                "key": item.key.pem,
                "units": list(item.units),
                "channels": list(item.channels),
                "frames_per_second": item.frames_per_second,
            }
            for item in self.devices
        ]
        predicate = {
            "model": self.model,
            "version": self.version,
            "max_age_s": self.max_age_s,
            "devices": devices,
            "revoked": list(self.revoked),
            "time": write_time(self.time),
        }
        return Statement((Subject(_SUBJECT, sha256(canonical_json(devices))),), DEVICE_RECORD, predicate).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "device record") -> DeviceRecord:
        """The record that `data` is the statement of.

        Raises:
            EvidenceError: It is no such statement, or not in canonical form.
        """
        statement = Statement.from_bytes(data, where)
        predicate = statement.predicate
        if statement.predicate_type != DEVICE_RECORD:
            raise EvidenceError(f"{where}: expected {DEVICE_RECORD}, got {statement.predicate_type}")
        if set(predicate) != _FIELDS or not all(isinstance(predicate[name], list) for name in ("devices", "revoked")):
            raise EvidenceError(f"{where}: expected exactly {', '.join(sorted(_FIELDS))}, got {str(predicate)[:80]}")
        devices = tuple(_device(item, where) for item in predicate["devices"])
        revoked, time = tuple(predicate["revoked"]), read_time(predicate["time"], where)
        record = cls(predicate["model"], predicate["version"], predicate["max_age_s"], devices, revoked, time)
        if record.to_bytes() != data:  # also: the subject is the digest of the devices
            raise EvidenceError(f"{where}: expected a device record in its canonical form, got another")
        return record


def _device(value: Any, where: str) -> Device:
    if not isinstance(value, dict) or set(value) != _DEVICE_FIELDS:
        raise EvidenceError(f"{where}: expected a device, got {str(value)[:80]}")
    if not all(isinstance(value[name], list) for name in ("units", "channels")):
        raise EvidenceError(f"{where}: expected units and channels as lists, got {str(value)[:80]}")
    try:
        key = DeviceKey(value["key"])
    except SignatureError as error:
        raise EvidenceError(f"{where}: {error}") from error
    return Device(value["name"], key, tuple(value["units"]), tuple(value["channels"]), value["frames_per_second"])
