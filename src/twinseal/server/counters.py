"""Counters: the last one of each passkey that this server has seen. One that does not grow is a copy's.

An authenticator that counts gives a higher number with every signature. Two devices with one key, of which one is a
copy, cannot both know the last number. Passkeys that a person's devices share do not count (always 0): nothing is
compared then. Twins and the registrar compare too, from one published role to the next
(`trust.release.counters`); a server sees every signature.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinseal.errors import EvidenceError, SignatureError
from twinseal.files import write_json
from twinseal.reading import read_regular
from twinseal.trust.keys.passkeys import Passkey, sign_count
from twinseal.trust.root.anchor import Anchor

FILE = "counters.json"
MAX_BYTES = 1 << 20


@contextmanager
def growing_counter(folder: Path, value: Mapping[str, Any], anchor: Anchor) -> Iterator[None]:
    """Refuse a review by a passkey whose counter has not grown; keep the new one once the block has taken the review.

    Call it under the home's lock, with a review whose signature is verified: who has no key must not move a counter.

    Side effects: `<folder>/counters.json`.

    Raises:
        SignatureError: It has not grown.
        EvidenceError: The file is damaged.
    """
    reviewers, holder = anchor.roles["reviewer"], str(value.get("holder"))
    key = next((item.key for item in reviewers.holders if item.name == holder), None)
    count = _count_in(value)
    if not isinstance(key, Passkey) or count is None:
        yield
        return
    seen = _read(folder / FILE)
    last = seen.get(key.keyid, 0)
    if (count or last) and count <= last:
        raise SignatureError(
            f"passkey of {holder}: expected a counter above {last}, got {count}: a copy of the authenticator may be in "
            "use",
            remedy="If you did not just press a button twice, tell a custodian: the key must be replaced "
            f"(twinseal keys revoke {holder}).",
        )
    yield
    if count:
        write_json(folder / FILE, seen | {key.keyid: count})


def _count_in(value: Mapping[str, Any]) -> int | None:
    """The counter in the statement's signature; None when there is none that can be read."""
    envelope = value.get("review")
    signatures = envelope.get("signatures") if isinstance(envelope, dict) else None
    first = signatures[0] if isinstance(signatures, list) and signatures else None
    with contextlib.suppress(Exception):  # whatever it is, the verification that follows refuses it
        return sign_count(base64.b64decode(str(first["sig"])).hex())  # type: ignore[index]
    return None


def _read(path: Path) -> dict[str, int]:
    try:
        value = json.loads(read_regular(path, MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path}: expected counters, got something else ({error})") from error
    if not isinstance(value, dict) or not all(type(count) is int for count in value.values()):
        raise EvidenceError(f"{path}: expected counters, got something else", remedy="Restore it from the backup.")
    return value
