"""The baseline record of a unit: signed once, used as signed; every other record is reported and not used."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.twin import deployment as deployments
from tests.twin.deployment import CHANNELS, MODEL, NOW, OTHER, Deployment, contract
from twinseal.digests import sha256
from twinseal.errors import (
    AuditError,
    BusyError,
    DataError,
    EvidenceError,
    KeyAccessError,
    SignatureError,
    TrustError,
)
from twinseal.prognostics.normaliser import BASELINE_CYCLES
from twinseal.telemetry.contract import Contract
from twinseal.trust import baseline_record
from twinseal.trust.audit import log_of
from twinseal.trust.baseline_record import CYCLES, BaselineRecord, unit_key
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import KeySigner, NamedSigner
from twinseal.trust.life_acts import Act
from twinseal.trust.life_record import LifeRecord
from twinseal.trust.root.roles import Roles
from twinseal.trust.signing.dsse import sign_envelope
from twinseal.twin import commissioner, seen_records
from twinseal.twin.admit import VerifiedModel
from twinseal.twin.baseline_rows import contract_violations, take_first_rows
from twinseal.twin.byte_sources import DirectorySource
from twinseal.twin.commissioner import CommissioningResult, commission
from twinseal.twin.commissioning import Baselines, CurrentSigned, baselines, readings
from twinseal.twin.enrolled_lives import LIVES
from twinseal.twin.pull import pull
from twinseal.twin.record_enroller import enroll
from twinseal.twin.runtime import Runtime
from twinseal.twin.seen_records import SeenRecord, parse_memory, write_memory
from twinseal.twin.state import LastSeen, State

LATER = NOW + timedelta(hours=1)
Rows = NDArray[np.float64]


def healthy(seed: int = 1) -> Rows:
    """A machine's first cycles: (CYCLES, C), well within the contract."""
    return 5.0 + 0.1 * np.random.default_rng([seed, 7]).standard_normal((CYCLES, len(CHANNELS)))


def telemetry(rows: Rows, unit: Any = "pump-1") -> list[dict[str, Any]]:
    return [
        {"unit": unit, "cycle": n, **dict(zip(CHANNELS, row, strict=True))} for n, row in enumerate(rows.tolist(), 1)
    ]


class Plant:
    """A twin that runs release 1, and the commissioners' keys."""

    def __init__(self, path: Path) -> None:
        self.deployment = Deployment(path / "deployment")
        self.anchor, self.twin = self.deployment.anchor, path / "twin"
        self.folder = self.twin / "commissioned"
        self.verified = self.pull(NOW)

    def pull(self, now: datetime = LATER) -> VerifiedModel:
        return pull(DirectorySource(self.deployment.mirror), self.anchor, MODEL, self.twin, now).model

    def key(self, holder: str) -> KeySigner:
        return self.deployment.home.signer(holder)

    def commission(self, rows: Rows | None = None, unit: str = "pump-1", **options: Any) -> CommissioningResult:
        holder = options.pop("holder", "emil")
        signer = options.pop("signer", None) or self.key(holder)
        chosen: dict[str, Any] = {"now": LATER} | options
        found = take_first_rows(telemetry(healthy() if rows is None else rows, unit), self.verified.model.contract)
        (signed,) = commission(self.twin, self.anchor, self.verified, found, NamedSigner(holder, signer), **chosen)
        return signed

    def baselines(self, now: datetime = LATER) -> Baselines:
        return baselines(self.twin, self.anchor, self.verified, now)

    def file(self, unit: str = "pump-1") -> Path:
        return self.folder / f"{unit_key(unit)}.dsse.json"

    def forge(self, first: BaselineRecord, holder: str = "emil") -> None:
        """What a thief of a key can put there."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.file(first.unit).write_bytes(baseline_record.sign(first, self.key(holder)))

    def refuses(self, message: str, *, unit: str = "pump-1", now: datetime = LATER) -> None:
        """The unit's record is not used, that is said, and the other unit's is used as before."""
        found = self.baselines(now)
        assert unit not in found
        said = [item.reason for item in found.refused if item.unit in (unit, self.file(unit).name)]
        assert 1 == len(said), found.refused
        assert message in said[0]
        if self.file("pump-9").exists():
            assert "pump-9" in found

    def log(self) -> list[tuple[str, dict[str, str]]]:
        return [(item.event, dict(item.details)) for _, item in log_of(self.twin).read()]


@pytest.fixture(scope="module")
def pulled(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plant")
    shutil.copytree(first, path / "deployment")
    Plant(path)
    return path


@pytest.fixture
def plant(pulled: Path, tmp_path: Path) -> Plant:
    shutil.copytree(pulled, tmp_path / "plant")
    return Plant(tmp_path / "plant")


@pytest.fixture
def commissioned(plant: Plant) -> Plant:
    """Two units are commissioned, and count."""
    plant.commission()
    plant.commission(healthy(9), "pump-9")
    assert ["pump-1", "pump-9"] == sorted(plant.baselines())
    return plant


def do(plant: Plant, change: Callable[[LifeRecord], LifeRecord]) -> None:
    """A commissioner signs an act."""
    enroll(LIVES, plant.twin, plant.anchor, MODEL, change, NamedSigner("emil", plant.key("emil")), now=LATER)


@pytest.mark.attack("8")
def test_a_baseline_from_before_an_overhaul_does_not_count(commissioned: Plant) -> None:
    """Somebody keeps, or puts back, the first cycles from before a machine was overhauled or got another sensor."""
    before = commissioned.file().read_bytes()
    new = Act("new machine", 0, 0)
    do(commissioned, lambda record: record.with_machines(["pump-1", "pump-9"], new, {"pump-1": 1, "pump-9": 1}))
    do(commissioned, lambda record: record.with_act("pump-9", Act("counter replaced", 0, 90), 1))
    assert ["pump-1", "pump-9"] == sorted(commissioned.baselines())  # they describe the machines still
    do(commissioned, lambda record: record.with_act("pump-1", Act("overhaul", 90, 0), 1))
    commissioned.refuses("expected a baseline record after version 1, as the machine was overhauled")
    commissioned.commission(healthy(3), replacing=True)
    assert ["pump-1", "pump-9"] == sorted(commissioned.baselines())
    commissioned.file().write_bytes(before)
    commissioned.refuses("expected a baseline record of version >= 2")


def test_a_running_twin_hears_of_acts_and_of_the_baselines_that_they_end(commissioned: Plant) -> None:
    new = Act("new machine", 0, 0)
    current = CurrentSigned(commissioned.twin, commissioned.anchor, commissioned.verified)
    signed = current.news(LATER)
    assert signed is not None
    assert (None, ["pump-1", "pump-9"]) == (signed.acts, sorted(signed.baselines))
    assert current.news(LATER) is None
    do(commissioned, lambda record: record.with_machines(["pump-1"], new, {"pump-1": 1}))
    do(commissioned, lambda record: record.with_act("pump-1", Act("overhaul", 1, 0), 1))
    signed = current.news(LATER)
    assert signed is not None
    assert ((new, Act("overhaul", 1, 0)), ["pump-9"]) == ((signed.acts or {})["pump-1"], sorted(signed.baselines))
    assert 1 == len(signed.baselines.refused)
    (commissioned.twin / LIVES.file).write_bytes(b"{}")
    signed = current.news(LATER)
    assert signed is not None
    assert ({}, 0) == (signed.acts, len(signed.baselines))
    assert "lives.dsse.json: expected a DSSE envelope" in signed.refused
    assert current.news(LATER) is None


def test_no_baseline_counts_where_the_life_record_does_not(commissioned: Plant) -> None:
    do(commissioned, lambda record: record.with_machines(["pump-1"], Act("new machine", 0, 0), {}))
    (commissioned.twin / LIVES.file).unlink()
    found = commissioned.baselines()
    assert ([], "every unit") == (sorted(found), found.refused[0].unit)
    assert "lives.dsse.json: expected version 1" in found.refused[0].reason


def test_the_first_cycles_after_an_overhaul_are_taken_by_the_count() -> None:
    rows = [{**row, "cycle": row["cycle"] + 70} for row in telemetry(healthy())]
    found = take_first_rows(rows, contract(), (), {"pump-1": 70})
    assert np.array_equal(healthy(), found["pump-1"])
    with pytest.raises(DataError, match="the first 20 cycles") as refused:
        take_first_rows(rows, contract(), (), {"pump-1": 71})
    assert "pump-1: expected cycles 72 to 91, got none of 91" in refused.value.findings


def test_as_many_cycles_are_signed_as_the_model_reads() -> None:
    assert BASELINE_CYCLES == CYCLES


def test_what_was_signed_is_what_the_twin_builds_on(commissioned: Plant) -> None:
    found = commissioned.baselines()
    np.testing.assert_array_equal(healthy(), found["pump-1"])
    np.testing.assert_array_equal(healthy(9), found["pump-9"])
    assert (2, np.dtype(np.float64), ()) == (len(found), found["pump-1"].dtype, found.refused)
    with pytest.raises(KeyError):
        found["pump-2"]


def test_the_same_again_is_the_same_bytes(plant: Plant, tmp_path: Path) -> None:
    plant.commission()
    before = plant.file().read_bytes()
    plant.file().unlink()
    (plant.twin / "commissioned.json").unlink()
    shutil.rmtree(plant.twin / "log")  # else the twin remembers it
    plant.commission()
    assert before == plant.file().read_bytes()


def test_a_twin_that_never_commissioned_anything_says_nothing(plant: Plant) -> None:
    found = plant.baselines()
    assert ({}, ()) == (dict(found), found.refused)


def test_a_twin_that_was_never_pulled_has_none(plant: Plant, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="expected an installed model, got none"):
        baselines(tmp_path / "none", plant.anchor, plant.verified, LATER)


def test_a_record_and_its_folder_are_for_their_owner_alone(commissioned: Plant) -> None:
    for path, mode in (
        (commissioned.folder, 0o700),
        (commissioned.file(), 0o600),
        (commissioned.twin / "commissioned.json", 0o600),
    ):
        assert mode == path.stat().st_mode & 0o777


def test_a_record_outlives_a_release_of_the_model(commissioned: Plant) -> None:
    commissioned.deployment.publish(2, now=LATER)
    commissioned.verified = commissioned.pull()
    assert (2, ["pump-1", "pump-9"]) == (commissioned.verified.release.version, sorted(commissioned.baselines()))


def test_a_release_that_reads_fewer_channels_in_another_order_takes_what_it_reads(commissioned: Plant) -> None:
    value = contract().to_dict()
    value["order"] = list(reversed(value["order"]))
    value["sensors"]["flow"]["used"] = False
    other = Contract.from_dict(value)
    expected = [CHANNELS.index(name) for name in other.inputs]
    np.testing.assert_array_equal(healthy()[:, expected], readings(commissioned.commission().record, other))
    assert len(CHANNELS) - 1 == len(expected)
    assert sorted(expected) != expected


# Once and for good


def test_a_unit_is_commissioned_once(commissioned: Plant) -> None:
    before = commissioned.file().read_bytes()
    with pytest.raises(TrustError, match="pump-1: expected no earlier baseline record, got version 1") as caught:
        commissioned.commission(healthy(2))
    assert "A worn machine" in caught.value.remedy
    assert before == commissioned.file().read_bytes()
    assert ("refused", "commissioned") == (commissioned.log()[-1][0], commissioned.log()[-1][1]["attempted"])


@pytest.mark.attack(8)
def test_a_worn_machine_is_commissioned_again_after_its_record_was_deleted(commissioned: Plant) -> None:
    """A baseline record is deleted, to commission a worn machine as new: refused, the twin remembers it."""
    commissioned.file().unlink()
    commissioned.refuses("expected version 1 of its baseline record, got none")
    with pytest.raises(TrustError, match="got version 1"):
        commissioned.commission(healthy(2))
    shutil.rmtree(commissioned.folder)
    commissioned.refuses("expected version 1 of its baseline record, got none")


def test_the_same_first_cycles_stand_as_they_are(commissioned: Plant) -> None:
    before = commissioned.file().read_bytes()
    for options in ({}, {"replacing": True}, {"now": LATER + timedelta(days=1)}, {"holder": "flora"}):
        again = commissioned.commission(**options)
        assert ("stands", 0, None) == (again.outcome, again.missing, again.replaced)
    assert before == commissioned.file().read_bytes()


def test_what_is_replaced_is_kept_aside_and_logged(commissioned: Plant) -> None:
    before = commissioned.file().read_bytes()
    made = commissioned.commission(healthy(2), replacing=True)
    assert ("signed", 2) == (made.outcome, made.record.version)
    assert made.replaced is not None
    assert before == made.replaced.read_bytes()
    np.testing.assert_array_equal(healthy(2), commissioned.baselines()["pump-1"])
    assert () == commissioned.baselines().refused
    event, said = commissioned.log()[-1]
    assert ("commissioned", "pump-1", "2", "version 1") == (event, said["unit"], said["version"], said["replaces"])
    assert sha256(made.record.to_bytes()) == said["record"]
    third = commissioned.commission(healthy(3), replacing=True)
    assert (3, 2) == (third.record.version, len(list((commissioned.folder / "replaced").iterdir())))


@pytest.mark.parametrize("what", ["garbage", "link", "fifo"])
def test_something_else_in_the_place_of_a_record_is_moved_aside(what: str, plant: Plant, tmp_path: Path) -> None:
    plant.folder.mkdir(mode=0o700)
    target = tmp_path / "elsewhere"
    target.write_bytes(b"{}")
    make: dict[str, Callable[[], Any]] = {
        "garbage": lambda: plant.file().write_bytes(b"{}"),
        "link": lambda: plant.file().symlink_to(target),
        "fifo": lambda: os.mkfifo(plant.file()),
    }
    make[what]()
    plant.refuses("")
    with pytest.raises(TrustError, match="expected no earlier baseline record, got a record that does not count"):
        plant.commission()
    assert 1 == plant.commission(replacing=True).record.version
    assert b"{}" == target.read_bytes()
    np.testing.assert_array_equal(healthy(), plant.baselines()["pump-1"])


def test_of_many_units_all_are_begun_with_or_none(commissioned: Plant) -> None:
    found = {unit: healthy(2) for unit in ("pump-2", "pump-1")}
    parts = (commissioned.twin, commissioned.anchor, commissioned.verified, found)
    emil = NamedSigner("emil", commissioned.key("emil"))
    with pytest.raises(TrustError, match="pump-1: expected no earlier baseline record"):
        commission(*parts, emil, now=LATER)
    assert not commissioned.file("pump-2").exists()
    done = commission(*parts, emil, now=LATER, replacing=True)
    assert [("pump-2", 1), ("pump-1", 2)] == [(item.record.unit, item.record.version) for item in done]
    assert ["pump-1", "pump-2", "pump-9"] == sorted(commissioned.baselines())


def test_what_cannot_be_logged_is_not_signed(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise AuditError("no space left")

    monkeypatch.setattr(type(log_of(plant.twin)), "append", full)
    with pytest.raises(AuditError):
        plant.commission()
    assert not plant.file().exists()


@pytest.mark.parametrize("killed", ["_move_aside", "write_new", "sync_folder", "store_memory"])
def test_killed_between_any_two_writes_the_unit_has_a_whole_record_or_none(
    killed: str, commissioned: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it has not is said; running it once more ends it."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commissioner, killed, die)
    with pytest.raises(KeyboardInterrupt):
        commissioned.commission(healthy(2), replacing=True)
    monkeypatch.undo()
    found = commissioned.baselines()
    assert "pump-9" in found
    if "pump-1" in found:
        seed = 1 if killed == "_move_aside" else 2
        np.testing.assert_array_equal(healthy(seed), found["pump-1"])
    else:
        assert ["pump-1"] == [item.unit for item in found.refused]
    commissioned.commission(healthy(2), replacing=True)
    np.testing.assert_array_equal(healthy(2), commissioned.baselines()["pump-1"])


@pytest.mark.attack(8)
def test_a_token_that_signs_slowly_delays_no_start(commissioned: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commissioner's token takes long to sign, while the twin is started and another commissioner begins."""
    key = commissioned.key("emil")
    signs, waited = type(key).sign, []

    def sign_slowly(self: Any, payload: bytes) -> Any:
        with (commissioned.twin / "lock").open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody has it, not even to read
        assert {"pump-1", "pump-9"} == set(commissioned.baselines())
        with pytest.raises(BusyError, match=f"twinseal commission .* got one that is running .process {os.getpid()}"):
            commissioned.commission(healthy(5), "pump-5", holder="flora")
        waited.append(True)
        return signs(self, payload)

    monkeypatch.setattr(type(key), "sign", sign_slowly)
    commissioned.commission(healthy(4), "pump-4", signer=key)
    assert [True] == waited
    monkeypatch.undo()
    assert {"pump-1", "pump-4", "pump-9"} == set(commissioned.baselines())


@pytest.mark.attack(8)
def test_a_key_is_revoked_while_it_signs(commissioned: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stolen commissioner key signs slowly; the twin pulls the root that revokes it before it has ended."""
    key, deployment = commissioned.key("emil"), commissioned.deployment
    signs = type(key).sign
    ceremony.revoke(deployment.home, deployment.roles, "emil", LATER)
    deployment.update_mirror()
    deployment.publish(2, now=LATER)

    def sign_slowly(self: Any, payload: bytes) -> Any:
        commissioned.pull()
        return signs(self, payload)

    with monkeypatch.context() as patched, pytest.raises(SignatureError, match="emil"):
        patched.setattr(type(key), "sign", sign_slowly)
        commissioned.commission(healthy(4), "pump-4", signer=key)
    assert not commissioned.file("pump-4").exists()


# Who may sign


@pytest.mark.parametrize("holder", ["alice", "builder", "assessor", "registrar", "ruth", "mallory"])
def test_nobody_but_a_commissioner_signs(holder: str, plant: Plant) -> None:
    key = plant.key("alice" if holder == "mallory" else holder)
    with pytest.raises(SignatureError, match="commissioner: expected one of emil, flora, got"):
        plant.commission(holder=holder, signer=key)
    with pytest.raises(KeyAccessError, match="emil: expected the key"):
        plant.commission(holder="emil", signer=key)
    assert not plant.folder.exists() or not list(plant.folder.iterdir())


@pytest.mark.attack(8)
@pytest.mark.parametrize("thief", ["alice", "builder", "assessor", "registrar", "ruth"])
def test_a_baseline_record_signed_by_another_role(thief: str, commissioned: Plant) -> None:
    """A baseline record is signed by a reviewer, the builder, the assessor, the registrar or a custodian."""
    first = replace(commissioned.commission().record, version=2)
    commissioned.forge(first, thief)
    commissioned.refuses("expected a signature by emil, flora (commissioner)")


@pytest.mark.attack(8)
@pytest.mark.parametrize("change", [ceremony.rotate, ceremony.revoke])
def test_the_commissioners_key_is_rotated_or_revoked(change: Callable[..., Any], commissioned: Plant) -> None:
    """Stolen commissioner key, then rotated or revoked: its records no longer count after the next pull."""
    deployment = commissioned.deployment
    commissioned.commission(healthy(3), "pump-3", holder="flora")
    assert change(deployment.home, deployment.roles, "emil", LATER).anchor is not None
    deployment.update_mirror()
    assert "pump-1" in commissioned.baselines()  # nobody has told this twin yet
    commissioned.verified = commissioned.pull()
    found = commissioned.baselines()
    assert ["pump-3"] == list(found)
    assert ["pump-1", "pump-9"] == sorted(item.unit for item in found.refused)
    assert all("expected a signature by" in item.reason for item in found.refused)
    made = commissioned.commission(holder="flora", replacing=True)  # from the telemetry that was kept
    assert 2 == made.record.version
    np.testing.assert_array_equal(healthy(), commissioned.baselines()["pump-1"])


@pytest.mark.attack(8)
def test_a_revoked_commissioner_signs_again(commissioned: Plant) -> None:
    """A revoked commissioner signs a newer baseline record and tries to commission a unit."""
    deployment = commissioned.deployment
    key, first = commissioned.key("emil"), commissioned.commission().record
    ceremony.revoke(deployment.home, deployment.roles, "emil", LATER)
    deployment.update_mirror()
    commissioned.verified = commissioned.pull()
    commissioned.file().write_bytes(baseline_record.sign(replace(first, version=2), key))
    assert "expected a signature by flora" in commissioned.baselines().refused[0].reason
    with pytest.raises(SignatureError, match="commissioner: expected one of flora, got 'emil'"):
        commissioned.commission(healthy(4), "pump-4", signer=key)


@pytest.mark.attack(8)
def test_the_cache_is_deleted_so_that_a_revoked_key_counts_again(commissioned: Plant) -> None:
    """The twin's TUF cache is deleted, to make a revoked commissioner key valid again."""
    deployment = commissioned.deployment
    ceremony.revoke(deployment.home, deployment.roles, "emil", LATER)
    deployment.update_mirror()
    deployment.publish(2, now=LATER)
    commissioned.verified = commissioned.pull()
    shutil.rmtree(commissioned.twin / "tuf")
    assert {} == dict(commissioned.baselines())


@pytest.mark.attack(8)
def test_an_attackers_root_in_the_cache(commissioned: Plant, tmp_path: Path) -> None:
    """An attacker's root is put into the twin's TUF cache: no baseline record counts."""
    thief = Deployment(tmp_path / "thief")
    ceremony.rotate(thief.home, thief.roles, "emil", LATER)
    history = commissioned.twin / "tuf/root_history"
    history.mkdir(exist_ok=True)
    shutil.copy(thief.home.repository / "metadata/2.root.json", history)
    found = commissioned.baselines()
    assert ({}, ["every unit"]) == (dict(found), [item.unit for item in found.refused])
    assert "expected version 2 signed by the custodians before it" in found.refused[0].reason


@pytest.mark.attack(8)
def test_the_pins_of_the_commissioners_have_expired(commissioned: Plant) -> None:
    """The clock is set back to a time when the expired commissioner pins were still valid."""
    late = NOW + timedelta(days=31)
    refusal = "commissioner: expected keys pinned until after"
    for unit in ("pump-1", "pump-9"):
        (said,) = (item for item in commissioned.baselines(late).refused if item.unit == unit)
        assert refusal in said.reason
    state = State(commissioned.twin)
    seen = state.last_seen(MODEL)
    assert seen is not None
    state.remember(LastSeen(MODEL, late, seen.version, seen.sha256))
    assert {} == dict(commissioned.baselines(LATER))
    with pytest.raises(TrustError, match=refusal):
        commissioned.commission(healthy(4), "pump-4", now=LATER)


def two_must_sign(plant: Plant) -> None:
    roles: Roles = plant.deployment.roles
    role = roles["commissioner"].model_copy(update={"threshold": 2})
    table = roles.roles.model_copy(update={"commissioner": role})
    done = ceremony.renew(plant.deployment.home, roles.model_copy(update={"roles": table}), LATER)
    assert done.anchor is not None
    plant.deployment.update_mirror()
    plant.verified = plant.pull()


def test_two_commissioners_sign_one_after_the_other(plant: Plant) -> None:
    two_must_sign(plant)
    one = plant.commission()
    assert ("signed", 1) == (one.outcome, one.missing)
    plant.refuses("expected 2 of emil, flora to sign, got emil")
    assert ("stands", 1) == (plant.commission().outcome, plant.commission().missing)  # the same person twice
    with pytest.raises(TrustError, match="expected no earlier baseline record, got version 1"):
        plant.commission(healthy(2), holder="flora")  # another measurement is not the same record
    two = plant.commission(holder="flora", now=LATER + timedelta(hours=1))
    assert ("countersigned", 0, one.record) == (two.outcome, two.missing, two.record)
    np.testing.assert_array_equal(healthy(), plant.baselines()["pump-1"])
    assert ["commissioned"] * 2 == [event for event, _ in plant.log() if event == "commissioned"]


# What lies in the folder


@pytest.mark.attack(8)
def test_another_units_record_is_copied(commissioned: Plant) -> None:
    """The baseline record of another unit is copied over the record of a unit."""
    shutil.copy(commissioned.file("pump-9"), commissioned.file("pump-1"))
    commissioned.refuses("expected the record of the unit that it is named after, got 'pump-9'")
    shutil.copy(commissioned.file("pump-9"), commissioned.file("pump-2"))
    commissioned.refuses("expected the record of the unit that it is named after, got 'pump-9'", unit="pump-2")


@pytest.mark.attack(8)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": OTHER}, "pump-1: expected a baseline record for pump-rul of a pump, got one for fan-rul of a pump"),
        ({"asset": "fan"}, "got one for pump-rul of a fan"),
        ({"columns": tuple((name, "psi") for name in CHANNELS)}, "expected readings of speed in 1"),
        ({"columns": tuple((f"x{name}", "1") for name in CHANNELS)}, "expected readings of speed in 1"),
        ({"rows": ((99.0,) * 8,) * CYCLES}, "cycle 1: speed: expected 0 to 10 1, got 99"),
        ({"rows": ((0.0,) * 8, (9.0,) * 8) * (CYCLES // 2)}, "cycle 2: speed: expected a change of at most 1 1, got 9"),
        ({"version": 2**31}, "expected a version soon after 1, got 2147483648"),
        ({"version": 1}, "expected version 1 as seen before, got another"),
    ],
)
def test_a_stolen_commissioner_key_signs_an_invalid_record(
    changes: dict[str, Any], message: str, commissioned: Plant
) -> None:
    """Stolen commissioner key: a baseline record for another model or asset, or with impossible readings."""
    first = commissioned.commission().record
    commissioned.forge(replace(first, **({"version": 2, "time": NOW} | changes)))
    commissioned.refuses(message)
    made = commissioned.commission(healthy(2), replacing=True)  # the twin still takes the honest next one
    np.testing.assert_array_equal(healthy(2), commissioned.baselines()["pump-1"])
    assert made.record.version <= 3


@pytest.mark.attack(8)
def test_an_old_record_is_put_back_after_a_newer_one(commissioned: Plant) -> None:
    """Rollback: an older baseline record with a valid signature is put back."""
    made = commissioned.commission(healthy(2), replacing=True)
    assert made.replaced is not None
    newer = commissioned.file().read_bytes()
    shutil.copy(made.replaced, commissioned.file())
    commissioned.refuses("expected a baseline record of version >= 2, as seen before, got 1")
    commissioned.file().write_bytes(newer)
    np.testing.assert_array_equal(healthy(2), commissioned.baselines()["pump-1"])


REMOVED = pytest.mark.parametrize("removed", [True, False], ids=["removed", "an older one is put back"])


@pytest.mark.attack(8)
@REMOVED
def test_the_memory_is_removed_or_put_back_with_an_old_record(removed: bool, commissioned: Plant) -> None:
    """`commissioned.json` is removed or replaced by an older one, and an old baseline record is put back."""
    memory = commissioned.twin / "commissioned.json"
    old, old_memory = commissioned.file().read_bytes(), memory.read_bytes()
    commissioned.commission(healthy(2), replacing=True)
    commissioned.file().write_bytes(old)
    memory.unlink() if removed else memory.write_bytes(old_memory)
    commissioned.refuses("expected a baseline record of version >= 2, as seen before, got 1")
    shutil.rmtree(commissioned.folder)
    memory.unlink(missing_ok=True)
    assert ["pump-1", "pump-9"] == sorted(item.unit for item in commissioned.baselines().refused), "both are missed"


@pytest.mark.attack(8)
def test_the_cache_is_deleted_where_the_log_alone_knows_the_newest_root(commissioned: Plant) -> None:
    """The TUF cache is deleted after a revocation that no new release followed, to make the revoked key valid again."""
    deployment = commissioned.deployment
    ceremony.revoke(deployment.home, deployment.roles, "emil", LATER)
    deployment.update_mirror()
    commissioned.verified = commissioned.pull()
    assert ["pump-1", "pump-9"] == sorted(item.unit for item in commissioned.baselines().refused)
    shutil.rmtree(commissioned.twin / "tuf")
    found = commissioned.baselines()
    assert ({}, ["every unit"]) == (dict(found), [item.unit for item in found.refused])
    assert "root: expected version >= 2, as this twin's log has it, got 1" in found.refused[0].reason
    commissioned.pull()
    assert ["pump-1", "pump-9"] == sorted(item.unit for item in commissioned.baselines().refused)


@REMOVED
def test_a_record_that_was_carried_here_is_remembered(removed: bool, plant: Plant, tmp_path: Path) -> None:
    """Commissioned on a laptop with a state of its own, carried to the twin, and the older one put back later."""
    laptop = shutil.copytree(plant.twin, tmp_path / "laptop")
    twin, plant.twin, plant.folder = plant.twin, laptop, laptop / "commissioned"
    plant.commission()
    old = plant.file().read_bytes()
    plant.commission(healthy(2), replacing=True)
    new = plant.file().read_bytes()
    plant.twin, plant.folder = twin, twin / "commissioned"
    plant.folder.mkdir(mode=0o700)
    for data, seed in ((old, 1), (new, 2)):
        plant.file().write_bytes(data)
        np.testing.assert_array_equal(healthy(seed), plant.baselines()["pump-1"])
    plant.file().write_bytes(old)
    if removed:
        (plant.twin / "commissioned.json").unlink()  # the twin's log knows it too
    plant.refuses("expected a baseline record of version >= 2, as seen before, got 1")


def test_who_may_not_write_still_uses_what_was_carried_here(
    commissioned: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    (commissioned.twin / "commissioned.json").unlink()

    def read_only(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(seen_records, "write_whole", read_only)
    assert ["pump-1", "pump-9"] == sorted(commissioned.baselines())
    assert not (commissioned.twin / "commissioned.json").exists()


@pytest.mark.attack(8)
def test_a_record_is_truncated_or_one_bit_is_flipped(commissioned: Plant) -> None:
    """A baseline record is truncated, has one flipped bit or has data appended."""
    whole = commissioned.file().read_bytes()
    for length in range(0, len(whole), len(whole) // 23):
        commissioned.file().write_bytes(whole[:length])
        assert ["pump-9"] == list(commissioned.baselines()), length
    for place in range(0, len(whole), len(whole) // 23):
        flipped = bytes([*whole[:place], whole[place] ^ 1, *whole[place + 1 :]])
        commissioned.file().write_bytes(flipped)
        assert ["pump-9"] == list(commissioned.baselines()), place
    commissioned.file().write_bytes(whole + b"{}")
    commissioned.refuses("expected JSON")
    commissioned.file().write_bytes(whole + b" " * (1 << 20))
    commissioned.refuses("expected at most 1048576 bytes")


@pytest.mark.attack(8)
def test_a_commissioner_signs_a_malformed_record(commissioned: Plant) -> None:
    """A commissioner signs a baseline record with 19 or 21 rows or no readings, or other content."""
    payload = json.loads(commissioned.commission().record.to_bytes())
    rows = payload["predicate"]["rows"]
    key = commissioned.key("emil")
    for changed in ([*rows, rows[0]], rows[:-1], [[None] * 8] * CYCLES):
        payload["predicate"]["rows"] = changed
        payload["predicate"]["version"] = 2
        commissioned.file().write_bytes(sign_envelope(json.dumps(payload).encode(), key))
        commissioned.refuses("baseline record: expected")
    for data in (b"{}", b"", b"NaN", b"[" * 100_000):
        commissioned.file().write_bytes(sign_envelope(data, key))
        commissioned.refuses("expected")


@pytest.mark.attack(8)
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_can_write_to(mode: int, commissioned: Plant) -> None:
    """Other users can write to the folder of baseline records: no record counts."""
    commissioned.folder.chmod(mode)
    found = commissioned.baselines()
    assert ({}, ["every unit"]) == (dict(found), [item.unit for item in found.refused])
    assert "expected a folder of this user that no one else can write to" in found.refused[0].reason
    with pytest.raises(TrustError, match="no one else can write to"):
        commissioned.commission(healthy(4), "pump-4")


@pytest.mark.attack(8)
def test_a_symlink_in_place_of_the_folder(commissioned: Plant, tmp_path: Path) -> None:
    """A symlink is put in place of the folder of baseline records: no record counts."""
    commissioned.folder.rename(tmp_path / "elsewhere")
    commissioned.folder.symlink_to(tmp_path / "elsewhere")
    found = commissioned.baselines()
    assert ({}, ["every unit"]) == (dict(found), [item.unit for item in found.refused])
    with pytest.raises(TrustError, match="no one else can write to"):
        commissioned.commission(healthy(4), "pump-4")


@pytest.mark.attack(8)
def test_a_unit_whose_name_looks_like_anothers_or_like_a_path(commissioned: Plant) -> None:
    """A unit name is a look-alike of another or a path (`../../pump-1`): it gets its own baseline record."""
    for name in ("рump-1", "Pump-1", "pump-１", "../../pump-1", "/etc/passwd", "pump-1.dsse.json"):
        commissioned.commission(healthy(5), name)
        assert commissioned.folder == commissioned.file(name).parent
        np.testing.assert_array_equal(healthy(5), commissioned.baselines()[name])
    np.testing.assert_array_equal(healthy(), commissioned.baselines()["pump-1"])
    assert 8 == len(list(commissioned.folder.iterdir()))


def test_a_broken_memory_is_no_reason_to_trust_anything(commissioned: Plant) -> None:
    for data in (b"", b"[1]", b"{}x", b'[{"unit":"pump-1"}]', b'{"a":1}'):
        (commissioned.twin / "commissioned.json").write_bytes(data)
        found = commissioned.baselines()
        assert ({}, ["every unit"]) == (dict(found), [item.unit for item in found.refused]), data
        with pytest.raises(EvidenceError, match=r"commissioned\.json"):
            commissioned.commission(healthy(4), "pump-4")


def test_a_memory_reads_back_as_itself() -> None:
    memory = {unit_key(unit): SeenRecord(unit, 3, "0" * 64) for unit in ("a", "b", "рump")}
    assert memory == parse_memory(write_memory(memory))
    one = write_memory({unit_key("a"): memory[unit_key("a")]})
    with pytest.raises(EvidenceError, match="expected each unit once"):
        parse_memory(one[:-1] + b"," + one[1:])


# What is taken from telemetry


def test_rows_are_taken_as_they_are_and_only_those(plant: Plant) -> None:
    given = [*telemetry(healthy(2), "b"), *telemetry(healthy())]
    given += [
        row | {"cycle": row["cycle"] + CYCLES} for row in telemetry(99 * healthy())
    ]  # later cycles are not looked at
    for rows in (given, given[::-1], pd.DataFrame(given), iter(given)):
        found = take_first_rows(rows, contract())
        assert {"pump-1", "b"} == set(found)
        np.testing.assert_array_equal(healthy(), found["pump-1"])
    assert ["b"] == list(take_first_rows(given, contract(), ["b"]))


def changed(at: int, /, **values: Any) -> list[dict[str, Any]]:
    return [row | (values if row["cycle"] == at else {}) for row in telemetry(healthy())]


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (telemetry(healthy())[1:], "pump-1: expected cycles 1 to 20, got none of 1"),
        (telemetry(healthy())[:-1], "pump-1: expected cycles 1 to 20, got none of 20"),
        (changed(7, cycle=99), "pump-1: expected cycles 1 to 20, got none of 7"),
        (changed(7, cycle=7.5), "got none of 7"),
        (changed(7, cycle="7"), "got none of 7"),
        (changed(7, cycle=True), "got none of 7"),
        (changed(7, cycle=8), "got none of 7"),
        (telemetry(healthy()) + telemetry(healthy())[4:5], "pump-1: expected each cycle once, got 5 more often"),
        (changed(7, flow=None), "pump-1: cycle 7: flow: expected 0 to 10 1, got none"),
        (changed(7, flow=float("nan")), "cycle 7: flow: expected 0 to 10 1, got none"),
        (changed(7, flow=float("inf")), "cycle 7: flow: expected 0 to 10 1, got none"),
        (changed(7, flow="5.0"), "cycle 7: flow: expected 0 to 10 1, got none"),
        (changed(7, flow=True), "cycle 7: flow: expected 0 to 10 1, got none"),
        (changed(7, flow=10**400), "cycle 7: flow: expected 0 to 10 1, got none"),
        (changed(7, flow=10.1), "cycle 7: flow: expected 0 to 10 1, got 10.1"),
        (changed(7, flow=-0.1), "cycle 7: flow: expected 0 to 10 1, got -0.1"),
        (changed(7, flow=7.0), "cycle 7: flow: expected a change of at most 1 1, got"),
    ],
)
def test_first_cycles_that_are_not_whole_and_healthy_are_refused(rows: list[dict[str, Any]], finding: str) -> None:
    assert 1 == len(take_first_rows(telemetry(healthy()), contract()))
    with pytest.raises(
        DataError, match="expected the first 20 cycles of each unit, complete and within the contract"
    ) as caught:
        take_first_rows(rows, contract())
    assert any(finding in item for item in caught.value.findings), caught.value.findings


def test_a_unit_that_was_asked_for_must_be_there() -> None:
    with pytest.raises(DataError, match=r"expected units that it has \(pump-1\), got pump-2") as refusal:
        take_first_rows(telemetry(healthy()), contract(), ["pump-1", "pump-2"])
    assert "Did you mean --unit pump-1?" == refusal.value.remedy
    for rows in (
        [{"a": 1}],
        telemetry(healthy(), "pump\n1"),
        telemetry(healthy(), "pump\u200b1"),
        telemetry(healthy(), "p" * 65),
    ):
        with pytest.raises(DataError, match="expected rows of a unit, got none"):
            take_first_rows(rows, contract())


def test_bounds_belong_to_what_they_bound() -> None:
    rows = np.tile(np.linspace(0.0, 10.0, CYCLES)[:, None], (1, len(CHANNELS)))
    assert () == contract_violations(rows, contract())
    assert () == contract_violations(rows.astype(np.float32).astype(np.float64), contract())
    assert 8 == len(contract_violations(rows + 0.001, contract()))


@pytest.mark.parametrize("unit", ["pump-1", 7, np.int64(7), "007", "рump", " pump-1\u00a0", 7.0])
def test_a_unit_has_the_name_that_the_runtime_gives_it(unit: Any, plant: Plant) -> None:
    (name,) = take_first_rows(telemetry(healthy(), unit), contract())
    assert name == Runtime(plant.verified).predict(telemetry(healthy(), unit)[0]).unit
    assert isinstance(name, str)


# At the terminal


@pytest.fixture
def terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """A project of today, whose twin runs release 1; runs a command as `twinseal …` does."""
    from twinseal.cli import main

    now = datetime.now(UTC).replace(microsecond=0)
    monkeypatch.setattr(deployments, "NOW", now)
    deployment = Deployment(tmp_path / "deployment")
    deployment.publish(1, now=now)
    deployment.home.path.chmod(0o700)
    pull(DirectorySource(deployment.mirror), deployment.anchor, MODEL, tmp_path / "twin", now)
    monkeypatch.setenv("TWINSEAL_HOME", str(deployment.home.path))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def run(line: str, answer: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["twinseal", *line.split()])
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    return run


def test_a_commissioner_sees_what_he_signs_and_is_asked(
    terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    pd.DataFrame([*telemetry(healthy()), *telemetry(healthy(9), "рump-9")]).to_csv("new.csv", index=False)
    command = "commission new.csv --model pump-rul --as emil"
    code, said = terminal(command, "n\n")
    assert (2, True) == (code, "nothing was signed" in said)
    assert "Sign as emil that these are the readings of pump-1, рump-9 when new and healthy?" in said
    mean, low, high = (
        f"{value:.6g}" for value in (healthy()[:, 2].mean(), healthy()[:, 2].min(), healthy()[:, 2].max())
    )
    sigma = (healthy()[:, 2].mean() - 5.0) / 2.0  # the deployment's normaliser
    assert f"flow {mean} {low} {high} 0 to 10 1 {sigma:+.2f}" in said
    assert "рump-9 ('\\u0440ump-9'), cycles 1 to 20" in said  # a Cyrillic р shows itself
    assert "without a baseline the model gives it" in said
    assert not Path("twin/commissioned").exists()
    code, said = terminal(command, "y\n")
    assert (0, True) == (code, "signed pump-1 version 1 signed рump-9 version 1" in said)
    code, said = terminal(f"{command} --unit pump-1 --yes")
    assert (0, True, True) == (code, "stands pump-1 version 1" in said, "commissioned before: version 1" in said)
    pd.DataFrame(telemetry(healthy(2))).to_csv("new.csv", index=False)
    code, said = terminal(f"{command} --yes")
    assert (1, True) == (code, "pump-1: expected no earlier baseline record, got version 1" in said)
    code, said = terminal(f"{command} --yes --replace")
    assert (0, True) == (
        code,
        "signed pump-1 version 2 the record that it replaces is kept: twin/commissioned/replaced/" in said,
    )
    code, said = terminal("audit show --state twin")
    assert (0, True, True) == (code, "commissioned" in said, "unit: pump-1" in said)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("commission new.csv --model pump-rul --as alice --yes", 1, "commissioner: expected one of emil, flora, got"),
        ("commission new.csv --model pump-rul --yes", 2, "Missing option '--as'"),
        ("commission - --model pump-rul --as emil --yes", 2, "expected a file, got the standard input"),
        ("commission none.csv --model pump-rul --as emil --yes", 1, "expected a file of telemetry, got none"),
        ("commission old.csv --model pump-rul --as emil --yes", 1, "got none of 1, 2, 3, 4"),
        ("commission new.csv --model pump-rul --as emil --yes --unit pump-2", 1, "expected units that it has"),
        (
            "commission new.csv --model pump-rul --as emil --yes --state none",
            1,
            "expected an installed model, got none",
        ),
        ("commission new.csv --model pump-rul --as emil --yes --key file:alice.pem", 1, "emil: expected the key"),
    ],
)
def test_what_cannot_be_signed_is_one_clear_message(
    terminal: Callable[..., tuple[int, str]], tmp_path: Path, line: str, code: int, says: str
) -> None:
    pd.DataFrame(telemetry(healthy())).to_csv("new.csv", index=False)
    pd.DataFrame(telemetry(healthy())[4:]).to_csv("old.csv", index=False)
    shutil.copy(tmp_path / "deployment/home/keys/alice.pem", "alice.pem")
    got, said = terminal(line)
    assert (code, True) == (got, says in said), said
    assert not list(tmp_path.rglob("commissioned/*.json"))


def test_what_is_not_used_is_said_at_the_start_of_a_run(
    terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    rows = [*telemetry(healthy()), *telemetry(healthy(9), "pump-9")]
    pd.DataFrame(rows).to_csv("new.csv", index=False)
    assert 0 == terminal("commission new.csv --model pump-rul --as emil --yes")[0]
    command = "run new.csv --model pump-rul --last"
    code, said = terminal(command)
    assert (0, False) == (code, "are not used" in said)
    (tmp_path / "twin/commissioned" / f"{unit_key('pump-1')}.dsse.json").write_bytes(b"{}")
    code, said = terminal(command)
    assert 0 == code
    assert "pump-1: its baseline record is not used, its life is estimated without it:" in said
    assert "pump-9: signed" not in said
    assert ["pump-1", "pump-9"] == [json.loads(line)["unit"] for line in _lines(terminal, f"{command} --json")]


def _lines(terminal: Callable[..., tuple[int, str]], line: str) -> list[str]:
    said = terminal(line)[1]
    return re.findall(r'\{"unit".*?\}', said)
