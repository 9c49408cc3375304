"""A log that was changed or lost stops no ceremony that is needed to recover: it is set aside, and another says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trust.scenes import NOW, Scene
from twinseal.errors import AuditError
from twinseal.trust.audit import log_of, verify
from twinseal.trust.ceremonies import ceremony

ASIDE = f"log.tampered-{NOW:%Y%m%dT%H%M%SZ}"


def tile(log: Path, level: str) -> Path:
    return max((path for path in (log / "tile" / level).rglob("*") if path.is_file()), key=lambda path: path.name)


def flip(path: Path, position: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def content(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def an_entry_is_edited(log: Path) -> None:
    flip(tile(log, "entries"), 40)
    flip(tile(log, "0"), 3)


def the_checkpoint_is_edited(log: Path) -> None:
    flip(log / "checkpoint", -5)


def the_history_is_cut(log: Path) -> None:
    (log / "checkpoints").write_bytes((log / "checkpoints").read_bytes()[:-40])


def the_key_is_another(log: Path) -> None:
    (log / "key").unlink()
    (log / "vkey").write_text("nonsense")


def the_key_is_lost(log: Path) -> None:
    (log / "key").unlink()


def the_tiles_are_gone(log: Path) -> None:
    shutil.rmtree(log / "tile")


def it_is_a_link_to_nowhere(log: Path) -> None:
    shutil.rmtree(log)
    log.symlink_to("nowhere")


def it_is_a_file(log: Path) -> None:
    shutil.rmtree(log)
    log.write_text("no log")


DAMAGE = [an_entry_is_edited, the_checkpoint_is_edited, the_history_is_cut, the_key_is_another, the_key_is_lost]
DAMAGE += [the_tiles_are_gone, it_is_a_link_to_nowhere, it_is_a_file]


@pytest.mark.attack("P")
@pytest.mark.parametrize("damage", DAMAGE)
def test_the_audit_log_is_damaged_to_stop_a_revocation(stage: Scene, damage: Callable[[Path], None]) -> None:
    """The audit log is damaged so that nothing can be revoked: refused, until custodians ask for another log."""
    home, log = stage.home, log_of(stage.home.path)
    ceremony.renew(home, stage.roles, NOW)
    old_key = log.head().vkey
    damage(log.path)
    evidence = content(log.path)
    with pytest.raises(AuditError) as refusal:
        ceremony.revoke(home, stage.roles, "chiara", NOW)
    assert "twinseal trust sign --new-log" in refusal.value.remedy
    assert 2 == home.anchor().version
    assert not list(home.path.glob("log.tampered-*")), "nothing is set aside unless it is asked for"
    done = ceremony.finish(home, stage.roles, NOW, new_log=True)
    assert done.anchor == home.anchor()
    assert 3 == home.anchor().version
    entries = [entry for _, entry in log.read()]
    assert ["replaced", "revoked"] == [entry.event for entry in entries]
    assert (ASIDE, "custodian-1, custodian-2, custodian-3") == (entries[0].details["kept"], entries[0].actor)
    assert entries[0].details["reason"]
    if damage not in (the_key_is_another, it_is_a_link_to_nowhere, it_is_a_file):
        assert old_key == entries[0].details["key"]
    assert evidence == content(home.path / ASIDE)
    assert old_key != log.head().vkey
    assert 2 == verify(log.path).size
    ceremony.rotate(home, stage.roles, "alice", NOW)
    assert 3 == verify(log.path).size


@pytest.mark.parametrize("change", ["renew", "rotate", "revoke"])
def test_each_ceremony_can_ask_for_it(stage: Scene, change: str) -> None:
    the_checkpoint_is_edited(log_of(stage.home.path).path)
    if change == "renew":
        ceremony.renew(stage.home, stage.roles, NOW, new_log=True)
    else:
        getattr(ceremony, change)(stage.home, stage.roles, "alice", NOW, new_log=True)
    assert 2 == stage.home.anchor().version


def test_the_first_entry_says_up_to_where_the_old_log_was_sound(stage: Scene) -> None:
    log = log_of(stage.home.path)
    for _ in range(2):
        ceremony.renew(stage.home, stage.roles, NOW)
    sound = log.head()
    flip(log.path / "checkpoint", -5)  # the entries, and all that was signed before, still fit
    ceremony.renew(stage.home, stage.roles, NOW, new_log=True)
    details = log.read(0, 1)[0][1].details
    assert ("3", sound.root.hex(), sound.vkey) == tuple(details[k] for k in ("sound_entries", "sound_root", "key"))


@pytest.mark.attack("P")
def test_a_sound_log_is_replaced_to_hide_what_it_says(stage: Scene) -> None:
    """Somebody asks for another log where nothing is wrong with the old one: refused, and the old one goes on."""
    before = log_of(stage.home.path).head()
    with pytest.raises(AuditError, match="expected a log that does not verify, got one that does"):
        ceremony.renew(stage.home, stage.roles, NOW, new_log=True)
    assert before == log_of(stage.home.path).head()
    assert 1 == stage.home.anchor().version
    ceremony.finish(stage.home, stage.roles, NOW)
    assert ["anchored", "renewed"] == [entry.event for _, entry in log_of(stage.home.path).read()]


def test_a_lost_log_and_an_interrupted_replacement_are_named(stage: Scene) -> None:
    log = log_of(stage.home.path)
    log.path.rename(stage.home.path / "log.tampered-20260101T000000Z")  # killed before the new log began
    with pytest.raises(AuditError, match="expected the audit log that the first root began, got none"):
        ceremony.renew(stage.home, stage.roles, NOW)
    ceremony.finish(stage.home, stage.roles, NOW, new_log=True)
    details = log.read(0, 1)[0][1].details
    assert "log.tampered-20260101T000000Z" == details["kept"]
    assert "got none" in details["reason"]


def test_two_logs_are_set_aside_one_after_the_other(stage: Scene) -> None:
    for _ in range(2):
        the_checkpoint_is_edited(log_of(stage.home.path).path)
        ceremony.renew(stage.home, stage.roles, NOW, new_log=True)
    assert 2 == len(list(stage.home.path.glob("log.tampered-*")))
