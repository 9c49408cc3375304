"""Until when what a twin has verified counts, from its cache of metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuf.api.metadata import Snapshot, Targets, Timestamp  # type: ignore[attr-defined]  # tuf re-exports these

from twinseal.reading import read_regular
from twinseal.trust.expiry import APPROVE, DAYS, MONTH, REGISTER, RENEW, Expiry
from twinseal.trust.release.client import known_anchors
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, parse


def cached_expiries(anchor: Anchor, metadata_dir: Path, model: str) -> tuple[Expiry, ...]:
    """Of the root, the pinned keys, the delegation, the approval of `model`, and the registrar's freshness.

    Args:
        anchor: As pinned.
        metadata_dir: The cache, private to the twin: its last pull has verified what is in it.
        model: Whose approval.

    Raises:
        TrustError: There is none, or it is malformed.
        OSError: It cannot be read.
    """
    newest = known_anchors(anchor, metadata_dir)[-1]
    kinds: dict[str, Any] = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets, model: Targets}
    ends = {
        name: parse(kind, read_regular(metadata_dir / f"{name}.json", MAX_METADATA_BYTES), name).signed.expires
        for name, kind in kinds.items()
    }
    pins = [(name, role.expires) for name, role in newest.roles.items() if role.expires is not None]
    return (
        Expiry("root", newest.expires, MONTH, RENEW),
        *(Expiry(name, expires, MONTH, RENEW) for name, expires in pins),
        Expiry("targets", ends["targets"], MONTH, RENEW),
        Expiry(model, ends[model], MONTH, APPROVE),
        Expiry("registrar", min(ends["timestamp"], ends["snapshot"]), DAYS, REGISTER),
    )
