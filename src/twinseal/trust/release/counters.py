"""Counters: an authenticator that counts its signatures counts upwards. A copy of it would begin again at some number.

Compared is what one passkey signed of one role: as it was published, or seen, before, and as it is new. There is
nothing to compare for a first publication, for the same role again, or for an authenticator that keeps no counter
(0 both times).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tuf.api.metadata import (  # type: ignore[attr-defined]  # tuf re-exports these without saying so
    Metadata,
    Targets,
)

from twinseal.errors import SignatureError
from twinseal.reading import read_regular
from twinseal.trust.keys.passkeys import Passkey, sign_count
from twinseal.trust.release.model_role import parse_role
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.metadata import MAX_METADATA_BYTES, keys_that_signed, signed_bytes


def check_counters(before: Metadata[Targets] | None, after: Metadata[Targets], anchor: Anchor, model: str) -> None:
    """Refuse a newly signed role on which the counter of a passkey has not grown.

    Args:
        before: The role as it was published or seen last; None when there is none.
        after: The role that is new.
        anchor: The reviewers' keys.
        model: Whose role it is.

    Raises:
        SignatureError: A counter is the same as before, or lower; or the role has no canonical form.
    """
    if before is None or signed_bytes(before, model) == signed_bytes(after, model):
        return
    old, new = _counts(before, anchor, model), _counts(after, anchor, model)
    for name in old.keys() & new.keys():
        if (old[name] or new[name]) and new[name] <= old[name]:
            raise SignatureError(
                f"role {model}: expected a counter above {old[name]} of the passkey of {name}, got {new[name]}: a copy "
                "of the authenticator may be in use",
                remedy=f"Find out where the authenticator of {name} is. If in doubt, replace the passkey: "
                f"twinseal reviewer enroll {name} FILE",
            )


def role_in(metadata_dir: Path, model: str) -> Metadata[Targets] | None:
    """The role of `model` that a cache of TUF metadata has; None when it has none, or a damaged one."""
    with contextlib.suppress(SignatureError, OSError):
        return parse_role(read_regular(metadata_dir / f"{model}.json", MAX_METADATA_BYTES), model)
    return None


def _counts(role: Metadata[Targets], anchor: Anchor, model: str) -> dict[str, int]:
    """The counter of each reviewer whose passkey signed, by name."""
    reviewers = anchor.roles["reviewer"].of_model(model)
    passkeys: list[Any] = [holder.key for holder in reviewers.holders if isinstance(holder.key, Passkey)]
    signed = keys_that_signed(passkeys, role.signatures, signed_bytes(role, model))
    return {reviewers.holder_of(key.keyid): sign_count(role.signatures[key.keyid].signature) for key in signed}
