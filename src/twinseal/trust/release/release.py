"""A release: what reviewers approve. One version of one model, every file of it by path, length and SHA-256.

The model's TUF role lists `release.json` as its one target, `<model>/release.json`. Its bytes are canonical, so what a
reviewer reads and what a twin parses cannot differ.

The files are those of a bundle:

    model/…                    the model's own files
    model.sig.json             the builder's OMS signature over model/
    evidence/<stage>.dsse.json the signed statements
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from twinseal.digests import canonical_json, is_sha256, parse_json, sha256
from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.files import FileRecord, inventory, refuse_case_folds
from twinseal.trust.root.roles import check_models

SCHEMA = "https://twinseal.dev/release/v1"
MODEL = "model/"
SIGNATURE = "model.sig.json"
VERDICT = "evidence/assess.dsse.json"
MAX_RELEASE_BYTES = 1 << 20
MAX_VERSION = 2**31
_MLFLOW_ID = re.compile(r"m-[0-9a-f]{32}\Z")
_EVIDENCE = re.compile(r"evidence/[a-z][a-z0-9_-]{0,39}\.dsse\.json\Z")
_FIELDS = frozenset(
    ("schema", "model", "version", "files", "verdict_sha256", "policy_sha256", "mlflow_model_id", "parent_version")
)


@dataclass(frozen=True)
class Release:
    """One version of one model.

    Law: `Release.from_bytes(release.to_bytes()) == release`.

    Attributes:
        model: Name, as in policy/roles.yaml.
        version: Only grows; 1 is the first.
        files: Every file of the bundle, sorted by path.
        verdict_sha256: Digest of the signed verdict, `evidence/assess.dsse.json`.
        policy_sha256: Digest of the policy that the verdict was judged by.
        mlflow_model_id: MLflow's id of the candidate: where to fetch the bytes from. No trust rests on it.
        parent_version: The version that this one replaces; None for the first.

    Raises:
        EvidenceError: A part does not fit this description, a file lies outside the bundle's places, the model has no
            file, or the
            verdict's digest is not that of the file.
    """

    model: str
    version: int
    files: tuple[FileRecord, ...]
    verdict_sha256: str
    policy_sha256: str
    mlflow_model_id: str
    parent_version: int | None = None

    def __post_init__(self) -> None:
        _check_names(self)
        _check_versions(self.version, self.parent_version)
        _check_files(self.files, self.verdict_sha256)

    @property
    def target(self) -> str:
        """The target path in the TUF repository."""
        return target_path(self.model)

    @property
    def model_files(self) -> tuple[FileRecord, ...]:
        """The model's own files, paths as in the bundle (`model/…`)."""
        return tuple(record for record in self.files if record.path.startswith(MODEL))

    @property
    def sha256(self) -> str:
        """The digest of `to_bytes()`."""
        return sha256(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The canonical bytes of release.json."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "model": self.model,
                "version": self.version,
                "files": [record.to_dict() for record in self.files],
                "verdict_sha256": self.verdict_sha256,
                "policy_sha256": self.policy_sha256,
                "mlflow_model_id": self.mlflow_model_id,
                "parent_version": self.parent_version,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "release.json") -> Release:
        """The release that `data` stands for.

        Raises:
            EvidenceError: It is no release, or not canonical.
        """
        value = parse_json(data, where, limit=MAX_RELEASE_BYTES)
        if not isinstance(value, dict) or set(value) != _FIELDS or value["schema"] != SCHEMA:
            raise EvidenceError(f"{where}: expected a release of {SCHEMA}, got {str(value)[:80]}")
        if not isinstance(value["files"], list):
            raise EvidenceError(f"{where}: expected a list of files, got {str(value['files'])[:80]}")
        files = tuple(FileRecord.from_dict(item) for item in value["files"])
        rest = {name: item for name, item in value.items() if name not in ("schema", "files")}
        release = cls(files=files, **rest)
        if release.to_bytes() != data:
            raise EvidenceError(f"{where}: expected the canonical bytes of a release, got another form")
        return release

    @classmethod
    def describe(
        cls,
        directory: Path,
        *,
        model: str,
        version: int,
        policy_sha256: str,
        mlflow_model_id: str,
        parent_version: int | None,
    ) -> Release:
        """The release that lists the bundle in `directory`. The bundle is not verified.

        Raises:
            EvidenceError: As the constructor; or there is no verdict in it.
            DigestMismatchError: It holds something that is no plain file.
        """
        files = inventory(directory)
        verdict = next((record.sha256 for record in files if record.path == VERDICT), "")
        return cls(model, version, files, verdict, policy_sha256, mlflow_model_id, parent_version)


def target_path(model: str) -> str:
    """The one target that the TUF role of `model` may list."""
    return f"{model}/release.json"


def _check_names(release: Release) -> None:
    try:
        check_models((release.model,))
    except ValueError as error:
        raise EvidenceError(f"release: {error}") from error
    for name in ("verdict_sha256", "policy_sha256"):
        if not is_sha256(getattr(release, name)):
            raise EvidenceError(f"release {name}: expected a SHA-256, got {str(getattr(release, name))[:80]!r}")
    if not isinstance(release.mlflow_model_id, str) or not _MLFLOW_ID.match(release.mlflow_model_id):
        raise EvidenceError(f"release: expected a model id m-<32 hex>, got {str(release.mlflow_model_id)[:80]!r}")


def _check_versions(version: object, parent: object) -> None:
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise EvidenceError(f"release version: expected 1 to {MAX_VERSION}, got {str(version)[:40]}")
    if parent is not None and (type(parent) is not int or not 1 <= parent < version):
        raise EvidenceError(f"release parent: expected a version before {version}, or none, got {str(parent)[:40]}")


def _check_files(files: tuple[FileRecord, ...], verdict_sha256: str) -> None:
    if not files or list(files) != sorted(files):
        raise EvidenceError("release: expected files in order of path, got none or another order")
    try:
        refuse_case_folds(files)
    except DigestMismatchError as error:
        raise EvidenceError(f"release: {error}") from error
    for record in files:
        if not (record.path.startswith(MODEL) or record.path == SIGNATURE or _EVIDENCE.match(record.path)):
            raise EvidenceError(f"release: expected files under model/ and evidence/ alone, got {record.path}")
    digests = {record.path: record.sha256 for record in files}
    if len(digests) != len(files):
        raise EvidenceError("release: expected each file once, got one twice")
    for path in digests:
        if any(path[:place] in digests for place, letter in enumerate(path) if letter == "/"):
            raise EvidenceError(f"release: expected no file below another, got {path}")
    if not any(path.startswith(MODEL) for path in digests) or SIGNATURE not in digests:
        raise EvidenceError(f"release: expected a model and its {SIGNATURE}, got {', '.join(digests)[:80]}")
    if digests.get(VERDICT) != verdict_sha256:
        raise EvidenceError(f"release verdict: expected {verdict_sha256[:12]}…, got {digests.get(VERDICT, 'no file')}")
