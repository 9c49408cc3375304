"""Commissioners: who may sign what is said beside the machines, by the newest root that the twin has."""

from __future__ import annotations

from datetime import datetime

from twinseal.errors import KeyAccessError, RollbackError
from twinseal.trust.keys.key import NamedSigner, short_fingerprint
from twinseal.trust.release.client import known_anchors
from twinseal.trust.root.anchor import Anchor, anchor_chain
from twinseal.twin.memory import recall
from twinseal.twin.state import ROOTS, State

ROLE = "commissioner"
# Versions grow by one. A stolen key that signs version 2³¹ must not make the twin refuse the honest next one.
MAX_LEAP = 1000


def newest_root(state: State, anchor: Anchor) -> Anchor:
    """The newest root that the twin has: in its cache of metadata, or beside the model that it runs.

    Raises:
        RootError: A root there does not follow from `anchor`.
    """
    found = known_anchors(anchor, state.metadata)
    if state.has_current():
        found = max(found, anchor_chain(anchor, state.current()[1] / ROOTS), key=len)
    return found[-1]


def commissioners_root(state: State, anchor: Anchor, model: str, now: datetime) -> tuple[Anchor, datetime]:
    """The root that says who the commissioners are, and the time: `now`, or the last time seen if that is later.

    Raises:
        RootError: A root that the twin has seen does not follow from `anchor`.
        RollbackError: A root that its log knows is gone.
        EvidenceError: What it remembers is malformed, or of another model.
        AuditError: Its log is not the one that its key signed.
    """
    memory, root = recall(state, model), newest_root(state, anchor)
    if root.version < memory.versions.root:
        raise RollbackError(
            f"root: expected version >= {memory.versions.root}, as this twin's log has it, got {root.version}",
            remedy="Files of the twin's state were removed: the next twinseal pull brings them back.",
        )
    return root, now if memory.seen is None else max(now, memory.seen.time)


def check_commissioner(root: Anchor, commissioner: NamedSigner, now: datetime) -> None:
    """Refuse a holder or a key that may not sign for the commissioners now.

    Raises:
        SignatureError: The holder is no commissioner.
        KeyAccessError: The key is another than the root has.
        ExpiredError: The commissioners' keys are pinned no longer.
    """
    holder, signer = commissioner.holder, commissioner.signer
    key = root.roles[ROLE].key_of(holder)
    if signer.public_key.keyid != key.keyid:
        raise KeyAccessError(
            f"{holder}: expected the key {short_fingerprint(key)}… that the root has, "
            f"got {short_fingerprint(signer.public_key)}…",
            remedy=f"Sign with the key of {holder}: --key URI. All keys: twinseal trust show",
        )
    root.check_role(ROLE, now)
