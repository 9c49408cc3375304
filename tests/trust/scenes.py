"""A demo home and bundles for the tests of trust: real keys, real signatures, models that are plain bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile

from tests import signed_policy
from tests.signed_policy import obeyed
from twinseal.digests import sha256, sha256_file
from twinseal.evidence import Statement, Subject, provenance, test_result, verification_summary
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.key import KeySigner
from twinseal.trust.release import oms, repository
from twinseal.trust.release.model_role import sign_role
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Roles
from twinseal.trust.signing.attestation import write_attestation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Path(__file__).parents[2] / "policy" / "roles.yaml"
POLICY_SHA = signed_policy.WHOLE.sha256
MODEL_ID = "m-" + "0" * 32
STAGES = ("ingest", "validate", "prepare", "train", "evade", "poison")

Edit = Callable[[Statement], Statement]


@dataclass(frozen=True)
class Scene:
    """A home with its anchor and the policy that it came from."""

    home: Home
    anchor: Anchor
    roles: Roles

    def copy(self, path: Path) -> Scene:
        shutil.copytree(self.home.path, path)
        return replace(self, home=Home(path))

    def signer(self, holder: str) -> KeySigner:
        return self.home.signer(holder)

    def signatures(self, role: bytes, *holders: str) -> list[dict[str, str]]:
        return [sign_role(role, self.signer(holder)) for holder in holders]

    def publish(self, release: Release, *, now: datetime = NOW) -> repository.Publication:
        """Stage, have two reviewers sign, publish."""
        role = repository.stage(self.home, release, expires=self.roles.expiry("reviewer", now))
        return repository.publish(
            self.home,
            Request(release, role),
            self.signatures(role, "alice", "bruno"),
            registrar=self.signer("registrar"),
            roles=self.roles,
            now=now,
        )


def make_scene(path: Path) -> Scene:
    roles = Roles.load(POLICY)
    home = Home(path)
    return Scene(home, ceremony.init_demo(home, roles, NOW), roles)


def statements(model: str, weights: bytes) -> dict[str, Statement]:
    """The evidence of an honest run whose model's weights are `weights`."""
    digest = {
        name: sha256(name.encode() + weights) for name in ("raw", "manifest", "accepted", "windows", "preparation")
    }
    raw = (Subject("data/raw/manifest.json", digest["manifest"]), Subject("data/raw/telemetry.parquet", digest["raw"]))
    accepted = Subject("data/accepted/telemetry.parquet", digest["accepted"])
    salt = Subject("data/accepted/split_salt.json", sha256(b"salt" + weights))
    windows = (
        Subject("data/windows/preparation.json", digest["preparation"]),
        Subject("data/windows/windows.safetensors", digest["windows"]),
    )
    files = tuple(Subject(f"model/{name}", sha256(data)) for name, data in model_files(model, weights).items())
    code = Subject("code", sha256(b"code"))

    def made(stage: str, subjects: tuple[Subject, ...], *materials: Subject) -> Statement:
        return provenance(
            subjects,
            stage=stage,
            builder="https://twinseal.dev/builder",
            materials=(*materials, code, *obeyed(stage)),
            parameters={"seed": 7},
            environment={"python": "3.11"},
        )

    def tested(stage: str, *subjects: Subject) -> Statement:
        configuration = (code, *obeyed(stage))
        return test_result(subjects, result="PASSED", configuration=configuration, passed=("all",), measures={"n": 1})

    return {
        "ingest": made("ingest", raw),
        "validate": tested("validate", raw[1], accepted, salt),
        "prepare": made("prepare", windows, accepted, salt),
        "train": made("train", files, *windows),
        "evade": tested("evade", *files, *windows),
        "poison": tested("poison", *files, accepted),
    }


def model_files(model: str, weights: bytes) -> dict[str, bytes]:
    return {"config.json": b"{}", "contract.json": f'{{"model":"{model}"}}'.encode(), "model.safetensors": weights}


def make_bundle(
    directory: Path,
    home: Home,
    *,
    model: str = "pump-rul",
    weights: bytes = b"weights",
    edits: Mapping[str, Edit] = {},
    reports: tuple[Subject, ...] = (),
) -> Path:
    """A bundle signed by the right roles; `edits` change statements before they are signed, "assess" the verdict."""
    for name, data in model_files(model, weights).items():
        (directory / "model").mkdir(parents=True, exist_ok=True)
        (directory / "model" / name).write_bytes(data)
    made = statements(model, weights)
    for stage in STAGES:
        attest(directory, home, stage, edits.get(stage, unchanged)(made[stage]))
    judge(directory, home, model, edits.get("assess", unchanged), reports)
    builder = home.role_signer(home.anchor().roles["builder"])
    (directory / "model.sig.json").write_bytes(oms.sign_directory(directory / "model", builder))
    return directory


def judge(directory: Path, home: Home, model: str, edit: Edit, reports: tuple[Subject, ...] = ()) -> None:
    inputs = (directory / "evidence" / f"{stage}.dsse.json" for stage in STAGES)
    verdict = verification_summary(
        tuple(Subject(f"model/{p.name}", sha256_file(p)) for p in sorted((directory / "model").iterdir())),
        verifier="https://twinseal.dev/assessor/v1",
        time_verified="2026-03-01T12:00:00Z",
        resource=f"https://twinseal.dev/model/{model}",
        policy=Subject("policy", POLICY_SHA),
        inputs=tuple(Subject(path.name, sha256_file(path)) for path in inputs),
        result="PASSED",
        gates=[{"name": "rmse", "result": "PASSED"}],
        reports=reports,
    )
    attest(directory, home, "assess", edit(verdict))
    signed_policy.write_approval(directory, home)


def attest(directory: Path, home: Home, stage: str, statement: Statement) -> None:
    write_attestation(directory / "evidence" / f"{stage}.dsse.json", stage, statement, home)


def unchanged(statement: Statement) -> Statement:
    return statement


def with_digests(*changes: tuple[str, str]) -> Edit:
    """An edit that puts other digests under the names of subjects."""

    def edit(statement: Statement) -> Statement:
        new = dict(changes)
        return replace(
            statement, subjects=tuple(replace(s, sha256=new.get(s.name, s.sha256)) for s in statement.subjects)
        )

    return edit


def with_predicate(**changes: Any) -> Edit:
    """An edit that puts other values into the predicate."""
    return lambda statement: replace(statement, predicate=statement.predicate | changes)


def describe(bundle: Path, *, model: str = "pump-rul", version: int = 1) -> Release:
    return Release.describe(
        bundle,
        model=model,
        version=version,
        policy_sha256=POLICY_SHA,
        mlflow_model_id=MODEL_ID,
        parent_version=version - 1 or None,
    )


@dataclass
class Disk:
    """A source over a repository on a disk, with files replaced at will."""

    directory: Path
    instead: dict[str, bytes | BaseException]
    asked: list[str]

    @classmethod
    def of(cls, home: Home, **instead: bytes | BaseException) -> Disk:
        return cls(home.repository, dict(instead), [])

    def __call__(self, path: str, limit: int, /) -> Iterator[bytes]:
        self.asked.append(path)
        found = self.instead.get(path)
        if isinstance(found, BaseException):
            raise found
        return iter([(self.directory / path).read_bytes() if found is None else found])


def resign(home: Home, edit: Callable[[dict[str, MetaFile]], None] = lambda _: None, *, by: str = "registrar") -> None:
    """What whoever holds the registrar's key can do: a newer snapshot and timestamp that list anything."""
    metadata = home.repository / "metadata"
    stamp = Metadata.from_file(str(metadata / "timestamp.json"))
    version = stamp.signed.snapshot_meta.version
    snapshot = Metadata.from_file(str(metadata / f"{version}.snapshot.json"))
    edit(snapshot.signed.meta)
    snapshot.signed.version = version + 1
    snapshot.sign(home.signer(by))
    data = snapshot.to_bytes()
    (metadata / f"{version + 1}.snapshot.json").write_bytes(data)
    stamp.signed.version += 1
    stamp.signed.snapshot_meta = MetaFile.from_data(version + 1, data, ["sha256"])
    stamp.sign(home.signer(by))
    stamp.to_file(str(metadata / "timestamp.json"))


def put(home: Home, name: str, metadata: Metadata[Any], *signers: KeySigner) -> None:
    """Sign a role's metadata by `signers`, write it as its next file, and have the registrar list it."""
    metadata.signatures.clear()
    for signer in signers:
        metadata.sign(signer, append=True)
    data, version = metadata.to_bytes(), metadata.signed.version
    (home.repository / "metadata" / f"{version}.{name}.json").write_bytes(data)
    resign(home, lambda meta: meta.update({f"{name}.json": MetaFile.from_data(version, data, ["sha256"])}))
