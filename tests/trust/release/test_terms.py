"""What is signed beside the files: versions and expiry, at the reviewer's, at the registrar's and at the twin's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Targets

from tests.trust.scenes import NOW, Disk, Scene, describe, put
from twinseal.errors import EvidenceError, ExpiredError, RollbackError, SignatureError, TwinsealError
from twinseal.trust.audit import Log
from twinseal.trust.keys.key import NamedSigner
from twinseal.trust.release import repository
from twinseal.trust.release.approval import approve, read_all
from twinseal.trust.release.client import refresh
from twinseal.trust.release.model_role import compose_role, sign_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.release.terms import SLACK, LastPublished, check_terms

MODEL = "pump-rul"
Y2099 = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
def following(honest_bundle: Path) -> Release:
    return describe(honest_bundle, version=2)


@pytest.fixture
def until(released: Scene) -> datetime:
    return released.roles.expiry("reviewer", NOW)


def terms_of(scene: Scene, request: Request, now: datetime = NOW) -> object:
    last = repository.last_published(scene.home, MODEL)
    return check_terms(request, anchor=scene.anchor, roles=scene.roles, last=last, now=now)


def test_the_terms_of_what_submit_stages_are_shown_in_words(released: Scene, following: Release) -> None:
    until = released.roles.expiry("reviewer", NOW)
    request = Request(following, repository.stage(released.home, following, expires=until))
    last = repository.last_published(released.home, MODEL)
    assert LastPublished(1, 1) == last
    terms = check_terms(request, anchor=released.anchor, roles=released.roles, last=last, now=NOW)
    assert terms.lines(NOW) == (
        "valid until 2026-08-28 12:00 UTC (180 days)",
        "release 2, replaces release 1; role version 2; last release: 1, as it must be",
    )
    unknown = check_terms(request, anchor=released.anchor, roles=released.roles, last=None, now=NOW)
    assert "last release: not known on this machine" in unknown.lines(NOW)[1]


def test_nothing_is_known_where_there_is_no_repository(scene: Scene, tmp_path: Path) -> None:
    from twinseal.trust.root.home import Home

    assert repository.last_published(Home(tmp_path), MODEL) is None
    assert LastPublished() == repository.last_published(scene.home, MODEL)


Edit = Callable[[Release, datetime], Request]


def role_with(**changes: object) -> Edit:
    """role.json as an editor of models/release/ leaves it: the honest one, with other values."""

    def edit(release: Release, until: datetime) -> Request:
        made = {"version": 2, "expires": until} | changes
        return Request(release, compose_role(release, **made))  # type: ignore[arg-type]

    return edit


def release_with(**changes: object) -> Edit:
    def edit(release: Release, until: datetime) -> Request:
        changed = replace(release, **changes)  # type: ignore[arg-type]
        return Request(changed, compose_role(changed, version=2, expires=until))

    return edit


def bytes_with(change: Callable[[bytes], bytes]) -> Edit:
    return lambda release, until: Request(release, change(compose_role(release, version=2, expires=until)))


ATTACKS: dict[str, tuple[Edit, type[TwinsealError], str]] = {
    "valid until 2099": (role_with(expires=Y2099), EvidenceError, "expected it to end by 2026-08-28, in 180 days"),
    "a day too long": (
        role_with(expires=NOW + timedelta(days=181)),
        EvidenceError,
        "expected it to end by 2026-08-28, in 180 days .policy/roles.yaml., got 2026-08-29",
    ),
    "ended before": (role_with(expires=NOW - timedelta(seconds=1)), ExpiredError, "staged role of pump-rul"),
    "role version 10^15": (
        role_with(version=10**15),
        RollbackError,
        "role version: expected 2, the next, got 10000000",
    ),
    "role version repeated": (role_with(version=1), RollbackError, "role version: expected 2, the next, got 1"),
    "release version 2^31": (
        release_with(version=2**31, parent_version=1),
        RollbackError,
        "release version: expected 2, the next, got 2147483648",
    ),
    "one release left out": (release_with(version=3), RollbackError, "release version: expected 2, the next, got 3"),
    "no parent": (release_with(parent_version=None), EvidenceError, "expected that it replaces 1, .* got none"),
    "another TUF version": (
        bytes_with(lambda data: data.replace(b'"spec_version":"1.0.', b'"spec_version":"1.0.9')),
        SignatureError,
        "expected exactly the unsigned role that submit writes, got other bytes",
    ),
    "spaces": (bytes_with(lambda data: data + b"\n"), SignatureError, "expected exactly the unsigned role"),
}


@pytest.mark.attack("P")
@pytest.mark.parametrize("attack", ATTACKS)
def test_terms_that_nobody_decided_are_neither_approved_nor_published(
    released: Scene, following: Release, honest_bundle: Path, until: datetime, tmp_path: Path, attack: str
) -> None:
    """An editor of `models/release/` chooses the expiry or a version: not approved, and not published."""
    edit, error, message = ATTACKS[attack]
    log, alice = Log(tmp_path / "log"), NamedSigner("alice", released.signer("alice"))

    def decide(request: Request) -> None:
        last = repository.last_published(released.home, MODEL)
        policy = {"anchor": released.anchor, "roles": released.roles, "last": last}
        approve(tmp_path / "approvals", request, honest_bundle, alice, audit=log, now=NOW, **policy)  # type: ignore[arg-type]

    edited = edit(following, until)
    with pytest.raises(error, match=message):
        decide(edited)
    assert not (tmp_path / "approvals").exists()
    assert ["refused"] == [entry.event for _, entry in log.read()]
    decide(role_with()(following, until))  # and what submit stages is approved
    assert ["alice.json"] == [path.name for path in (tmp_path / "approvals").iterdir()]
    before = sorted(path.name for path in released.home.repository.rglob("*.json"))
    signatures = [sign_role(edited.role_bytes, released.signer(name)) for name in ("alice", "bruno")]
    with pytest.raises(TwinsealError):
        repository.publish(
            released.home,
            edited,
            signatures,
            registrar=released.signer("registrar"),
            roles=released.roles,
            now=NOW,
        )
    assert before == sorted(path.name for path in released.home.repository.rglob("*.json"))


def test_clocks_may_differ_by_an_hour(released: Scene, following: Release, until: datetime) -> None:
    request = role_with()(following, until)
    terms_of(released, request, NOW - SLACK)
    with pytest.raises(EvidenceError, match="expected it to end by"):
        terms_of(released, request, NOW - SLACK - timedelta(seconds=1))


def test_a_model_that_policy_no_longer_names_is_not_signed(
    released: Scene, following: Release, until: datetime
) -> None:
    fewer = released.roles.model_copy(update={"models": ("turbofan-rul",)})
    with pytest.raises(
        EvidenceError, match=r"expected a model of the anchor and of policy/roles.yaml \(turbofan-rul\)"
    ):
        check_terms(role_with()(following, until), anchor=released.anchor, roles=fewer, last=None, now=NOW)


@given(version=st.integers(1, 2**63), days=st.integers(-400, 40_000))
def test_only_the_next_version_within_the_lifetime_of_policy_has_terms(
    released_scene: Scene, honest_bundle: Path, version: int, days: int
) -> None:
    request = role_with(version=version, expires=NOW + timedelta(days=days))(describe(honest_bundle, version=2), NOW)
    allowed = version == 2 and 0 < days <= 180
    try:
        terms_of(released_scene, request)
    except TwinsealError:
        assert not allowed
    else:
        assert allowed


@pytest.mark.attack("P")
def test_signatures_inside_the_staged_role_do_not_count(
    released: Scene, following: Release, until: datetime, tmp_path: Path
) -> None:
    """Signatures, e.g. of an approval that was taken back, are put into role.json itself: not counted."""
    request = role_with()(following, until)
    assert 2 == read_all(tmp_path, request, released.anchor, Log(tmp_path / "log")).count.missing
    role = Metadata[Targets].from_bytes(request.role_bytes)
    for holder in ("alice", "bruno"):
        role.sign(released.signer(holder), append=True)
    filled = Request(following, role.to_bytes())
    with pytest.raises(SignatureError, match="expected one that waits for signatures, got one with signatures"):
        read_all(tmp_path, filled, released.anchor, Log(tmp_path / "log"))
    with pytest.raises(SignatureError, match="expected exactly the unsigned role that submit writes"):
        repository.publish(
            released.home, filled, (), registrar=released.signer("registrar"), roles=released.roles, now=NOW
        )
    assert LastPublished(1, 1) == repository.last_published(released.home, MODEL)


@pytest.mark.attack("1")
@pytest.mark.parametrize(("version", "expires"), [(2, Y2099), (10**15, NOW + timedelta(days=9))])
def test_a_twin_refuses_an_approval_that_no_policy_allows(
    released: Scene, following: Release, tmp_path: Path, version: int, expires: datetime
) -> None:
    """The reviewers sign a role that is valid until 2099, or has version 10^15: the twin refuses it."""
    assert 1 == refresh(released.anchor, tmp_path / "twin", Disk.of(released.home), MODEL, NOW).version
    role = Metadata[Targets].from_bytes(compose_role(following, version=version, expires=expires))
    target = released.home.repository / "targets" / MODEL / f"{following.sha256}.release.json"
    target.write_bytes(following.to_bytes())
    put(released.home, MODEL, role, released.signer("alice"), released.signer("bruno"))
    with pytest.raises(
        EvidenceError, match="expected an approval that ends by 2036-02-28, of a version up to 2147483648"
    ):
        refresh(released.anchor, tmp_path / "twin", Disk.of(released.home), MODEL, NOW)
