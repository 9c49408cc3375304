"""Enrolled lives: only what enough commissioners have signed counts; what they signed once is not taken back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.twin.deployment import MODEL, NOW, OTHER
from tests.twin.site import LATER, Site, killed_before_it_moves, killed_before_it_writes
from twinseal.digests import canonical_json
from twinseal.errors import (
    BusyError,
    EvidenceError,
    ExpiredError,
    KeyAccessError,
    RollbackError,
    SignatureError,
    ThresholdError,
    TrustError,
    TwinsealError,
)
from twinseal.trust.life_acts import Act
from twinseal.trust.life_record import Life, LifeRecord
from twinseal.trust.signing.dsse import sign_envelope
from twinseal.twin import locks, record_enroller
from twinseal.twin.enrolled_lives import LIVES, CurrentLives, enrolled_lives
from twinseal.twin.record_enroller import Enrolment, record_to_renew

NEW = Act("new machine", 0, 0)


class LifeSite(Site):
    """A site whose commissioners enroll machines."""

    def enroll(self, *units: str, **options: Any) -> Enrolment[LifeRecord]:
        return self.sign(LIVES, lambda record: record.with_machines(units, NEW, {}), **options)

    def act(self, unit: str, act: Act, **options: Any) -> Enrolment[LifeRecord]:
        return self.sign(LIVES, lambda record: record.with_act(unit, act, 0), **options)

    def retire(self, *units: str, **options: Any) -> Enrolment[LifeRecord]:
        return self.sign(LIVES, lambda record: record.without(units), **options)

    def enrolled(self) -> LifeRecord | None:
        return enrolled_lives(self.twin, self.anchor, MODEL, LATER)

    def units(self) -> list[str]:
        record = self.enrolled()
        return [] if record is None else sorted(record.acts)

    @property
    def file(self) -> Path:
        return self.twin / LIVES.file

    def put(self, record: LifeRecord, holder: str = "emil") -> None:
        self.file.write_bytes(sign_envelope(record.to_bytes(), self.key(holder)))


@pytest.fixture
def site(pulled: Path, tmp_path: Path) -> LifeSite:
    shutil.copytree(pulled, tmp_path / "site")
    return LifeSite(tmp_path / "site")


RECORD = LifeRecord(MODEL, 3, 1, {"pump-1": Life((NEW, Act("overhaul", 90, 0)))}, NOW)


def test_machines_are_enrolled_overhauled_retired_and_enrolled_again(site: LifeSite) -> None:
    current = CurrentLives(site.twin, site.anchor, MODEL)
    assert current.acts(LATER) is None
    assert 0 == site.enroll("pump-1", "pump-2").missing
    first = current.acts(LATER)
    assert {"pump-1": (NEW,), "pump-2": (NEW,)} == first
    assert current.acts(LATER) is first
    overhaul = Act("overhaul", 90, 0)
    site.act("pump-1", overhaul)
    site.retire("pump-2")
    assert {"pump-1": (NEW, overhaul)} == current.acts(LATER)
    site.enroll("pump-2")
    assert {"pump-1": (NEW, overhaul), "pump-2": (NEW, NEW)} == current.acts(LATER)
    entries = [details for event, details in site.log() if event == "lives"]
    assert ["2", "2", "1", "2"] == [details["units"] for details in entries]
    assert ["2", "3", "2", "4"] == [details["acts"] for details in entries]
    assert ["1", "2", "3", "4"] == [details["number"] for details in entries]


@pytest.mark.attack("T")
def test_a_record_that_is_changed_anywhere_does_not_count(site: LifeSite) -> None:
    """Somebody changes any byte of the life record: of what is signed, of a signature, or of what is around both."""
    site.enroll("pump-1")
    honest, role = site.file.read_bytes(), site.anchor.roles["commissioner"]
    assert ["pump-1"] == list(LIVES.verify(honest, role, "").acts)
    for at in range(len(honest)):
        with pytest.raises(TwinsealError):
            LIVES.verify(honest[:at] + bytes([honest[at] ^ 1]) + honest[at + 1 :], role, "")
    site.file.write_bytes(honest.replace(b"A", b"B"))
    with pytest.raises(TwinsealError):
        site.enrolled()


@pytest.mark.attack("T")
def test_an_older_life_record_does_not_come_back(site: LifeSite) -> None:
    """Somebody puts back the life record from before a machine was retired; or removes it."""
    site.enroll("pump-1")
    before = site.file.read_bytes()
    site.retire("pump-1")
    site.file.write_bytes(before)
    with pytest.raises(RollbackError, match="expected version >= 2, as seen before, got 1"):
        site.enrolled()
    with pytest.raises(RollbackError, match="expected version >= 2"):
        site.enroll("pump-2")
    site.file.unlink()
    with pytest.raises(EvidenceError, match="expected version 2, as seen before, got none"):
        site.enrolled()
    record = site.enroll("pump-2", anew=True).record
    assert (["pump-2"], 3, 3) == (site.units(), record.version, record.begun)


@pytest.mark.attack("T")
def test_only_commissioners_sign_acts(site: LifeSite) -> None:
    """A reviewer, or an attacker with a key of their own, signs an overhaul that never was."""
    site.enroll("pump-1")
    with pytest.raises(SignatureError, match="expected one of emil, flora, got 'alice'"):
        site.act("pump-1", Act("overhaul", 90, 0), holder="alice")
    with pytest.raises(KeyAccessError, match="expected the key"):
        site.act("pump-1", Act("overhaul", 90, 0), signer=site.key("alice"))
    assert ("refused", "lives") == (site.log()[-1][0], site.log()[-1][1]["attempted"])
    site.put(replace(RECORD, version=2), "alice")
    with pytest.raises(SignatureError, match="expected a signature by emil, flora"):
        site.enrolled()


@pytest.mark.attack("T")
def test_a_life_record_of_another_model_or_far_ahead_does_not_count(site: LifeSite) -> None:
    """A thief of a commissioner's key signs a life record of another model, far ahead, or a second version 1."""
    site.enroll("pump-1")
    for record, message in (
        (replace(RECORD, model=OTHER, version=2), f"expected the lives of {MODEL}, got those of {OTHER}"),
        (replace(RECORD, version=5000), "expected a version soon after 1, got 5000"),
        (replace(RECORD, version=1), "expected version 1 as seen before, got another"),
    ):
        site.put(record)
        with pytest.raises((EvidenceError, RollbackError), match=message):
            site.enrolled()


@pytest.mark.attack("T")
def test_a_running_twin_refuses_a_record_without_acts_that_it_knows(site: LifeSite) -> None:
    """A newer life record comes, signed, without an act that the running twin knows."""
    current = CurrentLives(site.twin, site.anchor, MODEL)
    site.put(RECORD)
    assert {"pump-1": RECORD.lives["pump-1"].acts} == current.acts(LATER)
    site.put(replace(RECORD, version=4, lives={"pump-1": Life((NEW,))}))
    for _ in range(2):
        with pytest.raises(RollbackError, match="expected the 2 acts of version 3 first, got others"):
            current.acts(LATER)
    site.put(replace(RECORD, version=5, begun=5, lives={"pump-1": Life((NEW,))}))
    assert {"pump-1": (NEW,)} == current.acts(LATER)


def test_two_commissioners_sign_one_after_the_other(site: LifeSite) -> None:
    site.two_must_sign()
    assert 1 == site.enroll("pump-1").missing
    assert site.enrolled() is None
    assert 1 == site.enroll("pump-1").missing  # the same again
    assert 0 == site.enroll("pump-1", holder="flora", now=LATER + timedelta(hours=1)).missing
    assert ["pump-1"] == site.units()
    assert 1 == site.act("pump-1", Act("overhaul", 90, 0), holder="flora").missing
    assert 1 == site.act("pump-1", Act("overhaul", 91, 0)).missing  # another proposal, by emil alone
    assert 0 == site.act("pump-1", Act("overhaul", 91, 0), holder="flora").missing
    record = site.enrolled()
    assert record is not None
    assert (NEW, Act("overhaul", 91, 0)) == record.acts["pump-1"]


@pytest.mark.attack("T")
def test_one_commissioner_does_not_make_a_machine_younger(site: LifeSite) -> None:
    """A thief of one commissioner's key moves the proposal of an overhaul into the place of the record."""
    site.two_must_sign()
    site.enroll("pump-1")
    (site.twin / LIVES.proposal).rename(site.file)
    with pytest.raises(ThresholdError, match="expected 2 of emil, flora to sign, got emil"):
        site.enrolled()


def test_two_commissioners_at_once_are_told(site: LifeSite) -> None:
    with (
        locks.only_one(site.twin / "commission.lock", "twinseal commission", LATER),
        pytest.raises(BusyError, match="no other twinseal unit"),
    ):
        site.enroll("pump-1")

    def meanwhile(record: LifeRecord) -> LifeRecord:
        site.put(RECORD)
        site.enrolled()  # a twin that starts meanwhile, with a record that was copied here
        return record.with_machines(["pump-1"], NEW, {})

    with pytest.raises(TrustError, match="expected no other record meanwhile, got one"):
        site.sign(LIVES, meanwhile)


def test_a_process_that_is_killed_after_its_log_leaves_the_new_record(
    site: LifeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.enroll("pump-1", "pump-2")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed_before_it_moves)
        site.retire("pump-1")
    assert ["pump-2"] == site.units()
    site.enroll("pump-3")
    assert ["pump-2", "pump-3"] == site.units()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(record_enroller, "_store", killed_before_it_writes)
        site.retire("pump-2")
    with pytest.raises(RollbackError, match="expected version >= 4"):
        site.enrolled()  # logged, and nowhere: nothing counts


def test_after_a_key_was_replaced_all_acts_are_signed_again(site: LifeSite) -> None:
    site.enroll("pump-1", "pump-2")
    site.act("pump-1", Act("overhaul", 90, 0))
    before = site.enrolled()
    assert before is not None
    site.new_key("emil")
    with pytest.raises(SignatureError, match="got one by another key"):
        site.enrolled()
    with pytest.raises(SignatureError, match="got one by another key"):
        site.enroll("pump-3")
    assert before == record_to_renew(LIVES, site.twin, site.anchor, MODEL, LATER)
    renewed = site.sign(LIVES, lambda record: record, "flora", renewing=True).record
    assert replace(before, version=3, time=renewed.time) == site.enrolled()


@pytest.mark.attack("T")
def test_only_what_counted_here_is_signed_again(site: LifeSite) -> None:
    """Somebody puts a record of their own in the place of the one that is to be signed again."""
    site.enroll("pump-1")
    site.new_key("emil")
    value = json.loads(site.file.read_bytes())
    site.put(replace(RECORD, version=2), "alice")
    for data in (site.file.read_bytes(), canonical_json(value | {"payload": ""}), b"{}"):
        site.file.write_bytes(data)
        with pytest.raises(EvidenceError, match="expected version 1, which this twin's log knows, got none"):
            record_to_renew(LIVES, site.twin, site.anchor, MODEL, LATER)
        with pytest.raises(EvidenceError, match="expected version 1, which this twin's log knows, got none"):
            site.sign(LIVES, lambda record: record, "flora", renewing=True)


def test_commissioners_whose_keys_are_not_pinned_do_not_sign_but_what_they_signed_counts(site: LifeSite) -> None:
    site.enroll("pump-1")
    late = NOW + timedelta(days=400)
    with pytest.raises(ExpiredError):
        site.retire("pump-1", now=late)
    assert site.enrolled() == enrolled_lives(site.twin, site.anchor, MODEL, late)


def test_what_could_not_be_read_again_is_not_signed(site: LifeSite) -> None:
    """A name full of brackets is counted as nested lists by the strict reader."""
    with pytest.raises(EvidenceError, match="expected at most 100000 lists and objects"):
        site.enroll(*(f"{'[' * 150}{n}" for n in range(700)))
    assert site.enrolled() is None
