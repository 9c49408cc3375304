"""What a custodian signs is what policy leads to, and all of it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from tests.trust.ceremonies.test_ceremony import without
from tests.trust.scenes import NOW, POLICY, Scene
from twinseal.errors import ExpiredError, RootError
from twinseal.trust.ceremonies import ceremony, custody
from twinseal.trust.ceremonies.custody import Proposal, compose_root, compose_targets
from twinseal.trust.ceremonies.inspection import inspect
from twinseal.trust.keys.key import fingerprint, generate_key_pair, read_public_key
from twinseal.trust.root.home import Home
from twinseal.trust.root.pins import Holder, Pins, Requirement, RoleKeys
from twinseal.trust.root.roles import Roles

LATER = NOW + timedelta(hours=1)
Y2099 = datetime(2099, 1, 1, tzinfo=UTC)


def renewal(scene: Scene) -> Proposal:
    keys = {h.name: h.key for role in scene.anchor.roles.values() for h in role.holders}
    return custody.propose(scene.home, custody.pins_of(scene.roles, keys, LATER, demo=True), scene.roles, LATER)


def test_an_honest_renewal_is_shown_in_words(released: Scene) -> None:
    lines = list(inspect(released.home, renewal(released), released.roles, LATER).lines(LATER))
    assert lines[:5] == [
        "root: version 2 (was 1), valid until 2027-03-01 (365 days)",
        "delegation: version 2 (the next), valid until 2027-03-01 (365 days)",
        "root: 2 of custodian-1, custodian-2, custodian-3",
        "targets: 2 of custodian-1, custodian-2, custodian-3",
        "builder: 1 of builder, valid until 2027-03-01 (365 days)",
    ]
    assert lines[-3] == "models: pump-rul, turbofan-rul, turbofan-fd002-rul, turbofan-fd003-rul"
    assert lines[-2].startswith("evidence of a release: ingest by builder, validate by assessor")
    assert lines[-1] == "throw-away keys: a demo"


def test_what_a_rotation_and_a_revocation_change_is_marked(released: Scene, tmp_path: Path) -> None:
    shown: list[list[str]] = []

    def read(home: Home) -> None:
        shown.append(list(inspect(home, Proposal.read(home.proposal_dir), released.roles, LATER).lines(LATER)))

    for name in ("custodian-1", "custodian-2", "custodian-3"):  # so that the proposal waits
        (released.home.keys / f"{name}.pem").rename(tmp_path / f"{name}.pem")
    old = fingerprint(released.anchor.roles["reviewer"].key_of("alice"))
    ceremony.rotate(released.home, released.roles, "alice", LATER)
    read(released.home)
    fresh = fingerprint(read_public_key(released.home.keys / "next/alice.pub"))
    assert f"  new key of alice: {fresh}, was {old[:16]}…" in shown[0]
    assert f"  revoked for good: key {old}" in shown[0]
    for path in released.home.proposal_dir.iterdir():
        path.unlink()
    released.home.proposal_dir.rmdir()
    ceremony.revoke(released.home, released.roles, "chiara", LATER)
    read(released.home)
    assert "  removed chiara" in shown[1]
    assert "reviewer: 2 of alice, bruno" in shown[1]


def test_a_renewal_by_a_changed_policy_shows_what_was(released: Scene) -> None:
    table = released.roles.roles
    lax = table.model_copy(update={"reviewer": table.reviewer.model_copy(update={"threshold": 1})})
    roles = released.roles.model_copy(update={"roles": lax, "models": ("pump-rul",)})
    keys = {h.name: h.key for role in released.anchor.roles.values() for h in role.holders}
    proposal = custody.propose(released.home, custody.pins_of(roles, keys, LATER, demo=True), roles, LATER)
    lines = list(inspect(released.home, proposal, roles, LATER).lines(LATER))
    assert "reviewer: 1 (was 2) of alice, bruno, chiara" in lines
    assert "models: pump-rul (was pump-rul, turbofan-rul, turbofan-fd002-rul, turbofan-fd003-rul)" in lines
    with pytest.raises(
        RootError, match=r"reviewer: expected 2 of alice, bruno, chiara \(policy/roles.yaml\), got 1 of"
    ):
        inspect(released.home, proposal, released.roles, LATER)


Edit = Callable[[Scene, Proposal, Path], Proposal]
UNTIL = NOW + timedelta(days=365)


def with_pins(change: Callable[[Pins, Path], Pins]) -> Edit:
    def edit(_: Scene, proposal: Proposal, folder: Path) -> Proposal:
        pins = change(proposal.pins, folder)
        return Proposal(compose_root(pins, 2, UNTIL), compose_targets(pins, 2, UNTIL))

    return edit


def with_role(name: str, **changes: object) -> Edit:
    return with_pins(
        lambda pins, _: replace(pins, roles={**pins.roles, name: replace(pins.roles[name], **changes)})  # type: ignore[arg-type]
    )


def anew(**changes: object) -> Edit:
    """The honest pins, with other versions or expiries of root and delegation."""
    made = {"root": 2, "targets": 2, "root_until": UNTIL, "targets_until": UNTIL} | changes

    def edit(_: Scene, proposal: Proposal, __: Path) -> Proposal:
        pins = proposal.pins
        root = compose_root(pins, made["root"], made["root_until"])  # type: ignore[arg-type]
        return Proposal(root, compose_targets(pins, made["targets"], made["targets_until"]))  # type: ignore[arg-type]

    return edit


def _stranger(folder: Path) -> Holder:
    return Holder("mallory", generate_key_pair(folder / "mallory.pem", passphrase=None))


def _another_key(pins: Pins, folder: Path) -> Pins:
    role = pins.roles["reviewer"]
    key = _stranger(folder).key
    holders = tuple(Holder(h.name, key if h.name == "alice" else h.key) for h in role.holders)
    return replace(pins, roles={**pins.roles, "reviewer": replace(role, holders=holders)})


def _one_more_reviewer(pins: Pins, folder: Path) -> Pins:
    role = pins.roles["reviewer"]
    more = replace(role, holders=(*role.holders, _stranger(folder)))
    return replace(pins, roles={**pins.roles, "reviewer": more})


def _rotation_that_does_more(pins: Pins, folder: Path) -> Pins:
    changed = _another_key(pins, folder)
    old = fingerprint(pins.roles["reviewer"].key_of("alice"))
    fewer: RoleKeys = replace(changed.roles["reviewer"], threshold=1)
    return replace(changed, roles={**changed.roles, "reviewer": fewer}, revoked=(old,))


def _two_revoked(pins: Pins, _: Path) -> Pins:
    role = pins.roles["reviewer"]
    old = tuple(sorted(fingerprint(role.key_of(name)) for name in ("alice", "bruno")))
    left = replace(role, threshold=1, holders=tuple(h for h in role.holders if h.name == "chiara"))
    return replace(pins, roles={**pins.roles, "reviewer": left}, revoked=old)


def _stranger_revoked(pins: Pins, _: Path) -> Pins:
    return replace(pins, revoked=("a" * 64,))


def _more_evidence(pins: Pins, _: Path) -> Pins:
    return replace(pins, evidence=(*pins.evidence, Requirement("more", pins.evidence[0].predicate_type, "builder")))


def _hidden_field(_: Scene, proposal: Proposal, __: Path) -> Proposal:
    root = Metadata[Root].from_bytes(proposal.root)
    root.signed.unrecognized_fields["x-more"] = "signed, and never shown"
    return Proposal(root.to_bytes(), proposal.targets)


def _hidden_key(scene: Scene, proposal: Proposal, _: Path) -> Proposal:
    root = Metadata[Root].from_bytes(proposal.root)
    root.signed.keys["f" * 64] = scene.signer("alice").public_key
    return Proposal(root.to_bytes(), proposal.targets)


def _hidden_target(scene: Scene, proposal: Proposal, _: Path) -> Proposal:
    targets = Metadata[Targets].from_bytes(proposal.targets)
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    targets.signed.delegations.roles["pump-rul"].threshold = 1
    return Proposal(proposal.root, targets.to_bytes())


ATTACKS: dict[str, tuple[Edit, str]] = {
    "root until 2099": (anew(root_until=Y2099), r"root.json: expected an end by 2027-03-01 .*, got 2099-01-01"),
    "delegation until 2099": (anew(targets_until=Y2099), r"targets.json: expected an end by 2027-03-01 .*got 2099"),
    "builder until 2099": (with_role("builder", expires=Y2099), "pins of builder: expected an end by 2027-03-01"),
    "builder for ever": (with_role("builder", expires=None), "pins of builder: expected an end by .*, got none"),
    "reviewers with an end": (with_role("reviewer", expires=UNTIL), "reviewer: expected no end of its own, got 2027"),
    "lower threshold": (with_role("reviewer", threshold=1), "reviewer: expected 2 of alice, bruno, chiara .*, got 1"),
    "another key": (with_pins(_another_key), "reviewer: expected alice to keep the key, got another"),
    "one more reviewer": (with_pins(_one_more_reviewer), "reviewer: expected 2 of alice, .*, got 2 of .*, mallory"),
    "a rotation and a threshold": (with_pins(_rotation_that_does_more), "reviewer: expected the role as before, but"),
    "two revoked": (with_pins(_two_revoked), "revoked: expected one key of one holder more, got 2"),
    "nobody's key revoked": (
        with_pins(_stranger_revoked),
        "revoked: expected one key of one holder more, got 1, of no",
    ),
    "more evidence": (with_pins(_more_evidence), "evidence: expected ingest, .*, got ingest, .*, more"),
    "another model": (
        with_pins(lambda pins, _: replace(pins, models=(*pins.models, "mallory-rul"))),
        r"models: expected pump-rul, turbofan-rul, .* \(policy/roles.yaml\), got .*mallory-rul",
    ),
    "no demo any more": (with_pins(lambda pins, _: replace(pins, demo=False)), "demo: expected True, got False"),
    "root version 9": (anew(root=9), "root.json: expected version 2, the next, got 9"),
    "delegation version 9": (anew(targets=9), "targets.json: expected version 2, the next, got 9"),
    "delegation version 1 again": (
        anew(targets=1, targets_until=UNTIL - timedelta(days=1)),
        "targets.json: expected version 2, the next, got 1",
    ),
    "a field beside": (_hidden_field, "root.json: expected what its pins lead to and nothing else, got more"),
    "a key beside": (_hidden_key, "root.json: expected what its pins lead to and nothing else, got more"),
    "a delegation beside": (_hidden_target, "targets.json: expected what its pins lead to and nothing else, got more"),
}


@pytest.mark.attack("P")
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_proposal_that_policy_does_not_lead_to_is_not_signed(released: Scene, tmp_path: Path, attack: str) -> None:
    """The proposed root was changed on its way: expiry, threshold, key, model or a hidden field. Nobody signs."""
    honest, (edit, message) = renewal(released), ATTACKS[attack]
    inspect(released.home, honest, released.roles, LATER)
    changed = edit(released, honest, tmp_path)
    changed.write(released.home.proposal_dir)
    with pytest.raises(RootError, match=message) as refusal:
        ceremony.finish(released.home, released.roles, LATER)
    assert "Do not sign it" in refusal.value.remedy
    assert changed == Proposal.read(released.home.proposal_dir)  # without a signature
    assert released.anchor == released.home.anchor()
    honest.write(released.home.proposal_dir)
    assert ceremony.finish(released.home, released.roles, LATER).anchor is not None


def test_a_proposal_that_waited_too_long_is_made_again(released: Scene) -> None:
    with pytest.raises(ExpiredError, match="root.json: expected an end after 2027-03-02"):
        inspect(released.home, renewal(released), released.roles, LATER + timedelta(days=366))


@pytest.mark.attack("P")
def test_a_proposal_that_is_exchanged_after_it_was_shown_is_not_signed(released: Scene) -> None:
    """The proposal is exchanged between reading and signing: nothing is signed."""
    shown = renewal(released)
    anew(root_until=UNTIL - timedelta(days=1))(released, shown, Path()).write(released.home.proposal_dir)
    with pytest.raises(RootError, match="expected the proposal that was shown, got another one since"):
        ceremony.finish(released.home, released.roles, LATER, shown=shown)
    assert released.anchor == released.home.anchor()


@pytest.mark.attack("P")
def test_the_first_root_is_what_policy_says_too(tmp_path: Path) -> None:
    """The proposal of the very first root was changed: a reviewer left out, until 2099, revoked, or a demo."""
    roles, home = Roles.load(POLICY), Home(tmp_path / "home")
    keys = {name: generate_key_pair(home.keys / f"{name}.pem", passphrase=None) for name in roles.holders}
    pins = custody.pins_of(roles, keys, NOW)
    inspect(home, custody.propose(home, pins, roles, NOW), roles, NOW)
    fewer = without(roles, "chiara")
    less = custody.pins_of(fewer, keys, NOW)
    for changed, message in (
        (custody.propose(home, less, roles, NOW), "reviewer: expected 2 of alice, bruno, chiara"),
        (custody.propose(home, replace(pins, demo=True), roles, NOW), "demo: expected False, got True"),
        (custody.propose(home, replace(pins, revoked=("a" * 64,)), roles, NOW), "no key in a first root, got 1"),
        (
            Proposal(compose_root(pins, 2, UNTIL), compose_targets(pins, 1, UNTIL)),
            "expected the root that version 2 succeeds",
        ),
        (Proposal(compose_root(pins, 1, Y2099), compose_targets(pins, 1, UNTIL)), "root.json: expected an end by 2027"),
    ):
        changed.write(home.proposal_dir)
        with pytest.raises(RootError, match=message):
            ceremony.finish(home, roles, NOW)
    assert not home.anchor_dir.exists()
    for path in home.proposal_dir.iterdir():
        path.unlink()
    home.proposal_dir.rmdir()
    assert ceremony.init(home, roles, NOW).anchor is not None


def test_a_custodian_elsewhere_has_no_repository_and_is_told_so(released: Scene, tmp_path: Path) -> None:
    elsewhere = Home(tmp_path / "elsewhere")
    released.anchor.write(elsewhere.anchor_dir)
    inspected = inspect(elsewhere, renewal(released), released.roles, LATER)
    assert "the last one is not known on this machine" in list(inspected.lines(LATER))[1]
