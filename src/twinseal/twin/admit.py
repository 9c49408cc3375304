"""Admission: from untrusted bytes on a private disk to a model that may run. Only `admit` makes a VerifiedModel.

Steps 4 to 6 of the twin's way (0 to 3 are `twinseal.twin.pull`'s):

4. the builder's OMS signature covers exactly the model's files; strict, nothing ignored
5. every statement that the anchor requires: right signer, right predicate, about this model, PASSED; and the reviewers
   counted once more, without those who built the candidate: only the verdict says who did
6. only now parse: safetensors under a header cap, config with known keys only; the mapping of the plant's files, which
   must give each channel of the contract once
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from twinseal.errors import EvidenceError, SignatureError
from twinseal.files import FileRecord
from twinseal.prognostics.checkpoint import Model, read_model
from twinseal.reading import read_regular
from twinseal.telemetry.mapping import ColumnMapping
from twinseal.trust.release.candidate import verify_release
from twinseal.trust.release.model_role import check_release, count_approvals, parse_role
from twinseal.trust.release.release import Release
from twinseal.trust.root.anchor import Anchor, anchor_chain
from twinseal.trust.root.metadata import MAX_METADATA_BYTES
from twinseal.twin.signed_mapping import signed_mapping
from twinseal.twin.state import BUNDLE, ROLE, ROOTS, State, pull_command

log = structlog.get_logger()

_SEAL = object()


@dataclass(frozen=True, eq=False)
class VerifiedModel:
    """A model that has passed admission. The type is the proof: only `admit` can make one.

    Attributes:
        release: What the reviewers approved.
        model: The network, its contract and its normaliser.
        demo: Admitted under an anchor of throw-away keys.
        mapping: How the columns of the plant's files became the channels that trained it, by the builder's signed
            record; None if it was trained on telemetry of another kind.

    Raises:
        TypeError: Other code tries to make one.
    """

    release: Release
    model: Model
    demo: bool
    mapping: ColumnMapping | None
    _seal: object = field(repr=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("VerifiedModel: made by twinseal.twin.admit.admit alone")


def admit(
    directory: Path, release: Release, role: bytes, anchor: Anchor, records: Iterable[FileRecord] | None = None
) -> VerifiedModel:
    """The model in the bundle at `directory`, once it is all that `release` and `anchor` demand.

    Args:
        directory: The bundle; private, so that no other user can change it between check and use.
        release: What reviewers have approved, authenticated already (steps 1 and 2).
        role: The signed TUF role that lists it.
        anchor: The pinned trust.
        records: The files, if they were hashed as they streamed in; else they are listed and hashed here.

    Raises:
        DigestMismatchError: Files are not those of the release, or of the builder's signature.
        SignatureError, ThresholdError: A signature is absent, malformed, or not by the role that answers; or too few
            reviewers are left without those who built the candidate.
        GateRefusedError: A test or the verdict is not PASSED.
        EvidenceError: A statement is about something else, or the model cannot be parsed.
        OSError: The directory cannot be read.
    """
    verified = verify_release(directory, release, anchor, records)  # 4, 5
    check_release(parse_role(role, release.model), release.to_bytes(), release.model)
    count_approvals(role, (), anchor, release.model, built_by=verified.built_by).require_complete()
    model = read_model(directory / "model")  # 6
    if model.contract.model != release.model:
        raise EvidenceError(f"contract.json: expected one for {release.model}, got one for {model.contract.model}")
    mapping = signed_mapping(verified.statements.get("ingest"), model.contract)
    log.info("release.admitted", model=release.model, version=release.version, sha256=release.sha256[:12])
    return VerifiedModel(release, model, anchor.demo, mapping, _SEAL)


def admit_installed(state: State, anchor: Anchor, model: str, folder: Path | None = None) -> VerifiedModel:
    """The model that `state` has installed, verified once more, offline; the caller holds the lock.

    Of the current release, or of another one, by its `folder`.

    Expiry is not checked here: a twin that cannot reach its registry keeps its model. Checked are the reviewers'
    signatures, the evidence, and every byte. The keys that count are those of the root at its admission: a key that was
    revoked since then stops the next model, not the one that runs.

    Raises:
        TrustError, EvidenceError, GateRefusedError: There is none, or what is there is not what was admitted.
    """
    digest, folder = state.current() if folder is None else (folder.name[:64], folder)
    release = state.release(folder, digest)
    if release.model != model:
        raise EvidenceError(
            f"{state.path}: expected {model}, got {release.model}",
            remedy=f"Run what is here: --model {release.model}. Or name the folder of {model}: --state DIR",
        )
    try:
        role = read_regular(folder / ROLE, MAX_METADATA_BYTES)
        pinned = anchor_chain(anchor, folder / ROOTS)[-1]
        count_approvals(role, (), pinned, model).require_complete()
        check_release(parse_role(role, model), release.to_bytes(), model)
        return admit(folder / BUNDLE, release, role, pinned)
    except OSError as error:
        raise SignatureError(
            f"{folder}: expected the installed model whole, got {error.strerror}",
            remedy=f"Fetch it again: {pull_command(model, state.path)}",
        ) from error
