from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata

from tests.trust.scenes import Scene
from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError, RootError, SignatureError, TwinsealError
from twinseal.evidence import PROVENANCE, REVIEW
from twinseal.trust.keys.key import KeySigner, fingerprint
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.pins import FIELD, REQUIRED, Holder, Pins, Requirement, RoleKeys

KEYS = [KeySigner(ec.generate_private_key(ec.SECP256R1())).public_key for _ in range(15)]
NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@st.composite
def role_tables(draw: st.DrawFn) -> dict[str, RoleKeys]:
    keys, table = draw(st.permutations(KEYS)), {}
    for index, role in enumerate(
        ("builder", "assessor", "reviewer", "commissioner", "owner", "root", "targets", "registrar")
    ):
        chosen = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
        holders = tuple(Holder(name, key) for name, key in zip(chosen, keys[index % 5 * 3 :], strict=False))
        until = draw(st.none() | st.just(datetime(2027, 1, 1, 6, tzinfo=UTC)))
        table[role] = RoleKeys(role, draw(st.integers(1, len(chosen))), holders, until)
    return table


@given(role_tables(), st.lists(st.sampled_from(["a", "b-c", "pump"]), min_size=1, unique=True), st.booleans())
def test_pins_read_back_as_themselves(roles: dict[str, RoleKeys], models: list[str], more: bool) -> None:
    evidence = (*REQUIRED, Requirement("bill", PROVENANCE, "builder")) if more else REQUIRED
    pins = Pins(tuple(models), roles, evidence, revoked=("0" * 64,), demo=more)
    assert pins == Pins.from_dict(parse_json(canonical_json(pins.to_dict()), "pins"))


def test_the_anchor_that_init_left_is_marked_as_a_demo(scene: Scene) -> None:
    assert scene.anchor == Anchor.read(scene.home.anchor_dir)
    assert (scene.anchor.demo, scene.anchor.roles["reviewer"].threshold) == (True, 2)


def test_what_the_root_says_cannot_be_edited(scene: Scene) -> None:
    for old, new in ((b'"demo":true', b'"demo":false'), (b'"threshold":2', b'"threshold":1')):
        assert old in scene.anchor.root
        with pytest.raises(RootError, match="expected a root of trust that signs itself"):
            Anchor(scene.anchor.root.replace(old, new))


def test_one_key_for_two_holders_is_refused() -> None:
    with pytest.raises(RootError, match="reviewer: expected a key each, got one key for alice and bruno"):
        RoleKeys("reviewer", 2, (Holder("alice", KEYS[0]), Holder("bruno", KEYS[0])))


@pytest.mark.attack(0)
def test_one_key_under_two_key_ids_is_refused() -> None:
    """The root pins one key under two key IDs, for two reviewers."""
    again = SSlibKey("f" * 64, KEYS[0].keytype, KEYS[0].scheme, KEYS[0].keyval)
    with pytest.raises(RootError, match="expected a key each, got one key for alice and bruno"):
        RoleKeys("reviewer", 2, (Holder("alice", KEYS[0]), Holder("bruno", again)))


@pytest.mark.attack(0)
def test_one_key_in_two_roles_is_refused(scene: Scene) -> None:
    """The root pins one key in two roles."""
    builder = scene.anchor.roles["builder"].holders[0]
    thief = RoleKeys("reviewer", 1, (Holder("mallory", builder.key),))
    with pytest.raises(RootError, match="expected a key in one role, got that of mallory in builder and reviewer"):
        replace(scene.anchor.pins, roles={**scene.anchor.roles, "reviewer": thief})
    for name in ("builder", "assessor", "reviewer"):
        held = scene.anchor.roles[name].holders[0]
        thief = RoleKeys("commissioner", 1, (Holder("mallory", held.key),))
        with pytest.raises(RootError, match=f"got that of mallory in {name} and commissioner"):
            replace(scene.anchor.pins, roles={**scene.anchor.roles, "commissioner": thief})


@pytest.mark.parametrize("threshold", [0, -1, 2, True, 1.0, "1"])
def test_a_threshold_out_of_reach_is_refused(threshold: Any) -> None:
    with pytest.raises(RootError, match="expected a threshold of 1 to 1"):
        RoleKeys("reviewer", threshold, (Holder("alice", KEYS[0]),))


def test_an_anchor_that_demands_less_evidence_is_refused(scene: Scene) -> None:
    for missing in REQUIRED:
        rest = tuple(item for item in REQUIRED if item != missing)
        with pytest.raises(RootError, match=f"expected the evidence of every stage, got none for {missing.name}"):
            replace(scene.anchor.pins, evidence=rest)
        by_another = (*rest, replace(missing, role="reviewer"))
        with pytest.raises(RootError, match=f"got none for {missing.name}"):
            replace(scene.anchor.pins, evidence=by_another)
    by_commissioner = (*REQUIRED, Requirement("bill", PROVENANCE, "commissioner"))
    with pytest.raises(RootError, match="expected a known predicate and role for bill"):
        replace(scene.anchor.pins, evidence=by_commissioner)
    with pytest.raises(RootError, match="expected each evidence once"):
        replace(scene.anchor.pins, evidence=(*REQUIRED, Requirement("train", REVIEW, "reviewer")))


def test_asking_for_a_stage_that_is_not_pinned_is_refused(scene: Scene) -> None:
    with pytest.raises(EvidenceError, match="expected one of .*got 'rumour'"):
        scene.anchor.requirement("rumour")


def test_a_revoked_key_in_a_role_is_refused(scene: Scene) -> None:
    gone = fingerprint(scene.anchor.roles["reviewer"].key_of("bruno"))
    with pytest.raises(RootError, match="expected keys that count, got the revoked one of bruno in reviewer"):
        replace(scene.anchor.pins, revoked=(gone,))


def _root(scene: Scene, edit: Callable[[Metadata[Any]], None], *signers: str) -> bytes:
    metadata: Metadata[Any] = Metadata.from_bytes(scene.anchor.root)
    edit(metadata)
    metadata.signatures.clear()
    for name in signers:
        metadata.sign(scene.signer(name), append=True)
    return metadata.to_bytes()


def _nothing(_: Metadata[Any]) -> None:
    pass


def _one_key_twice(metadata: Metadata[Any]) -> None:
    root = metadata.signed
    first = root.keys[root.roles["root"].keyids[0]]
    root.add_key(SSlibKey("0" * 64, first.keytype, first.scheme, first.keyval), "root")


def _other_custodians_in_words(metadata: Metadata[Any]) -> None:
    """The keys that TUF counts are two custodians' of three; the names say three."""
    root = metadata.signed
    root.revoke_key(root.roles["root"].keyids[2], "root")


def _no_pins(metadata: Metadata[Any]) -> None:
    del metadata.signed.unrecognized_fields[FIELD]


def _inconsistent(metadata: Metadata[Any]) -> None:
    metadata.signed.consistent_snapshot = False


@pytest.mark.attack(0)
@pytest.mark.parametrize(
    ("edit", "signers", "message"),
    [
        (_nothing, ["custodian-1"], "root was signed by 1/2 keys"),
        (_nothing, ["alice", "bruno"], "root was signed by 0/2 keys"),
        (_nothing, [], "root was signed by 0/2 keys"),
        (_one_key_twice, ["custodian-1", "custodian-2"], "one key under two identifiers"),
        (_inconsistent, ["custodian-1", "custodian-2"], "expected consistent snapshots"),
        (
            _other_custodians_in_words,
            ["custodian-1", "custodian-2"],
            "expected root to be held by those whom x-twinseal",
        ),
        (_no_pins, ["custodian-1", "custodian-2"], "x-twinseal: x-twinseal: expected exactly schema"),
    ],
)
def test_a_root_with_wrong_signatures_keys_or_pins_is_refused(
    scene: Scene, edit: Callable[[Metadata[Any]], None], signers: list[str], message: str
) -> None:
    """A root with too few signatures, one key under two key IDs, no pins, or pins that differ from its keys."""
    root = _root(scene, edit, *signers)
    with pytest.raises(RootError, match=message):
        Anchor(root)


def test_an_absent_anchor_is_refused_with_the_way_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RootError, match="expected a trust anchor") as caught:
        Anchor.read(tmp_path)
    assert "twinseal init --demo" in caught.value.remedy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "other"),
        ("schema", "https://twinseal.dev/anchor/v1"),
        ("roles", {}),
        ("models", "pump-rul"),
        ("models", []),
        ("models", ["root"]),
        ("models", [1]),
        ("evidence", [["train"]]),
        ("evidence", [[1, 2, 3]]),
        ("evidence", []),
        ("roles.reviewer.threshold", "2"),
        ("roles.reviewer.holders", []),
        ("roles.reviewer.holders", [{"name": "alice", "public": "junk"}]),
        ("roles.reviewer.holders", [{"name": "alice", "public": None}]),
        ("roles.reviewer.extra", 1),
        ("roles.reviewer.expires", "soon"),
        ("roles.reviewer.expires", 1),
        ("revoked", ["x"]),
        ("revoked", ["b" * 64, "a" * 64]),
        ("revoked", "a" * 64),
        ("demo", 1),
        ("extra", 1),
    ],
)
def test_malformed_pins_are_refused_also_when_custodians_sign_them(scene: Scene, path: str, value: Any) -> None:
    def edit(metadata: Metadata[Any]) -> None:
        place = metadata.signed.unrecognized_fields[FIELD]
        *parents, last = path.split(".")
        for name in parents:
            place = place[name]
        place[last] = value

    root = _root(scene, edit, "custodian-1", "custodian-2")
    with pytest.raises(RootError):
        Anchor(root)


@given(st.binary(max_size=400))
def test_hostile_bytes_are_no_anchor_and_no_traceback(data: bytes) -> None:
    with pytest.raises(RootError):
        Anchor(data)


def test_nobody_elses_key_is_found_under_a_name(scene: Scene) -> None:
    reviewers = scene.anchor.roles["reviewer"]
    assert reviewers.holder_of(reviewers.key_of("alice").keyid) == "alice"
    assert reviewers.holder_of("0" * 64) == ""
    with pytest.raises(SignatureError, match="reviewer: expected one of alice, bruno, chiara, got 'mallory'"):
        reviewers.key_of("mallory")
    assert issubclass(SignatureError, TwinsealError)
