"""Enrolled devices: only what enough commissioners have signed counts; what they signed before does not come back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.twin.deployment import CHANNELS, MODEL, NOW, OTHER
from tests.twin.site import LATER, Site, killed_before_it_moves, killed_before_it_writes
from twinseal.digests import canonical_json, sha256
from twinseal.errors import (
    BusyError,
    EvidenceError,
    ExpiredError,
    KeyAccessError,
    RollbackError,
    SignatureError,
    ThresholdError,
    TrustError,
)
from twinseal.evidence import DEVICE_RECORD, REVIEW, Statement, Subject
from twinseal.trust.audit import log_of
from twinseal.trust.device_record import Device, DeviceRecord
from twinseal.trust.keys.device_keys import DeviceKey, DeviceSigner
from twinseal.trust.signing.dsse import sign_envelope
from twinseal.twin import locks, record_enroller
from twinseal.twin.devices import DEVICES, enrolled_devices
from twinseal.twin.record_enroller import Enrolment

Change = Callable[[DeviceRecord], DeviceRecord]


def signer_of(number: int) -> DeviceSigner:
    return DeviceSigner(Ed25519PrivateKey.from_private_bytes(number.to_bytes(32)))


KEYS = [signer_of(number).key for number in range(4)]


def device(name: str = "gate-1", key: DeviceKey = KEYS[1], units: tuple[str, ...] = ("pump-1",), **more: Any) -> Device:
    return Device(name, key, units, tuple(sorted(CHANNELS)), **more)


class DeviceSite(Site):
    """A site whose commissioners enroll devices."""

    def enroll(self, change: Change | Device, holder: str = "emil", **options: Any) -> Enrolment[DeviceRecord]:
        if isinstance(change, Device):
            added = change

            def change(record: DeviceRecord) -> DeviceRecord:
                return record.with_device(added)

        return self.sign(DEVICES, change, holder, **options)

    def revoke(self, name: str, **options: Any) -> Enrolment[DeviceRecord]:
        return self.enroll(lambda record: record.without(name), **options)

    def enrolled(self, now: datetime = LATER) -> DeviceRecord | None:
        return enrolled_devices(self.twin, self.anchor, MODEL, now)

    def names(self) -> list[str]:
        record = self.enrolled()
        return [] if record is None else [item.name for item in record.devices]

    @property
    def file(self) -> Path:
        return self.twin / DEVICES.file


@pytest.fixture
def site(pulled: Path, tmp_path: Path) -> DeviceSite:
    shutil.copytree(pulled, tmp_path / "site")
    return DeviceSite(tmp_path / "site")


RECORD = DeviceRecord(MODEL, 3, 60, (device(), device("gate-2", KEYS[2], ("pump-2", "pump-3"))), ("0" * 64,), NOW)


@given(st.data())
def test_a_record_reads_back_as_itself(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from([f"pump-{n}" for n in range(20)]), min_size=2, max_size=8, unique=True)
    units = data.draw(names)
    cut = data.draw(st.integers(1, len(units) - 1))
    pair = [tuple(sorted(units[:cut])), tuple(sorted(units[cut:]))]
    record = replace(
        RECORD,
        version=data.draw(st.integers(1, 2**31)),
        max_age_s=data.draw(st.integers(1, 86_400)),
        devices=tuple(device(f"gate-{n}", KEYS[n], part, frames_per_second=n + 1) for n, part in enumerate(pair)),
        time=data.draw(st.datetimes(timezones=st.just(UTC))).replace(microsecond=0),
    )
    assert record == DeviceRecord.from_bytes(record.to_bytes())


def said(**changes: Any) -> bytes:
    value = json.loads(RECORD.to_bytes())
    value["predicate"] |= changes
    digest = sha256(canonical_json(value["predicate"]["devices"]))
    return Statement((Subject("devices", digest),), DEVICE_RECORD, value["predicate"]).to_bytes()


def of_devices(**changes: Any) -> list[dict[str, Any]]:
    first, second = json.loads(RECORD.to_bytes())["predicate"]["devices"]
    return [{**first, **changes}, second]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a field more": ({"more": 1}, "expected exactly"),
    "version 0": ({"version": 0}, "a version from 1"),
    "a version that is true": ({"version": True}, "a version from 1"),
    "no age": ({"max_age_s": 0}, "an age of 1 to"),
    "an age of a week": ({"max_age_s": 604_800}, "an age of 1 to"),
    "no model": ({"model": ""}, "expected a name"),
    "another time": ({"time": "yesterday"}, "expected a time"),
    "devices out of order": ({"devices": of_devices()[::-1]}, "by name, each once"),
    "a device that is text": ({"devices": ["gate-1"]}, "expected a device"),
    "a unit of two devices": ({"devices": of_devices(units=["pump-2"])}, "got the unit pump-2 of gate-1"),
    "a key of two devices": ({"devices": of_devices(key=KEYS[2].pem)}, "got the key"),
    "a key of another kind": ({"devices": of_devices(key="x")}, "expected a public key in PEM"),
    "a key that is a number": ({"devices": of_devices(key=5)}, "expected a public key in PEM"),
    "no units": ({"devices": of_devices(units=[])}, "expected 1 to"),
    "a unit twice": ({"devices": of_devices(units=["a", "a"])}, "sorted, each once"),
    "a unit that is a list": ({"devices": of_devices(units=[[]])}, "expected a name"),
    "units as text": ({"devices": of_devices(units="ab")}, "as lists"),
    "an escape in a channel": ({"devices": of_devices(channels=["\x1b[2J"])}, "expected a name"),
    "no rate": ({"devices": of_devices(frames_per_second=0)}, "frames a second"),
    "a rate that is a float": ({"devices": of_devices(frames_per_second=1.5)}, "frames a second"),
    "a revoked key that is none": ({"revoked": ["x"]}, "revoked keys as sorted SHA-256"),
    "a revoked key that is a list": ({"revoked": [[]]}, "revoked keys as sorted SHA-256"),
    "a device with a revoked key": ({"revoked": [KEYS[1].fingerprint]}, "expected a key that counts, got the revoked"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_record_is_refused(fault: str) -> None:
    changes, message = FAULTS[fault]
    with pytest.raises(EvidenceError, match=message):
        DeviceRecord.from_bytes(said(**changes))


def test_another_statement_is_no_device_record() -> None:
    other = Statement((Subject("devices", "0" * 64),), REVIEW, {"a": 1}).to_bytes()
    with pytest.raises(EvidenceError, match=f"expected {DEVICE_RECORD}, got {REVIEW}"):
        DeviceRecord.from_bytes(other)
    value = json.loads(RECORD.to_bytes())
    value["subject"][0]["digest"]["sha256"] = "0" * 64
    with pytest.raises(EvidenceError, match="canonical form"):
        DeviceRecord.from_bytes(canonical_json(value))


def test_a_device_is_enrolled_and_revoked(site: DeviceSite) -> None:
    assert site.enrolled() is None
    assert 0 == site.enroll(device()).missing
    site.enroll(device("gate-2", KEYS[2], ("pump-2",)))
    record = site.enrolled()
    assert record is not None
    assert (2, ["gate-1", "gate-2"], ()) == (record.version, site.names(), record.revoked)
    site.revoke("gate-1")
    record = site.enrolled()
    assert record is not None
    assert (3, ["gate-2"], (KEYS[1].fingerprint,)) == (record.version, site.names(), record.revoked)
    assert ["enrolled"] * 3 == [event for event, _ in site.log() if event == "enrolled"]
    with pytest.raises(EvidenceError, match="device: expected one of gate-2, got 'gate-1'"):
        site.revoke("gate-1")


@pytest.mark.attack("T")
def test_a_revoked_key_is_not_enrolled_again(site: DeviceSite) -> None:
    """A thief of a device's key asks to enroll it again, under another name, after it was revoked."""
    site.enroll(device())
    site.revoke("gate-1")
    with pytest.raises(EvidenceError, match="expected a key that counts, got the revoked one"):
        site.enroll(device("gate-9", KEYS[1], ("pump-9",)))
    assert [] == site.names()


def test_a_new_key_revokes_the_old_one(site: DeviceSite) -> None:
    site.enroll(device())
    site.enroll(device(key=KEYS[3], units=("pump-1", "pump-7")))
    record = site.enrolled()
    assert record is not None
    assert (KEYS[1].fingerprint,) == record.revoked
    assert ("pump-1", "pump-7") == record.by_key[KEYS[3].fingerprint].units


@pytest.mark.attack("T")
def test_an_older_record_does_not_come_back(site: DeviceSite) -> None:
    """Somebody puts back the device record from before a key was revoked."""
    site.enroll(device())
    before = site.file.read_bytes()
    site.revoke("gate-1")
    site.file.write_bytes(before)
    with pytest.raises(RollbackError, match="expected version >= 2, as seen before, got 1"):
        site.enrolled()
    with pytest.raises(RollbackError, match="expected version >= 2"):
        site.enroll(device("gate-2", KEYS[2], ("pump-2",)))
    site.enroll(device("gate-2", KEYS[2], ("pump-2",)), anew=True)
    assert ["gate-2"] == site.names()


@pytest.mark.attack("T")
def test_a_record_that_is_removed_is_missed(site: DeviceSite) -> None:
    """Somebody removes the device record, so that unsigned telemetry would look like all that there ever was."""
    site.enroll(device())
    site.file.unlink()
    with pytest.raises(EvidenceError, match="expected version 1, as seen before, got none"):
        site.enrolled()


def put(site: DeviceSite, record: DeviceRecord, holder: str = "emil") -> None:
    site.file.write_bytes(sign_envelope(record.to_bytes(), site.key(holder)))


@pytest.mark.attack("T")
def test_only_commissioners_enroll(site: DeviceSite) -> None:
    """A reviewer, or an attacker with a key of their own, signs a device record."""
    site.enroll(device())
    with pytest.raises(SignatureError, match="expected one of emil, flora, got 'alice'"):
        site.enroll(device("gate-2", KEYS[2], ("pump-2",)), holder="alice")
    with pytest.raises(KeyAccessError, match="expected the key"):
        site.enroll(device("gate-2", KEYS[2], ("pump-2",)), signer=site.key("alice"))
    assert ["gate-1"] == site.names()
    assert "refused" == site.log()[-1][0]
    put(site, replace(RECORD, version=2), "alice")
    with pytest.raises(SignatureError, match="expected a signature by emil, flora"):
        site.enrolled()


@pytest.mark.attack("T")
def test_a_record_of_another_model_or_far_ahead_does_not_count(site: DeviceSite) -> None:
    """A thief of a commissioner's key signs a record of another model, far ahead, or a second version 1."""
    site.enroll(device())
    for record, message in (
        (replace(RECORD, model=OTHER, version=2), f"expected the devices of {MODEL}, got those of {OTHER}"),
        (replace(RECORD, version=5000), "expected a version soon after 1, got 5000"),
        (replace(RECORD, version=1), "expected version 1 as seen before, got another"),
    ):
        put(site, record)
        with pytest.raises((EvidenceError, RollbackError), match=message):
            site.enrolled()


def test_a_record_that_was_copied_here_is_remembered(site: DeviceSite) -> None:
    put(site, replace(RECORD, version=5))
    assert ["gate-1", "gate-2"] == site.names()
    put(site, replace(RECORD, version=4))
    with pytest.raises(RollbackError, match="expected version >= 5"):
        site.enrolled()
    assert "was copied here" == site.log()[-1][1]["seen"]


def test_two_commissioners_sign_one_after_the_other(site: DeviceSite) -> None:
    site.two_must_sign()
    assert 1 == site.enroll(device()).missing
    assert site.enrolled() is None
    assert 1 == site.enroll(device()).missing  # the same again
    assert 0 == site.enroll(device(), "flora", now=LATER + timedelta(hours=1)).missing
    assert ["gate-1"] == site.names()
    assert not (site.twin / DEVICES.proposal).exists()
    assert 1 == site.revoke("gate-1", holder="flora").missing
    assert ["gate-1"] == site.names()  # until the second has signed
    assert 1 == site.enroll(device("gate-2", KEYS[2], ("pump-2",))).missing  # another proposal, by emil alone
    assert 0 == site.enroll(device("gate-2", KEYS[2], ("pump-2",)), "flora").missing
    assert ["gate-1", "gate-2"] == site.names()


@pytest.mark.attack("T")
def test_one_commissioner_is_not_two(site: DeviceSite) -> None:
    """A thief of one commissioner's key moves a proposal into the place of the record."""
    site.two_must_sign()
    site.enroll(device())
    (site.twin / DEVICES.proposal).rename(site.file)
    with pytest.raises(ThresholdError, match="expected 2 of emil, flora to sign, got emil"):
        site.enrolled()


def test_a_process_that_is_killed_after_its_log_leaves_the_new_record(
    site: DeviceSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.enroll(device())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(record_enroller, "_store", killed_before_it_writes)
        site.revoke("gate-1")
    with pytest.raises(RollbackError, match="expected version >= 2"):
        site.enrolled()  # logged, and nowhere: nothing counts

    site.enroll(device("gate-2", KEYS[2], ("pump-2",)), anew=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed_before_it_moves)
        site.revoke("gate-2")
    assert [] == site.names()
    site.enroll(device("gate-3", KEYS[3], ("pump-3",)))
    assert ["gate-3"] == site.names()


def test_a_revoked_commissioner_signs_no_more(site: DeviceSite) -> None:
    site.enroll(device())
    key = site.key("emil")
    site.new_key("emil")
    with pytest.raises(SignatureError, match="got one by another key"):
        site.enrolled()
    with pytest.raises(KeyAccessError, match="expected the key"):
        site.enroll(device(), signer=key, anew=True)
    site.enroll(device(), anew=True)
    assert ["gate-1"] == site.names()


def test_commissioners_whose_keys_are_pinned_no_longer_do_not_sign_but_what_they_signed_counts(
    site: DeviceSite,
) -> None:
    site.enroll(device())
    late = NOW + timedelta(days=400)
    with pytest.raises(ExpiredError):
        site.revoke("gate-1", now=late)
    assert site.enrolled(late) == site.enrolled()


def test_two_at_once_and_odd_files_are_refused(site: DeviceSite, tmp_path: Path) -> None:
    with locks.only_one(site.twin / "commission.lock", "twinseal commission", LATER), pytest.raises(BusyError):
        site.enroll(device())
    site.enroll(device())
    shutil.move(site.file, tmp_path / "elsewhere")
    site.file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvidenceError, match="expected a regular file"):
        site.enrolled()
    site.file.unlink()
    site.file.write_bytes(b"{" * (4 << 20) + b"{{")
    with pytest.raises(EvidenceError, match="expected at most 4194304 bytes, got more"):
        site.enrolled()
    site.twin.chmod(0o777)
    with pytest.raises(TrustError, match="no one else can write to"):
        site.enrolled()


def test_a_record_that_came_while_the_key_signed_is_not_lost(site: DeviceSite) -> None:
    def meanwhile(record: DeviceRecord) -> DeviceRecord:
        audit = log_of(site.twin)
        audit.append(DEVICES.entry(replace(RECORD, version=1), "flora", LATER))
        return record.with_device(device())

    with pytest.raises(TrustError, match="expected no other record meanwhile, got one"):
        site.enroll(meanwhile)
