"""Evidence: what a stage states about files, identified by their digests. All of twinseal shares this one form.

A record is an in-toto Statement v1 (https://in-toto.io/Statement/v1): subjects by SHA-256, a predicate type and its
predicate.
These predicate types are used:

    SLSA provenance v1               ingest, prepare, train   how the subjects were made, and from what
    in-toto test-result v0.1         validate, evade, poison  what was tested on the subjects, and how it went
    SLSA verification summary v1     assess                   the verdict on all of the above
    twinseal review v2               reviewers                a decision and its comment, after the one before it
    twinseal first cycles v1         commissioners            a baseline record: a unit's readings when new
    twinseal devices v1              commissioners            which gateways may deliver which units and channels
    twinseal lives v1                commissioners            which machines there are, and what was done to each
    twinseal policy v1               policy owners            the policy by which candidates are judged, whole

Statements are plain JSON values. This module builds and reads them; signing them is `twinseal.trust`'s.

Rule: the reader of a statement says what it must be about. A result that is missing, empty, unknown or about something
else is not a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from twinseal.digests import canonical_json, is_sha256, parse_json
from twinseal.errors import EvidenceError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"
REVIEW = "https://twinseal.dev/review/v2"  # v1 had no sequence
DEVICE_RECORD = "https://twinseal.dev/devices/v1"
LIFE_RECORD = "https://twinseal.dev/lives/v1"
BASELINE_RECORD = "https://twinseal.dev/first-cycles/v1"  # signed format: keeps the name that it began with
POLICY_APPROVAL = "https://twinseal.dev/policy/v1"
SPLIT_SALT = "https://twinseal.dev/split-salt/v1"
PREDICATE_TYPES = (
    PROVENANCE,
    TEST_RESULT,
    VERIFICATION_SUMMARY,
    REVIEW,
    BASELINE_RECORD,
    DEVICE_RECORD,
    LIFE_RECORD,
    POLICY_APPROVAL,
    SPLIT_SALT,
)

MAX_BUILDERS, MAX_NAME = 16, 254  # of who built a candidate: logins, e-mail addresses (RFC 5321 section 4.5.3)
CODE = "code"  # the subject that stands for the code that a stage ran

Result = Literal["PASSED", "WARNED", "FAILED"]


@dataclass(frozen=True, order=True)
class Subject:
    """What a statement is about, or what something was made from: a name and the SHA-256 of its bytes.

    Raises:
        EvidenceError: The name is empty or the digest is malformed.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise EvidenceError(f"subject name: expected text, got {str(self.name)[:80]!r}")
        if not is_sha256(self.sha256):
            raise EvidenceError(f"subject {self.name[:80]}: expected a SHA-256, got {str(self.sha256)[:80]!r}")

    def to_dict(self) -> dict[str, Any]:
        """A ResourceDescriptor of in-toto: name and digest."""
        return {"name": self.name, "digest": {"sha256": self.sha256}}

    @classmethod
    def from_dict(cls, value: Any) -> Subject:
        """Law: `Subject.from_dict(subject.to_dict()) == subject`.

        Raises:
            EvidenceError: Not a ResourceDescriptor with a name and a sha256.
        """
        if not isinstance(value, dict) or not isinstance(value.get("digest"), dict):
            raise EvidenceError(f"subject: expected a name and a digest, got {str(value)[:80]}")
        return cls(value.get("name", ""), value["digest"].get("sha256", ""))


@dataclass(frozen=True)
class Statement:
    """One in-toto Statement.

    Attributes:
        subjects: What it is about; at least one, each name once.
        predicate_type: One of PREDICATE_TYPES.
        predicate: A JSON object as its type defines.

    Raises:
        EvidenceError: There is no subject, a name occurs twice, the type is unknown, or the predicate is not an object.
    """

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        names = [subject.name for subject in self.subjects]
        if not names or len(set(names)) != len(names):
            raise EvidenceError(f"statement: expected subjects with one name each, got {str(names)[:80]}")
        if self.predicate_type not in PREDICATE_TYPES:
            raise EvidenceError(f"statement: unknown predicate type {str(self.predicate_type)[:80]!r}")
        if not isinstance(self.predicate, dict) or not self.predicate:
            raise EvidenceError("statement: expected a predicate, got none")

    def to_bytes(self) -> bytes:
        """The canonical bytes, which are signed.

        Raises:
            ValueError: The predicate holds NaN or an infinity, which cannot be evidence.
        """
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [subject.to_dict() for subject in self.subjects],
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "statement") -> Statement:
        """Law: `Statement.from_bytes(statement.to_bytes()) == statement`.

        Raises:
            EvidenceError: The bytes are not one in-toto Statement v1 of a known predicate type.
        """
        value = parse_json(data, where)
        if not isinstance(value, dict) or set(value) != {"_type", "subject", "predicateType", "predicate"}:
            raise EvidenceError(f"{where}: expected an in-toto Statement, got {str(value)[:80]}")
        if value["_type"] != STATEMENT_TYPE or not isinstance(value["subject"], list):
            raise EvidenceError(f"{where}: expected {STATEMENT_TYPE}, got {str(value['_type'])[:80]}")
        subjects = tuple(Subject.from_dict(item) for item in value["subject"])
        return cls(subjects, value["predicateType"], value["predicate"])

    def digest_of(self, name: str) -> str:
        """The digest of the subject called `name`.

        Raises:
            EvidenceError: No subject has that name.
        """
        for subject in self.subjects:
            if subject.name == name:
                return subject.sha256
        raise EvidenceError(f"statement: expected a subject '{name}', got {str([s.name for s in self.subjects])[:80]}")


def provenance(
    subjects: tuple[Subject, ...],
    *,
    stage: str,
    builder: str,
    materials: tuple[Subject, ...],
    parameters: dict[str, Any],
    environment: dict[str, Any],
    measures: dict[str, Any] | None = None,
    byproducts: tuple[Subject, ...] = (),
) -> Statement:
    """SLSA provenance: `stage` made `subjects` from `materials` with `parameters` in `environment`.

    Follows SLSA 1.0 Provenance (buildDefinition, runDetails). Times are left out: the same inputs give the same bytes.

    Args:
        subjects: What was made.
        stage: Name of the DVC stage; becomes the buildType.
        builder: Who ran it; becomes builder.id.
        materials: Everything that was read: data, code, params, policy, locks.
        parameters: The params that the stage used.
        environment: Python, packages, machine; never a secret.
        measures: Numbers that the stage measured on the subjects.
        byproducts: Files that the stage wrote besides, for people: what figures are drawn from.
    """
    predicate: dict[str, Any] = {
        "buildDefinition": {
            "buildType": f"https://twinseal.dev/stage/{stage}/v1",
            "externalParameters": parameters,
            "internalParameters": environment,
            "resolvedDependencies": [material.to_dict() for material in sorted(materials)],
        },
        "runDetails": {"builder": {"id": builder}},
    }
    if measures is not None:
        predicate["runDetails"]["twinseal_measures"] = measures
    if byproducts:
        predicate["runDetails"]["byproducts"] = [item.to_dict() for item in sorted(byproducts)]
    return Statement(subjects, PROVENANCE, predicate)


def test_result(
    subjects: tuple[Subject, ...],
    *,
    result: Result,
    configuration: tuple[Subject, ...],
    passed: tuple[str, ...] = (),
    warned: tuple[str, ...] = (),
    failed: tuple[str, ...] = (),
    measures: dict[str, Any],
) -> Statement:
    """An in-toto test-result: `subjects` were tested under `configuration`, with this `result`.

    Args:
        subjects: What was tested.
        result: PASSED, WARNED or FAILED. A test that only measures is PASSED when it has run completely.
        configuration: What defines the test: policy files, suites, code.
        passed: Names of the single tests that passed.
        warned: Names of those that passed with a warning.
        failed: Names of those that failed.
        measures: Every measured number, with its unit in its name; the gates read them.

    Raises:
        EvidenceError: PASSED with failed tests, or no test at all: an empty pass is not a pass.
    """
    if result == "PASSED" and failed:
        raise EvidenceError(f"test result: expected no failed tests under PASSED, got {list(failed)}")
    if not (passed or warned or failed):
        raise EvidenceError("test result: expected at least one test, got none")
    predicate = {
        "result": result,
        "configuration": [item.to_dict() for item in configuration],
        "passedTests": list(passed),
        "warnedTests": list(warned),
        "failedTests": list(failed),
        "twinseal_measures": measures,
    }
    return Statement(subjects, TEST_RESULT, predicate)


test_result.__test__ = False  # type: ignore[attr-defined]  # the in-toto predicate's name, not a pytest test


def verification_summary(
    subjects: tuple[Subject, ...],
    *,
    verifier: str,
    time_verified: str,
    resource: str,
    policy: Subject,
    inputs: tuple[Subject, ...],
    result: Literal["PASSED", "FAILED"],
    gates: list[dict[str, Any]],
    reports: tuple[Subject, ...] = (),
    source: dict[str, Any] | None = None,
    built_by: tuple[str, ...] = (),
) -> Statement:
    """A SLSA verification summary: `verifier` judged `subjects` by `policy` from the evidence `inputs`.

    Follows SLSA 1.0 Verification Summary Attestation; what SLSA has no place for is added under keys of our own.

    Args:
        subjects: What was judged.
        verifier: Who judged, as a URI.
        time_verified: RFC 3339, UTC.
        resource: What the subjects are, as a URI.
        policy: The policy that was applied.
        inputs: The evidence that was read, by the digest of its envelope.
        result: PASSED or FAILED.
        gates: One object for each gate, with bound, observed value and result.
        reports: The pages and figures that a reviewer reads before signing, by their digests.
        source: The commit that the code is of, and the files that differ from it.
        built_by: Who built the candidate: a login, e-mail addresses. A reviewer of that name does not approve it.

    Raises:
        EvidenceError: PASSED without gates, or with a gate that is not PASSED.
    """
    if result == "PASSED" and not (gates and all(gate.get("result") == "PASSED" for gate in gates)):
        raise EvidenceError("verdict: expected every gate PASSED under PASSED, and at least one gate")
    predicate = {
        "verifier": {"id": verifier},
        "timeVerified": time_verified,
        "resourceUri": resource,
        "policy": {"uri": policy.name, "digest": {"sha256": policy.sha256}},
        "inputAttestations": [{"uri": i.name, "digest": {"sha256": i.sha256}} for i in sorted(inputs)],
        "verificationResult": result,
        "verifiedLevels": [],
        "slsaVersion": "1.0",
        "twinseal_gates": gates,
        "twinseal_reports": [item.to_dict() for item in sorted(reports)],
        "twinseal_source": source or {},
    }
    if built_by:
        predicate["twinseal_built_by"] = sorted(set(built_by))
    return Statement(subjects, VERIFICATION_SUMMARY, predicate)


def outcome(statement: Statement) -> str:
    """The result in a test-result or a verification summary; "" if there is none.

    Callers compare it with "PASSED": a missing, unknown or misspelt result differs from it.
    """
    key = {TEST_RESULT: "result", VERIFICATION_SUMMARY: "verificationResult"}.get(statement.predicate_type, "")
    value = statement.predicate.get(key, "")
    return value if isinstance(value, str) else ""


def materials(statement: Statement) -> tuple[Subject, ...]:
    """The resolved dependencies of a provenance statement.

    Raises:
        EvidenceError: It is not provenance, or the dependencies are malformed.
    """
    definition = statement.predicate.get("buildDefinition")
    if statement.predicate_type != PROVENANCE or not isinstance(definition, dict):
        raise EvidenceError(f"statement: expected {PROVENANCE}, got {statement.predicate_type}")
    listed = definition.get("resolvedDependencies")
    if not isinstance(listed, list):
        raise EvidenceError("provenance: expected a list of resolvedDependencies, got none")
    return tuple(Subject.from_dict(item) for item in listed)


def byproducts(statement: Statement) -> tuple[Subject, ...]:
    """The files for people that a provenance statement names; () if there are none.

    Raises:
        EvidenceError: The list is malformed.
    """
    details = statement.predicate.get("runDetails")
    listed = details.get("byproducts", []) if isinstance(details, dict) else []
    if not isinstance(listed, list):
        raise EvidenceError("provenance: expected a list of byproducts, got something else")
    return tuple(Subject.from_dict(item) for item in listed)


def reports(statement: Statement) -> tuple[Subject, ...]:
    """The pages and figures that a verification summary names.

    Raises:
        EvidenceError: The list is absent or malformed: then nothing says what a reviewer was to read.
    """
    listed = statement.predicate.get("twinseal_reports")
    if not isinstance(listed, list):
        raise EvidenceError("verdict: expected the digests of the report, got none")
    return tuple(Subject.from_dict(item) for item in listed)


def source_of(statement: Statement) -> dict[str, Any]:
    """The commit of the code that a verification summary was made with, and what differed from it; {} if unknown."""
    found = statement.predicate.get("twinseal_source")
    return found if isinstance(found, dict) else {}


def built_by(statement: Statement) -> tuple[str, ...]:
    """Who built what a verification summary is about: logins, e-mail addresses; () if it does not say.

    Raises:
        EvidenceError: It says so in another form than a sorted list of at most 16 short names.
    """
    listed = statement.predicate.get("twinseal_built_by", [])
    names = listed if isinstance(listed, list) else [None]
    if len(names) > MAX_BUILDERS or not all(isinstance(item, str) and 0 < len(item) <= MAX_NAME for item in names):
        raise EvidenceError(f"verdict: expected at most {MAX_BUILDERS} names of who built it, got {str(listed)[:80]}")
    if names != sorted(set(names)):
        raise EvidenceError(f"verdict: expected who built it in order, each once, got {str(listed)[:80]}")
    return tuple(names)


def measures(statement: Statement) -> dict[str, Any]:
    """The measured numbers in a statement; empty if there are none."""
    holder = statement.predicate.get("runDetails") if statement.predicate_type == PROVENANCE else statement.predicate
    found = holder.get("twinseal_measures") if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else {}


def stage_params(statement: Statement) -> dict[str, Any]:
    """The params with which a stage did its work, by the provenance that it signed; empty if it names none."""
    definition = statement.predicate.get("buildDefinition")
    given = definition.get("externalParameters") if isinstance(definition, dict) else None
    return given if isinstance(given, dict) else {}
