"""Whether the model that runs is still approved, by the newest root and the newest role that the twin has.

A key that left its role since the admission stops the next model, not the one that runs. A key that was *revoked* may
have been a thief's when it approved: its approvals count no more. If too few are left, and no role of today lists the
same release with enough others, the model must not answer any more.
"""

from __future__ import annotations

from dataclasses import replace

from twinseal.errors import ThresholdError, TwinsealError
from twinseal.reading import read_regular
from twinseal.trust.keys.key import fingerprint
from twinseal.trust.release.model_role import check_release, count_approvals, parse_role
from twinseal.trust.release.release import Release
from twinseal.trust.root.anchor import Anchor, anchor_chain
from twinseal.trust.root.metadata import MAX_METADATA_BYTES
from twinseal.twin.commissioners import newest_root
from twinseal.twin.state import ROLE, ROOTS, State


def check_approval(state: State, anchor: Anchor, release: Release) -> None:
    """Refuse a release that is installed, and approved no longer; the caller holds the state's lock.

    Args:
        state: The twin's.
        anchor: The root that it was installed with.
        release: Which.

    Raises:
        ThresholdError: Without the keys that were revoked, too few reviewers have approved it.
        SignatureError, RootError, EvidenceError: What would say so is not what it was.
        OSError: It cannot be read.
    """
    newest = newest_root(state, anchor)
    folder = state.installed(release.sha256)
    if folder is None:
        raise ThresholdError(f"{release.model} release {release.version}: expected it installed, got none")
    own = anchor_chain(anchor, folder / ROOTS)[-1]
    try:
        _check(read_regular(folder / ROLE, MAX_METADATA_BYTES), release, own, newest)
    except ThresholdError as error:
        try:  # approved once more since then, by others
            _check(read_regular(state.metadata / f"{release.model}.json", MAX_METADATA_BYTES), release, newest, newest)
        except (TwinsealError, OSError):
            raise error from None


def _check(role: bytes, release: Release, reviewers: Anchor, newest: Anchor) -> None:
    check_release(parse_role(role, release.model), release.to_bytes(), release.model)
    count = count_approvals(role, (), reviewers, release.model)
    who = reviewers.roles["reviewer"].of_model(release.model)
    revoked = {item.name for item in who.holders if fingerprint(item.key) in newest.pins.revoked}
    left = tuple(name for name in count.signed if name not in revoked)
    replace(
        count,
        signed=left,
        may_sign=(),
        without_passkey=tuple(name for name in count.without_passkey if name in left),
        groups=who.quorum.groups_of(left),
    ).require_complete()
