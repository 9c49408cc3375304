"""A candidate: a bundle of model, signature and evidence, verified offline in one numbered order.

The same steps run when the builder signs, when a reviewer approves, and when a twin admits. Numbered as in the bodies:

1. the files are exactly those of the release, by path, length and SHA-256 (`verify_release` alone: a bundle has no
   release yet)
2. the builder's OMS signature covers exactly the files under model/
3. every statement that the anchor requires is there, by the right signer and of the right type, and no other
4. every test PASSED; the verdict is PASSED
5. train made exactly these model files
6. what train read is what prepare made; what prepare read, validate accepted; what validate looked at, ingest read in
7. evade and poison tested exactly these model files, on that same data; the verdict is about exactly these model files
8. the verdict was reached from exactly these statements
9. the verdict is about the model, and by the policy, that the release names (`verify_release` alone)

Whatever is absent, empty, unknown or about something else is refused. A statement that is well signed and PASSED
proves nothing about this model until its digests lead to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinseal.digests import is_sha256
from twinseal.errors import DigestMismatchError, EvidenceError, GateRefusedError
from twinseal.evidence import TEST_RESULT, Statement, Subject, materials, outcome
from twinseal.files import FileRecord, inventory, relative_names
from twinseal.trust.attestation import read_attestation
from twinseal.trust.dsse import MAX_ENVELOPE_BYTES
from twinseal.trust.release.oms import MAX_BUNDLE_BYTES, verify_directory
from twinseal.trust.release.release import MODEL, SIGNATURE, Release
from twinseal.trust.root.anchor import Anchor

RAW = ("data/raw/telemetry.parquet",)
ACCEPTED = ("data/accepted/telemetry.parquet",)
WINDOWS = ("data/windows/preparation.json", "data/windows/windows.safetensors")
RESOURCE = "https://twinseal.dev/model/"


@dataclass(frozen=True)
class Checked:
    """A bundle that has passed every step; made by `verify_bundle` and `verify_release` alone.

    Attributes:
        files: Every file of the bundle, sorted by path.
        statements: The signed evidence, by stage.
        model: The model that the verdict is about.
        policy_sha256: The policy that the verdict was judged by.
    """

    files: tuple[FileRecord, ...]
    statements: Mapping[str, Statement]
    model: str
    policy_sha256: str


def _ignore(_step: int, _check: str) -> None:
    pass


def verify_bundle(
    directory: Path,
    anchor: Anchor,
    records: Iterable[FileRecord] | None = None,
    *,
    passed: Callable[[int, str], None] = _ignore,
) -> Checked:
    """The bundle in `directory`, once steps 2 to 8 have passed.

    Args:
        directory: The bundle.
        anchor: Whose signatures count, and which evidence there must be.
        records: Its files, if the caller has hashed them itself as they streamed in; else they are listed and hashed
            here.
        passed: Called after each step that passed, with the number of the step in docs/trust.md and what was checked.

    Raises:
        SignatureError, ThresholdError: A signature is absent, malformed or not by the role that answers for it.
        DigestMismatchError: Files are not what was signed.
        EvidenceError: A statement is malformed, or about something else.
        GateRefusedError: A test, or the verdict, is not PASSED.
        OSError: The directory cannot be read.
    """
    files = inventory(directory) if records is None else tuple(sorted(records))
    model_files = _below_model(files)
    _verify_model(directory, anchor, files)  # 2
    passed(4, f"signature: the builder signed exactly these {len(model_files)} model files")
    statements = _statements(directory, anchor, files)  # 3
    passed(5, f"evidence: {len(statements)} records ({', '.join(statements)}), each signed by its role")
    _demand_passed(statements)  # 4
    passed(5, "results: every test PASSED, and so did the verdict")
    _same("train's model files", model_files, _subjects(statements["train"], MODEL))  # 5
    if len(statements["train"].subjects) != len(model_files):
        raise EvidenceError("train: expected to be about the model's files alone, got more")
    _walk_back(statements)  # 6
    _about(statements, model_files)  # 7
    _verdict_inputs(statements["assess"], files)  # 8
    passed(5, "digests: the evidence is about exactly these model files and their data")
    return Checked(files, statements, _verdict_model(statements["assess"]), _verdict_policy(statements["assess"]))


def verify_release(
    directory: Path, release: Release, anchor: Anchor, records: Iterable[FileRecord] | None = None
) -> Checked:
    """The bundle in `directory`, once it is all of `release` and nothing else: steps 1 to 9.

    Args:
        directory: The bundle.
        release: What reviewers approve, or have approved.
        anchor: As `verify_bundle`.
        records: As `verify_bundle`.

    Raises:
        DigestMismatchError: A file is not, or not there, or not in the release.
        EvidenceError: The verdict is about another model, or by another policy.
        GateRefusedError, SignatureError, ThresholdError, OSError: As `verify_bundle`.
    """
    files = inventory(directory) if records is None else tuple(sorted(records))
    _exactly(release.files, files)  # 1
    checked = verify_bundle(directory, anchor, files)
    for what, expected, got in (  # 9
        ("model", release.model, checked.model),
        ("policy", release.policy_sha256, checked.policy_sha256),
    ):
        if expected != got:
            raise EvidenceError(f"verdict: expected one on the {what} {expected[:64]} of the release, got {got[:64]}")
    return checked


def _exactly(expected: tuple[FileRecord, ...], got: tuple[FileRecord, ...]) -> None:
    if expected == got:
        return
    listed, here = {record.path: record for record in expected}, {record.path: record for record in got}
    for path in sorted(listed.keys() | here.keys()):
        if path not in here:
            raise DigestMismatchError(f"{path}: expected this file of the release, got none")
        if path not in listed:
            raise DigestMismatchError(f"{path}: expected the files of the release alone, got one more")
        if listed[path] != here[path]:
            wanted, found = listed[path], here[path]
            raise DigestMismatchError(
                f"{path}: expected sha256 {wanted.sha256[:12]}… ({wanted.length} bytes) as the release lists it, "
                f"got {found.sha256[:12]}… ({found.length} bytes)"
            )
    raise DigestMismatchError("release: expected each file once, got one twice")


def _below_model(files: tuple[FileRecord, ...]) -> tuple[Subject, ...]:
    return tuple(Subject(record.path, record.sha256) for record in files if record.path.startswith(MODEL))


def _verify_model(directory: Path, anchor: Anchor, files: tuple[FileRecord, ...]) -> None:
    try:
        with (directory / SIGNATURE).open("rb") as stream:
            bundle = stream.read(MAX_BUNDLE_BYTES + 1)
    except FileNotFoundError as error:
        raise DigestMismatchError(f"{SIGNATURE}: expected the builder's signature of the model, got none") from error
    verify_directory(directory / MODEL, bundle, anchor.roles["builder"], relative_names(files, MODEL.rstrip("/")))


def _statements(directory: Path, anchor: Anchor, files: tuple[FileRecord, ...]) -> dict[str, Statement]:
    paths = {item.name: f"evidence/{item.name}.dsse.json" for item in anchor.evidence}
    known = {*paths.values(), SIGNATURE}
    for record in files:
        if record.path not in known and not record.path.startswith(MODEL):
            raise DigestMismatchError(f"{record.path}: expected a model and its evidence, got one more file")
        if record.path in paths.values() and record.length > MAX_ENVELOPE_BYTES:
            raise DigestMismatchError(
                f"{record.path}: expected at most {MAX_ENVELOPE_BYTES} bytes, got {record.length}"
            )
    return {stage: read_attestation(directory / path, stage, anchor) for stage, path in paths.items()}


def _demand_passed(statements: Mapping[str, Statement]) -> None:
    for stage, statement in statements.items():
        if statement.predicate_type == TEST_RESULT and outcome(statement) != "PASSED":
            raise GateRefusedError(f"{stage}: expected the result PASSED, got {outcome(statement) or 'none'}")
    verdict = outcome(statements["assess"])
    if verdict != "PASSED":
        raise GateRefusedError(
            f"verdict: expected PASSED, got {verdict or 'none'}",
            remedy="Read which gate refused it, and why: reports/report.html",
        )


def _walk_back(statements: Mapping[str, Statement]) -> None:
    train, prepare, validate, ingest = (statements[name] for name in ("train", "prepare", "validate", "ingest"))
    _same("windows that train read", _subjects(prepare, *WINDOWS), _materials(train, *WINDOWS), WINDOWS)
    _same("telemetry that prepare read", _subjects(validate, *ACCEPTED), _materials(prepare, *ACCEPTED), ACCEPTED)
    _same("telemetry that validate looked at", _subjects(ingest, *RAW), _subjects(validate, *RAW), RAW)


def _about(statements: Mapping[str, Statement], model_files: tuple[Subject, ...]) -> None:
    for stage in ("evade", "poison", "assess"):
        _same(f"{stage}'s model files", model_files, _subjects(statements[stage], MODEL))
    windows = _subjects(statements["prepare"], *WINDOWS)
    _same("windows that evade ran on", windows, _subjects(statements["evade"], *WINDOWS), WINDOWS)
    accepted = _subjects(statements["validate"], *ACCEPTED)
    _same("telemetry that poison ran on", accepted, _subjects(statements["poison"], *ACCEPTED), ACCEPTED)


def _same(what: str, expected: tuple[Subject, ...], got: tuple[Subject, ...], names: tuple[str, ...] = ()) -> None:
    """Refuse two lists that are not one and the same, of exactly `names` if any, never empty.

    Raises:
        EvidenceError: They differ, name something twice, or are empty.
    """
    if names and {subject.name for subject in expected} != set(names):
        raise EvidenceError(f"{what}: expected {', '.join(names)} on record, got {len(expected)} of them")
    odd = sorted({subject.name for subject in set(expected) ^ set(got)})
    if not expected or odd or len(expected) != len(got):
        raise EvidenceError(
            f"{what}: expected evidence about this model, got some about others ({', '.join(odd[:3]) or 'none'})"
        )


def _subjects(statement: Statement, *prefixes: str) -> tuple[Subject, ...]:
    return tuple(subject for subject in statement.subjects if subject.name.startswith(prefixes))


def _materials(statement: Statement, *prefixes: str) -> tuple[Subject, ...]:
    return tuple(item for item in materials(statement) if item.name.startswith(prefixes))


def _verdict_inputs(verdict: Statement, files: tuple[FileRecord, ...]) -> None:
    listed = verdict.predicate.get("inputAttestations")
    items = [Subject.from_dict(_named(item)) for item in listed] if isinstance(listed, list) else []
    got = sorted(item.sha256 for item in items)
    evidence = {record.path: record.sha256 for record in files if record.path.startswith("evidence/")}
    expected = sorted(digest for path, digest in evidence.items() if path != "evidence/assess.dsse.json")
    if got != expected:
        raise EvidenceError(f"verdict: expected one from the {len(expected)} statements of this bundle, got another")


def _named(item: object) -> object:
    """SLSA writes `uri` where a ResourceDescriptor has `name`."""
    return {**item, "name": item.get("uri")} if isinstance(item, dict) else item


def _verdict_model(verdict: Statement) -> str:
    resource = verdict.predicate.get("resourceUri")
    if not isinstance(resource, str) or not resource.startswith(RESOURCE):
        raise EvidenceError(f"verdict: expected one on {RESOURCE}<name>, got {str(resource)[:80]}")
    return resource.removeprefix(RESOURCE)


def _verdict_policy(verdict: Statement) -> str:
    policy = verdict.predicate.get("policy")
    digest = policy.get("digest") if isinstance(policy, dict) else None
    found = digest.get("sha256") if isinstance(digest, dict) else None
    if not is_sha256(found):
        raise EvidenceError(f"verdict: expected the digest of a policy, got {str(found)[:80]}")
    return str(found)
