"""Attestations: a stage's statement, signed by the role that is responsible for it, in a file of its own.

The file does not decide which role that is, nor which kind of statement: the anchor pins both for each stage.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from twinseal.errors import EvidenceError, SignatureError, suggest
from twinseal.evidence import Statement
from twinseal.files import write_whole
from twinseal.reading import read_regular
from twinseal.trust.keys.key import short_fingerprint
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.pins import Requirement
from twinseal.trust.signing.dsse import MAX_ENVELOPE_BYTES, sign_envelope, verify_envelope

log = structlog.get_logger(__name__)


def write_attestation(path: Path, stage: str, statement: Statement, home: Home) -> None:
    """Sign `statement` by the role that the anchor names for `stage`, and write it to `path`, whole or not at all.

    Raises:
        EvidenceError: The anchor knows no such stage, the statement is of another type, or it holds NaN.
        KeyAccessError: The role's key is not on this machine, or cannot be opened.
        OSError: The file cannot be written.
    """
    anchor = home.anchor()
    requirement = anchor.requirement(stage)
    _check_type(statement, requirement, stage)
    try:
        payload = statement.to_bytes()
    except (ValueError, TypeError) as error:
        raise EvidenceError(f"{stage}: expected a statement that JSON has a form for, got {error}") from error
    signer = home.role_signer(anchor.roles[requirement.role])
    write_whole(path, sign_envelope(payload, signer))
    log.info("evidence.signed", stage=stage, role=requirement.role, key=short_fingerprint(signer.public_key))


def read_attestation(path: Path, stage: str, anchor: Anchor) -> Statement:
    """The statement of `stage` in the file at `path`, once its role has signed it.

    Raises:
        SignatureError: The file is absent, malformed, or not signed by the role that is responsible for `stage`.
        ThresholdError: Too few of the role have signed.
        EvidenceError: What is signed is no statement of the type that `stage` makes.
    """
    try:
        data = read_regular(path, MAX_ENVELOPE_BYTES)
    except OSError as error:
        raise SignatureError(
            f"{path}: expected the signed record of {stage}, got none ({error.strerror})",
            remedy=f"Make it: dvc repro {stage}",
        ) from error
    with suggest(
        f"The record was changed, or signed by another key. Find out who did it; then: dvc repro --force {stage}"
    ):
        return parse_attestation(data, stage, anchor, where=str(path))


def parse_attestation(data: bytes, stage: str, anchor: Anchor, *, where: str = "") -> Statement:
    """The statement of `stage` in an envelope's bytes; as `read_attestation`."""
    requirement = anchor.requirement(stage)
    payload = verify_envelope(data, anchor.roles[requirement.role], where or stage)
    statement = Statement.from_bytes(payload, where or stage)
    _check_type(statement, requirement, where or stage)
    return statement


def _check_type(statement: Statement, requirement: Requirement, where: str) -> None:
    if statement.predicate_type != requirement.predicate_type:
        raise EvidenceError(f"{where}: expected {requirement.predicate_type}, got {statement.predicate_type}")
