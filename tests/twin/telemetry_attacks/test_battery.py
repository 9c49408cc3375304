"""The battery against telemetry: each attack is refused by its name, and the honest rows are answered as without it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.twin.deployment import WINDOW
from tests.twin.telemetry_attacks import bodies, messages, order, own, topics  # noqa: F401  # their attacks
from tests.twin.telemetry_attacks.attack import ATTACKS, Attack, Sent
from tests.twin.telemetry_attacks.scene import Honest, Scene, Told, answers_of
from twinseal.twin.answers import Answer
from twinseal.twin.devices import DEVICES
from twinseal.twin.enrolled_lives import LIVES
from twinseal.twin.frame_gate import Taken
from twinseal.twin.inputs.source import Item, SignedFrame
from twinseal.twin.signed_records import RecordKind

LONGEST_MESSAGE = 600
LAST_DIGITS = 1e-4  # cycles


def named(attacks: Iterable[Attack]) -> list[ParameterSet]:
    return [pytest.param(item, id=item.name, marks=[pytest.mark.proof] if item.slow else []) for item in attacks]


def items_of(sent: Sent) -> list[Item]:
    return [SignedFrame(item, "test") if isinstance(item, bytes) else item for item in as_list(sent)]


def as_list(sent: Sent) -> Sequence[bytes | Item]:
    return [sent] if isinstance(sent, bytes) else sent


def check_told(attack: Attack, told: Sequence[Told], number: int) -> None:
    reasons = ["taken" if isinstance(item, Taken) else item.reason for item in told]
    assert [attack.expected] * number == reasons
    for item in told:
        if not isinstance(item, Taken):
            assert item.message.isprintable()
            assert len(item.message) <= LONGEST_MESSAGE


def check_same(expected: Sequence[Answer], got: Sequence[Answer], *, exact: bool) -> None:
    """Bit for bit; but where other rows are in a batch, its sums are in another order: within LAST_DIGITS."""
    if exact:
        assert expected == got
        return
    assert len(expected) == len(got)
    for one, other in zip(expected, got, strict=True):
        numbers = {name: getattr(one, name) for name in ("rul_cycles", "low_cycles", "high_cycles")}
        assert numbers == pytest.approx({name: getattr(other, name) for name in numbers}, abs=LAST_DIGITS)
        assert one == replace(other, **numbers)


def check_honest(scene: Scene, honest: Honest, attack: Attack) -> None:
    """One more round, which the attack comes before."""
    sent = items_of(attack.make(scene))
    assert sent
    before = dict(scene.counts)
    frames = [item.message for item in sent if isinstance(item, SignedFrame)]
    if len(frames) == len(sent) and not attack.clock:
        told, answers = scene.go_on(*frames)
    else:
        said = scene.hear(sent, now=scene.now + attack.clock)
        told = list(said.told)
        check_unknown(said.answers, len(sent) if attack.expected == "answered" else 0)
        _, answers = scene.go_on()
    check_told(attack, told, 0 if attack.expected == "answered" else len(sent))
    if len(frames) == len(sent) and attack.expected != "taken":
        counted = scene.counts[attack.expected] - before.get(attack.expected, 0)
        assert counted >= len(sent) if attack.harms else counted == len(sent)
    check_same(honest.answers(scene.round, attack.harms), answers_of(answers, attack.harms), exact=not attack.harms)


def check_unknown(answers: Sequence[Answer], number: int) -> None:
    """Answers to rows that nobody signed, of machines that nobody enrolled."""
    assert number == len(answers)
    for answer in answers:
        assert answer.signed is False
        assert answer.advice.startswith("inspect now") or "unknown machine" in answer.advice


@pytest.fixture(scope="module")
def unsigned(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A scene whose operator allows rows that nobody signed."""
    path = tmp_path_factory.mktemp("unsigned") / "site"
    shutil.copytree(prepared, path)
    return Scene.prepared(path, unsigned=True)


@pytest.fixture(scope="module")
def shared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    path = tmp_path_factory.mktemp("shared") / "site"
    shutil.copytree(prepared, path)
    return Scene.prepared(path)


@pytest.mark.attack("T")
@pytest.mark.parametrize("attack", named(item for item in ATTACKS if not item.harms))
def test_an_attack_is_refused_and_nobody_else_notices(
    shared: Scene, unsigned: Scene, honest: Honest, attack: Attack
) -> None:
    """Each attack of the battery, before and behind honest frames: docs/robustness/telemetry.md lists them."""
    check_honest(unsigned if attack.unsigned else shared, honest, attack)


@pytest.mark.attack("T")
@pytest.mark.parametrize("attack", named(item for item in ATTACKS if item.harms))
def test_an_enrolled_device_harms_its_own_machine_alone(scene: Scene, honest: Honest, attack: Attack) -> None:
    """An enrolled device, or the thief of its key, lies about its machine: no other one is harmed, and it ends."""
    check_honest(scene, honest, attack)
    for _ in range(2):
        scene.restart()
        _, answers = scene.go_on()
        check_same(honest.answers(scene.round, attack.harms), answers_of(answers, attack.harms), exact=False)
    if attack.way_out is None:
        return
    attack.way_out(scene)
    for _ in range(WINDOW):
        _, answers = scene.go_on()
        check_same(honest.answers(scene.round, attack.harms), answers_of(answers, attack.harms), exact=False)
    assert set(attack.harms) <= {item.unit for item in answers if item.readings != "refused"}


@pytest.mark.attack("T")
def test_what_was_attacked_answers_on_after_kill_9(shared: Scene, honest: Honest) -> None:
    """The twin that all of these attacks were tried on is killed: it goes on as one that nobody attacked."""
    shared.restart()
    _, answers = shared.go_on()
    assert honest.answers(shared.round) == answers


@pytest.mark.proof
@pytest.mark.parametrize("attack", named(item for item in ATTACKS if not item.harms))
def test_an_attack_comes_again_after_kill_9(tmp_path: Path, prepared: Path, honest: Honest, attack: Attack) -> None:
    shutil.copytree(prepared, tmp_path / "site")
    scene = Scene.prepared(tmp_path / "site", unsigned=attack.unsigned)
    for _ in range(3):
        check_honest(scene, honest, attack)
        scene.restart()


def spoiled(how: str, data: bytes, file: Path, first: bytes) -> None:
    """What somebody has done to a record who may write in the twin's directory."""
    file.unlink()
    if how == "changed":
        file.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    elif how == "an older one":
        file.write_bytes(first)
    elif how == "cut":
        file.write_bytes(data[:-20])
    elif how == "a folder":
        file.mkdir()
    elif how == "a link":
        file.with_suffix(".away").write_bytes(data)
        file.symlink_to(file.with_suffix(".away"))
    elif how == "five megabytes":
        file.write_bytes(b"[" * (5 << 20))


@pytest.mark.attack("T")
@pytest.mark.parametrize("kind", [DEVICES, LIVES], ids=["devices", "machines"])
@pytest.mark.parametrize("how", ["removed", "changed", "an older one", "cut", "a folder", "a link", "five megabytes"])
def test_a_record_is_spoiled_while_the_twin_runs(scene: Scene, how: str, kind: RecordKind[Any]) -> None:
    """Somebody who may write in the twin's directory spoils a record: no frame is taken until it is as it was."""
    file = scene.twin / kind.file
    first = file.read_bytes()
    scene.sign(kind, lambda record: record, now=scene.now)
    scene.go_on()
    data = file.read_bytes()
    spoiled(how, data, file, first)
    for _ in range(2):
        said = scene.hear([SignedFrame(scene.honest("gate-1"), "test")])
        assert ["unknown device"] == said.reasons()
        assert scene.live.devices.fault
        assert not said.answers
        scene.restart()
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    file.unlink(missing_ok=True)
    file.write_bytes(data)
    _, answers = scene.go_on()
    assert ["ok"] * 3 == [answer.readings for answer in answers]
