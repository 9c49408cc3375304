"""The salt of the split: what divides units into training, validation, test, folds and parts, beside their names.

A unit's place is a hash of its name and this salt (`prognostics.splitting`). Whoever names units must not know it, and
whoever trains must not choose it. So it comes from a signature over the digest of the accepted telemetry, by the role
that answers for `validate`:

- nobody without that key can compute it, and the telemetry, with all names in it, is fixed before it is made;
- other telemetry, another salt; the same telemetry, the same one: a key in a file signs deterministically (RFC 6979),
  and where a token does not, the salt that was signed for this telemetry before is kept;
- anyone can verify it: the signed file is a subject of validate's record.

Only r of each ECDSA signature (r, s) is used: (r, -s) is valid too, and anyone can make it from (r, s).
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from twinseal.digests import canonical_json, parse_json
from twinseal.errors import EvidenceError, SignatureError
from twinseal.evidence import SPLIT_SALT, Statement, Subject
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.pins import RoleKeys
from twinseal.trust.signing.dsse import MAX_ENVELOPE_BYTES, sign_envelope, verify_envelope

STAGE = "validate"  # whose role signs: not the one that trains


def draw_salt(path: Path, telemetry: Subject, home: Home) -> str:
    """The salt for `telemetry`, signed into the file at `path`; one that is signed there already stays.

    Raises:
        KeyAccessError: The role's key is not on this machine, or cannot be opened.
        OSError: The file cannot be written.
    """
    role = _role(home.anchor())
    try:
        return read_salt(path, telemetry, home.anchor())
    except (SignatureError, EvidenceError):
        statement = Statement((telemetry,), SPLIT_SALT, {"purpose": "split of units"})
        write_whole(path, sign_envelope(statement.to_bytes(), home.role_signer(role)))
        return read_salt(path, telemetry, home.anchor())


def read_salt(path: Path, telemetry: Subject, anchor: Anchor) -> str:
    """The salt that was signed for `telemetry` into the file at `path`, 64 hexadecimal digits.

    Raises:
        SignatureError: The file is absent, malformed, or not signed by the role.
        EvidenceError: What is signed is no salt, or one for other telemetry.
    """
    try:
        data = read_regular(path, MAX_ENVELOPE_BYTES)
    except OSError as error:
        raise SignatureError(
            f"{path}: expected the signed salt of the split, got none ({error.strerror})",
            remedy=f"Make it: dvc repro {STAGE}",
        ) from error
    payload = verify_envelope(data, _role(anchor), str(path))
    statement = Statement.from_bytes(payload, str(path))
    if statement.predicate_type != SPLIT_SALT or statement.subjects != (telemetry,):
        got = ", ".join(f"{item.name} {item.sha256[:12]}…" for item in statement.subjects)
        raise EvidenceError(
            f"{path}: expected a salt for {telemetry.name} {telemetry.sha256[:12]}…, got "
            f"{statement.predicate_type} for {got}",
            remedy=f"The telemetry or the salt was exchanged. Find out who did it; then: dvc repro --force {STAGE}",
        )
    drawn = sorted(_nonce_point(item["sig"]) for item in parse_json(data, str(path))["signatures"])
    return hashlib.sha256(canonical_json({"telemetry": telemetry.sha256, "drawn": drawn})).hexdigest()


def _role(anchor: Anchor) -> RoleKeys:
    return anchor.roles[anchor.requirement(STAGE).role]


def _nonce_point(signature: str) -> str:
    """R of a signature that was verified, in hexadecimal."""
    r, _ = decode_dss_signature(base64.b64decode(signature))
    return f"{r:064x}"
