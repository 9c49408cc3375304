from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Delegations, Metadata, Targets
from tuf.ngclient import Updater

from tests.trust.scenes import NOW, Disk, Scene, describe, put
from twinseal.errors import (
    DigestMismatchError,
    ExpiredError,
    KeyAccessError,
    RollbackError,
    RootError,
    SignatureError,
    ThresholdError,
)
from twinseal.files import write_whole
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.release import repository
from twinseal.trust.release.client import refresh
from twinseal.trust.release.model_role import compose_role, count_approvals, sign_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.home import Home


@pytest.fixture
def release(honest_bundle: Path) -> Release:
    return describe(honest_bundle)


def state(home: Home) -> dict[str, bytes]:
    return {str(p.relative_to(home.path)): p.read_bytes() for p in home.repository.rglob("*.json")}


def publish(
    scene: Scene, role: bytes, release: Release, signers: Iterable[str] = ("alice", "bruno"), **more: object
) -> object:
    arguments = {"registrar": scene.signer("registrar"), "roles": scene.roles, "now": NOW, **more}
    signatures = scene.signatures(role, *signers)
    return repository.publish(scene.home, Request(release, role), signatures, **arguments)  # type: ignore[arg-type]


def staged(scene: Scene, release: Release) -> bytes:
    return repository.stage(scene.home, release, expires=scene.roles.expiry("reviewer", NOW))


def test_k_of_n_reviewers_publish_a_release(stage: Scene, release: Release) -> None:
    assert repository.current_release(stage.home, "pump-rul") is None
    published = stage.publish(release)
    assert (release, 1, True) == (published.release, published.role_version, published.changed)
    assert release == repository.current_release(stage.home, "pump-rul")
    assert repository.current_release(stage.home, "turbofan-rul") is None


def test_publishing_again_changes_nothing(stage: Scene, release: Release) -> None:
    role = staged(stage, release)
    publish(stage, role, release)
    before = state(stage.home)
    again = publish(stage, role, release, now=NOW + timedelta(days=400))
    assert repository.Publication(release, 1, changed=False) == again
    assert before == state(stage.home)


def test_staging_is_the_same_bytes_for_the_same_release(stage: Scene, release: Release) -> None:
    assert staged(stage, release) == staged(stage, release)


def test_a_plain_python_tuf_client_reads_the_repository(released: Scene, release: Release, tmp_path: Path) -> None:
    from tests.trust.plain_fetcher import DiskFetcher

    updater = Updater(
        str(tmp_path),
        "metadata/",
        str(tmp_path),
        "targets/",
        DiskFetcher(released.home.repository),
        bootstrap=released.anchor.root,
    )
    updater._trusted_set.reference_time = NOW
    info = updater.get_targetinfo("pump-rul/release.json")
    assert info is not None
    assert release.to_bytes() == Path(updater.download_target(info)).read_bytes()


@pytest.mark.attack("P")
@pytest.mark.parametrize(
    "signers", [[], ["alice"], ["alice", "alice"], ["builder", "registrar"], ["alice", "custodian-1"]]
)
def test_too_few_reviewers_publish_nothing(stage: Scene, release: Release, signers: list[str]) -> None:
    """The registrar publishes a release that fewer reviewers than the threshold have signed."""
    before, role = state(stage.home), staged(stage, release)
    with pytest.raises(ThresholdError, match=r"expected 2 reviewers, got [01] .*can still sign: .*bruno, chiara"):
        publish(stage, role, release, signers)
    assert before == state(stage.home)


def test_who_signed_and_who_may_still(stage: Scene, release: Release) -> None:
    role = staged(stage, release)
    tally = count_approvals(role, stage.signatures(role, "bruno", "builder"), stage.anchor, "pump-rul")
    assert ("pump-rul", 2, ("bruno",), ("alice", "chiara"), 1) == (
        tally.model,
        tally.threshold,
        tally.signed,
        tally.may_sign,
        tally.missing,
    )


@pytest.mark.attack("P")
def test_approvals_of_one_version_do_not_count_for_the_next(stage: Scene, release: Release) -> None:
    """Replay: the approvals of one release are used for the next release."""
    first = staged(stage, release)
    old = stage.signatures(first, "alice", "bruno")
    publish(stage, first, release)
    following = replace(release, version=2, parent_version=1)
    role = staged(stage, following)
    with pytest.raises(ThresholdError, match="expected 2 reviewers, got 0"):
        repository.publish(
            stage.home, Request(following, role), old, registrar=stage.signer("registrar"), roles=stage.roles, now=NOW
        )
    publish(stage, role, following)
    assert following == repository.current_release(stage.home, "pump-rul")


def test_another_release_under_the_signed_role_is_refused(stage: Scene, release: Release) -> None:
    role = staged(stage, release)
    with pytest.raises(DigestMismatchError, match="pump-rul/release.json: expected sha256"):
        publish(stage, role, replace(release, mlflow_model_id="m-" + "1" * 32))


def test_an_older_or_an_equal_release_is_not_staged(released: Scene, release: Release) -> None:
    with pytest.raises(RollbackError, match=r"release version: expected > 1, got 1 \(pump-rul\)"):
        staged(released, replace(release, mlflow_model_id="m-" + "1" * 32))


@pytest.mark.parametrize("version", [1, 3])
def test_a_role_that_is_not_the_next_is_refused(released: Scene, release: Release, version: int) -> None:
    following = replace(release, version=5)
    role = compose_role(following, version=version, expires=NOW + timedelta(days=9))
    with pytest.raises(RollbackError, match=f"role pump-rul: expected version 2, the next, got {version}"):
        publish(released, role, following)


def test_an_older_release_in_a_newer_role_is_refused(released: Scene, release: Release) -> None:
    old = replace(release, mlflow_model_id="m-" + "1" * 32)
    role = compose_role(old, version=2, expires=NOW + timedelta(days=9))
    with pytest.raises(RollbackError, match="release version: expected > 1, got 1"):
        publish(released, role, old)


@pytest.mark.attack("P")
def test_an_approval_that_has_expired_is_refused(stage: Scene, release: Release) -> None:
    """The registrar publishes an approval that has expired."""
    role = staged(stage, release)
    with pytest.raises(ExpiredError, match="approval of pump-rul: expected metadata valid at"):
        publish(stage, role, release, now=NOW + timedelta(days=181))


def test_a_registrar_that_the_root_does_not_name_is_refused(stage: Scene, release: Release) -> None:
    role = staged(stage, release)
    with pytest.raises(
        KeyAccessError, match="registrar: expected the key [0-9a-f]{16}… that the root names, got [0-9a-f]{16}…"
    ):
        publish(stage, role, release, registrar=stage.signer("alice"))
    assert repository.current_release(stage.home, "pump-rul") is None


def _second_target(role: Targets) -> None:
    role.targets["turbofan-rul/release.json"] = role.targets["pump-rul/release.json"]


def _unknown_field(role: Targets) -> None:
    role.unrecognized_fields["note"] = "x"


def _second_hash(role: Targets) -> None:
    role.targets["pump-rul/release.json"].hashes["md5"] = "x"


def _custom_field(role: Targets) -> None:
    role.targets["pump-rul/release.json"].unrecognized_fields["custom"] = {}


def _delegation(role: Targets) -> None:
    role.delegations = Delegations({}, {})


@pytest.mark.parametrize("edit", [_second_target, _unknown_field, _second_hash, _custom_field, _delegation])
def test_a_role_that_says_more_than_its_release_is_not_signed(
    stage: Scene, release: Release, edit: Callable[[Targets], None]
) -> None:
    metadata: Metadata[Targets] = Metadata.from_bytes(staged(stage, release))
    edit(metadata.signed)
    with pytest.raises(SignatureError, match="role pump-rul: expected"):
        sign_role(metadata.to_bytes(), stage.signer("alice"))


def test_reviewers_whom_the_custodians_revoked_publish_nothing(released: Scene, release: Release) -> None:
    """Refused here and not only by every twin: the anchor still pins alice, targets no longer delegates to her."""
    targets: Metadata[Targets] = Metadata.from_file(str(released.home.repository / "metadata" / "1.targets.json"))
    targets.signed.version = 2
    targets.signed.revoke_key(released.signer("alice").public_key.keyid, "pump-rul")
    put(released.home, "targets", targets, released.signer("custodian-1"), released.signer("custodian-2"))
    following = replace(release, version=2, parent_version=1)
    role, before = staged(released, following), state(released.home)
    with pytest.raises(ThresholdError, match=r"expected the reviewers whom targets delegates to .*signed by 1/2 keys"):
        publish(released, role, following)
    assert before == state(released.home)
    publish(released, role, following, ["bruno", "chiara"])
    assert following == repository.current_release(released.home, "pump-rul")


@pytest.mark.parametrize("killed_at", range(1, 5))
def test_a_publication_that_is_interrupted_anywhere_is_finished_by_the_next(
    stage: Scene, release: Release, tmp_path: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, writes = staged(stage, release), 0

    def dying(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        nonlocal writes
        writes += 1
        if writes == killed_at:
            raise KeyboardInterrupt
        write_whole(path, data, mode=mode)

    with monkeypatch.context() as patched:
        patched.setattr(repository, "write_whole", dying)
        with pytest.raises(KeyboardInterrupt):
            publish(stage, role, release)
    assert repository.current_release(stage.home, "pump-rul") is None
    publish(stage, role, release, now=NOW + timedelta(hours=1))
    assert release == refresh(stage.anchor, tmp_path / "cache", Disk.of(stage.home), "pump-rul", NOW)


def test_the_registrar_renews_freshness_and_nothing_else(released: Scene, release: Release, tmp_path: Path) -> None:
    later = NOW + timedelta(days=20)
    with pytest.raises(ExpiredError):
        refresh(released.anchor, tmp_path, Disk.of(released.home), "pump-rul", later)
    expires = repository.renew(released.home, registrar=released.signer("registrar"), roles=released.roles, now=later)
    assert later + timedelta(days=14) == expires
    assert release == refresh(released.anchor, tmp_path, Disk.of(released.home), "pump-rul", later)


def test_a_repository_that_is_not_there_is_refused(tmp_path: Path, release: Release) -> None:
    with pytest.raises(RootError, match="expected the repository of record, got none"):
        repository.stage(Home(tmp_path), release, expires=NOW)


# The first ceremony.


def test_an_anchor_is_never_overwritten(stage: Scene) -> None:
    before = state(stage.home)
    with pytest.raises(RootError, match="expected no anchor yet, found one"):
        ceremony.init_demo(stage.home, stage.roles, NOW)
    assert before == state(stage.home)


@pytest.mark.parametrize(
    ("holders", "summary"),
    [
        ((), "approved by 0 (2 needed): nobody"),
        (("bruno",), "approved by 1 (2 needed): bruno"),
        (("alice", "bruno", "chiara"), "approved by 3 (2 needed): alice, bruno, chiara"),
    ],
)
def test_how_many_have_signed_and_how_many_are_needed_in_one_line(
    stage: Scene, release: Release, holders: tuple[str, ...], summary: str
) -> None:
    role = staged(stage, release)
    assert summary == count_approvals(role, stage.signatures(role, *holders), stage.anchor, "pump-rul").summary
