"""A candidate: a bundle of model, signature and evidence, verified offline in one numbered order.

The same steps run when the builder signs, a reviewer approves, the registrar registers, and a twin admits. Numbered as
in the bodies:

1. the files are exactly those of the release, by path, length and SHA-256 (`verify_release` alone: a bundle has no
   release yet)
2. the builder's OMS signature covers exactly the files under model/
3. every statement that the anchor requires is there, by the right signer and of the right type, and no other
4. every test PASSED; the verdict is PASSED
5. the chain of evidence leads to exactly these model files (`twinseal.evidence_chain`): train made them; what train
   read, prepare made; what prepare read, validate accepted; what validate read, ingest read in; evade and poison tested
   these model files, on that same data
6. the verdict is about exactly these model files
7. the verdict was reached from exactly these statements, by the policy that its owners approved; every stage obeyed
   that policy's entries for one and the same asset
8. the verdict is about the model, and by the policy, that the release names (`verify_release` alone)

Whatever is absent, empty, unknown or about something else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinseal.digests import is_sha256
from twinseal.errors import DigestMismatchError, EvidenceError, GateRefusedError, suggest
from twinseal.evidence import TEST_RESULT, Statement, Subject, built_by, outcome
from twinseal.evidence_chain import first_broken_link
from twinseal.files import FileRecord, inventory, relative_names
from twinseal.policy_entries import part_subjects
from twinseal.reading import read_regular
from twinseal.trust.policy_approval import Approval
from twinseal.trust.release.oms import MAX_BUNDLE_BYTES, verify_directory
from twinseal.trust.release.release import MODEL, SIGNATURE, VERDICT, Release
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.signing.attestation import read_attestation
from twinseal.trust.signing.dsse import MAX_ENVELOPE_BYTES

RESOURCE = "https://twinseal.dev/model/"
NOT_JUDGED = ("evidence/assess.dsse.json", "evidence/policy.dsse.json")  # the verdict itself; and what it is by
_PARTS = (MODEL, SIGNATURE, "evidence/")
A_BUNDLE = f"a signed bundle ({', '.join(_PARTS)})"
HOW_TO_MAKE_A_BUNDLE = (
    "Where models are made: dvc repro, which makes models/bundle once every gate has PASSED (reports/report.html says "
    "which did not). Then: twinseal verify models/bundle"
)
_CHANGED = (
    "The files are not those that were signed. Fetch them again, or build them again: dvc repro. If refused again, "
    "find out who changed them."
)
_OTHER_VERDICT = "The verdict was reached from other records. Have this candidate judged again: dvc repro assess"


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle that has passed every step; returned by `verify_bundle` and `verify_release` alone.

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

    @property
    def policy(self) -> Approval:
        """The policy, as its owners approved it."""
        return Approval.of(self.statements["policy"])

    @property
    def built_by(self) -> tuple[str, ...]:
        """Who built the candidate, by the verdict: reviewers of these names do not count for it."""
        return built_by(self.statements["assess"])


def _ignore(_step: int, _check: str) -> None:
    pass


def verify_bundle(
    directory: Path,
    anchor: Anchor,
    records: Iterable[FileRecord] | None = None,
    *,
    passed: Callable[[int, str], None] = _ignore,
) -> VerifiedBundle:
    """The bundle in `directory`, once steps 2 to 7 have passed.

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
    files = _list_files(directory) if records is None else tuple(sorted(records))
    model_files = _model_subjects(files)
    with suggest(_CHANGED):
        _verify_model_signature(directory, anchor, files)  # 2
        passed(4, f"signature: the builder signed exactly these {len(model_files)} model files")
        statements = _read_statements(directory, anchor, files)  # 3
    passed(5, f"evidence: {len(statements)} records ({', '.join(statements)}), each signed by its role")
    _require_passed(statements)  # 4
    passed(5, "results: every test PASSED, and so did the verdict")
    policy = Approval.of(statements["policy"])
    built_by(statements["assess"])  # refuses a list that nobody could compare
    _check_chain(statements, model_files, policy)  # 5, 7
    _check_verdict_subjects(statements["assess"], model_files)  # 6
    _check_verdict_inputs(statements["assess"], files)  # 7
    _check_verdict_policy(statements["assess"], policy)  # 7
    passed(5, "digests: the evidence is about exactly these model files and their data")
    passed(5, f"policy: approval {policy.number} of its owners is what every stage obeyed and the verdict names")
    return VerifiedBundle(
        files, statements, _verdict_model(statements["assess"]), _verdict_policy(statements["assess"])
    )


def verify_release(
    directory: Path,
    release: Release,
    anchor: Anchor,
    records: Iterable[FileRecord] | None = None,
    *,
    passed: Callable[[int, str], None] = _ignore,
) -> VerifiedBundle:
    """The bundle in `directory`, once it is all of `release` and nothing else: steps 1 to 8.

    Args:
        directory: The bundle.
        release: What reviewers approve, or have approved.
        anchor: As `verify_bundle`.
        records: As `verify_bundle`.
        passed: As `verify_bundle`.

    Raises:
        DigestMismatchError: A file is not, or not there, or not in the release.
        EvidenceError: The verdict is about another model, or by another policy.
        GateRefusedError, SignatureError, ThresholdError, OSError: As `verify_bundle`.
    """
    files = _list_files(directory) if records is None else tuple(sorted(records))
    with suggest(_CHANGED):
        _require_same_files(release.files, files)  # 1
    passed(3, f"files: exactly the {len(files)} of the release, by path, length and SHA-256")
    return require_release(verify_bundle(directory, anchor, files, passed=passed), release)


def require_release(verified: VerifiedBundle, release: Release) -> VerifiedBundle:
    """A bundle that was verified, if it is all of `release` and nothing else: steps 1 and 8 of `verify_release`.

    Raises:
        DigestMismatchError, EvidenceError: It is not.
    """
    with suggest(_CHANGED):
        _require_same_files(release.files, verified.files)
    for what, expected, got in (  # 8
        ("model", release.model, verified.model),
        ("policy", release.policy_sha256, verified.policy_sha256),
    ):
        if expected != got:
            raise EvidenceError(
                f"verdict: expected one on the {what} {expected[:64]} of the release, got {got[:64]}",
                remedy="Policy or model changed after the verdict. Judge and submit again: dvc repro",
            )
    return verified


def require_bundle(bundle: Path, verdict: Path, anchor: Anchor) -> None:
    """Refuse, with the failed gates, where a candidate was judged and therefore not signed.

    A bundle that is there is not looked at: `verify_release` does that.

    Args:
        bundle: Where the signed bundle would be.
        verdict: The signed record of `assess`; without it there is nothing to report.
        anchor: Whose signature the verdict must carry.

    Raises:
        GateRefusedError: There is no bundle; the verdict says why, or the candidate passed and was not signed yet.
        SignatureError, ThresholdError, EvidenceError: The verdict is not what the assessor signed.
    """
    if bundle.is_dir() or not verdict.is_file():
        return
    statement = read_attestation(verdict, "assess", anchor)
    result = outcome(statement) or "none"
    if result == "PASSED":
        raise GateRefusedError(
            f"{bundle}: expected a signed candidate, got none: it PASSED, and was not signed", remedy="dvc repro"
        )
    raise GateRefusedError(
        f"{bundle}: expected a signed candidate, got none: its verdict is {result} "
        f"(failed gates: {', '.join(failed_gates(statement)) or 'none named'})",
        remedy="Read reports/report.html. Change the data or the params, not the gates; then: dvc repro",
    )


def builders_of(bundle: Path, anchor: Anchor) -> tuple[str, ...]:
    """Who built the candidate in `bundle`, to show who may still approve it; () where there is no verdict to read.

    Raises:
        SignatureError, ThresholdError, EvidenceError: The verdict is not what the assessor signed.
    """
    verdict = bundle / VERDICT
    return built_by(read_attestation(verdict, "assess", anchor)) if verdict.is_file() else ()


def failed_gates(verdict: Statement) -> tuple[str, ...]:
    """Names of the gates that a verdict does not list as PASSED, in its order."""
    listed = verdict.predicate.get("twinseal_gates")
    gates = [gate for gate in listed if isinstance(gate, dict)] if isinstance(listed, list) else []
    return tuple(str(gate.get("name", "?"))[:80] for gate in gates if gate.get("result") != "PASSED")


def _require_same_files(expected: tuple[FileRecord, ...], got: tuple[FileRecord, ...]) -> None:
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


def _list_files(directory: Path) -> tuple[FileRecord, ...]:
    if not any((directory / part).exists() for part in _PARTS):
        got = "a folder with none of these" if directory.exists() else "no such folder"
        raise EvidenceError(f"{directory}: expected {A_BUNDLE}, got {got}", remedy=HOW_TO_MAKE_A_BUNDLE)
    return inventory(directory)


def _model_subjects(files: tuple[FileRecord, ...]) -> tuple[Subject, ...]:
    return tuple(Subject(record.path, record.sha256) for record in files if record.path.startswith(MODEL))


def _verify_model_signature(directory: Path, anchor: Anchor, files: tuple[FileRecord, ...]) -> None:
    try:
        bundle = read_regular(directory / SIGNATURE, MAX_BUNDLE_BYTES)
    except FileNotFoundError as error:
        raise DigestMismatchError(f"{SIGNATURE}: expected the builder's signature of the model, got none") from error
    verify_directory(directory / MODEL, bundle, anchor.roles["builder"], relative_names(files, MODEL.rstrip("/")))


def _read_statements(directory: Path, anchor: Anchor, files: tuple[FileRecord, ...]) -> dict[str, Statement]:
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


def _require_passed(statements: Mapping[str, Statement]) -> None:
    for stage, statement in statements.items():
        if statement.predicate_type == TEST_RESULT and outcome(statement) != "PASSED":
            raise GateRefusedError(
                f"{stage}: expected the result PASSED, got {outcome(statement) or 'none'}",
                remedy=f"The test failed, or did not end: read reports/report.html, then: dvc repro {stage}",
            )
    verdict = outcome(statements["assess"])
    if verdict != "PASSED":
        raise GateRefusedError(
            f"verdict: expected PASSED, got {verdict or 'none'}",
            remedy="Read which gate refused it, and why: reports/report.html",
        )


def _check_chain(statements: Mapping[str, Statement], model_files: tuple[Subject, ...], policy: Approval) -> None:
    """Step 5, and of step 7 that every stage obeyed the approved policy.

    Raises:
        EvidenceError: A link is broken; names the first one, walking back from the model.
    """
    broken = first_broken_link(statements, model_files, part_subjects(policy.content))
    if broken:
        raise EvidenceError(
            f"expected evidence about this model; {broken}",
            remedy="The records were made for other files. Whoever built the candidate must make them anew: dvc repro",
        )


def _check_verdict_subjects(verdict: Statement, model_files: tuple[Subject, ...]) -> None:
    got = {subject for subject in verdict.subjects if subject.name.startswith(MODEL)}
    if not model_files or got != set(model_files):
        names = sorted({subject.name for subject in got ^ set(model_files)})
        raise EvidenceError(
            f"verdict: expected one about exactly these model files, got one about others ({', '.join(names[:3])})",
            remedy="The verdict is about another candidate. Have this one judged: dvc repro assess",
        )


def _check_verdict_inputs(verdict: Statement, files: tuple[FileRecord, ...]) -> None:
    listed = verdict.predicate.get("inputAttestations")
    items = [Subject.from_dict(_named(item)) for item in listed] if isinstance(listed, list) else []
    got = sorted(item.sha256 for item in items)
    evidence = {record.path: record.sha256 for record in files if record.path.startswith("evidence/")}
    judged = {path: digest for path, digest in evidence.items() if path not in NOT_JUDGED}
    expected = sorted(judged.values())
    if got != expected:
        raise EvidenceError(
            f"verdict: expected one from the {len(expected)} statements of this bundle, got another",
            remedy=_OTHER_VERDICT,
        )


def _check_verdict_policy(verdict: Statement, policy: Approval) -> None:
    got = _verdict_policy(verdict)
    if got != policy.digest:
        raise EvidenceError(
            f"verdict: expected one by the policy {policy.digest[:12]}… that its owners approved, got {got[:12]}…",
            remedy="The policy changed after it was approved, or after the verdict. Its owners: twinseal policy show. "
            "Then judge again: dvc repro",
        )


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
