"""What every stage shares: its params, the evidence upstream of it, and the signed record that it leaves.

A stage is a script that reads, calls one verb and writes. It trusts no file for being there: what it reads is hashed
again and must be what the signed evidence upstream says (a same-size edit with the modification time restored passes
DVC unseen).
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from twinseal import config
from twinseal.console import out, printable
from twinseal.digests import sha256_file
from twinseal.errors import ConfigError, DigestMismatchError, EvidenceError
from twinseal.escaping import csv_cell
from twinseal.evidence import CODE, Statement, Subject, provenance, stage_params
from twinseal.files import FileRecord, inventory, tree_digest, write_whole
from twinseal.measures.quantity import Group
from twinseal.policy_entries import part_subject, unaccepted
from twinseal.telemetry.contract import AssetParams, Contract
from twinseal.trust.root.home import Home
from twinseal.trust.root.private_folders import private_site_cache
from twinseal.trust.signing.attestation import read_attestation, write_attestation
from twinseal.trust.signing.split_salt import read_salt

PARAMS = Path("params.yaml")
POLICY = Path("policy")
EVIDENCE = Path("reports/evidence")
SECTIONS = ("data", "validation", "prepare", "train", "workers")
CANDIDATE = Path("models/candidate")
ACCEPTED = Path("data/accepted/telemetry.parquet")
WINDOWS = (Path("data/windows/windows.safetensors"), Path("data/windows/preparation.json"))
DVC_FILES = (Path("dvc.yaml"), Path("pipelines/dvc.yaml"))
SALT = Path("data/accepted/split_salt.json")
CONTRACT, THREATS, EVALUATION = POLICY / "contract.yaml", POLICY / "threats.yaml", POLICY / "evaluation.yaml"
BUILDER = "https://twinseal.dev/builder"

S = TypeVar("S", bound=config.Settings)


def params(kind: type[S], section: str) -> S:
    """One section of params.yaml.

    Raises:
        ConfigError: It is missing, says what cannot be, or stands beside a section that nobody reads.
    """
    given = config.read_yaml(PARAMS)
    for name in given if isinstance(given, dict) else ():
        if name not in SECTIONS:
            raise ConfigError(f"{PARAMS}: {name}: unknown section; expected {', '.join(SECTIONS)}")
    return config.load(kind, PARAMS, section=section)


def contract() -> Contract:
    """The contract of the asset that params.yaml names; says so if nobody has accepted it.

    Raises:
        ConfigError: There is none.
    """
    found = Contract.load(CONTRACT, params(AssetParams, "data").asset)
    say_proposed(found.asset)
    return found


def say_proposed(asset: str) -> None:
    """Tell the person at the terminal, in a line each, what of the policy for `asset` is only proposed."""
    content = {path.name: config.read_yaml(path) for path in (CONTRACT, THREATS) if path.is_file()}
    for mark in unaccepted(content, asset):
        out.print(f"[yellow]proposed[/]  {printable(mark.complaint)}: the verdict will be FAILED", soft_wrap=True)


def part(path: Path, asset: str) -> Subject:
    """The part of a policy file that is about `asset`, as it is now.

    Raises:
        ConfigError: The file is none.
    """
    return part_subject(path.name, config.read_yaml(path), asset)


def signed_params(kind: type[S], statement: Statement, section: str) -> S:
    """A section of the params with which an earlier stage did its work, by its own signed record.

    Raises:
        ConfigError: The record has none, or they say what cannot be.
    """
    return config.parse(kind, stage_params(statement).get(section), f"signed params: {section}")


def salt() -> str:
    """The salt that was signed for the accepted telemetry as it is now.

    Raises:
        SignatureError: It is absent, or not signed by the role that should have.
        DigestMismatchError: It is not the one that validate's record is about.
        EvidenceError: It is for other telemetry.
    """
    upstream("validate", ACCEPTED, SALT)
    return read_salt(SALT, subject(ACCEPTED), Home.find().anchor())


def subject(path: Path) -> Subject:
    """The file at `path` as it is now, hashed afresh."""
    return Subject(path.as_posix(), sha256_file(path))


def upstream(stage: str, *paths: Path) -> Statement:
    """The signed record of an earlier stage, after checking that `paths` are still what it said they were.

    Raises:
        SignatureError: The record is absent, or not signed by the role that should have.
        DigestMismatchError: A file is not the one that the record is about.
    """
    statement = read_attestation(EVIDENCE / f"{stage}.dsse.json", stage, Home.find().anchor())
    for path in paths:
        expected, got = statement.digest_of(path.as_posix()), sha256_file(path)
        if expected != got:
            raise DigestMismatchError(
                f"{path}: expected sha256 {expected[:12]}… as {stage} signed it, got {got[:12]}…",
                remedy=f"Someone changed the file after {stage} ran. Find out who, then: dvc repro --force {stage}",
            )
    return statement


def records(*stages: str) -> dict[str, Statement]:
    """The signed records of `stages` that exist. An absent one is the gates' business; a bad signature is refused.

    Raises:
        SignatureError: A record is not signed by the role that should have.
    """
    present = [stage for stage in stages if (EVIDENCE / f"{stage}.dsse.json").exists()]
    return {stage: upstream(stage) for stage in present}


def model_files() -> tuple[Subject, ...]:
    """The candidate's files as they are now, named `model/…`."""
    return tuple(Subject(f"model/{record.path}", record.sha256) for record in inventory(CANDIDATE))


def candidate() -> tuple[Subject, ...]:
    """The candidate's files as they are now, after checking that they are what train signed.

    Raises:
        EvidenceError: A file is another one, was added to those that train signed, or is missing.
    """
    files, signed = model_files(), upstream("train").subjects
    if sorted(files) != sorted(signed):
        raise EvidenceError(
            f"{CANDIDATE}: expected the files that train signed, {[s.name for s in sorted(signed)]}, "
            f"got others, or other bytes, in {[s.name for s in sorted(files)]}",
            remedy="Find out who changed the candidate, then: dvc repro --force train",
        )
    return files


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when the block has ended well: all or nothing."""
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        fresh = Path(temporary, folder.name)
        yield fresh
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV, numbers to three places, text so that no spreadsheet takes it for a formula."""
    cells = [{key: csv_cell(item) if isinstance(item, str) else item for key, item in row.items()} for row in rows]
    write_whole(path, pd.DataFrame(cells).to_csv(index=False, float_format="%.3f").encode())


def check_signing_key(stage: str) -> None:
    """Open the key that `stage` will sign with, before it does any work; and the key of later stages, if it is here.

    Raises:
        ConfigError: DVC's site cache, from which it loads pickles, is not this user's alone.
        RootError: There is no home yet.
        KeyAccessError: The key of this stage is not on this machine; or one that is cannot be opened.
    """
    _, said = private_site_cache()
    if said:
        raise ConfigError(said, remedy="Find out who else can write there. Then run the same command again.")
    home = Home.find()
    anchor = home.anchor()
    own = "builder" if stage == "sign" else anchor.requirement(stage).role
    for role in (anchor.roles[name] for name in ("builder", "assessor")):
        if role.role == own or any(home.has_key(holder.name) for holder in role.holders):
            home.role_signer(role)


def attest(stage: str, statement: Statement) -> None:
    """Sign `statement` with the key of the role that answers for `stage`, and leave it in reports/evidence/."""
    write_attestation(EVIDENCE / f"{stage}.dsse.json", stage, statement, Home.find())


def attest_provenance(
    stage: str,
    *subjects: Subject,
    materials: tuple[Subject, ...],
    parameters: dict[str, Any],
    measures: Group | None = None,
    byproducts: tuple[Subject, ...] = (),
) -> None:
    """Sign as the builder: `stage` made `subjects` from `materials`, and from code, params, contract and locks."""
    shared = (code(stage), subject(PARAMS), part(CONTRACT, params(AssetParams, "data").asset), locks())
    made = provenance(
        subjects,
        stage=stage,
        builder=BUILDER,
        materials=(*materials, *shared),
        parameters=parameters,
        environment=environment(),
        measures=None if measures is None else measures.to_dict(),
        byproducts=byproducts,
    )
    attest(stage, made)


def code(stage: str) -> Subject:
    """The code of ours that `stage` runs, as one digest: what its `deps` in dvc.yaml name, compared there with imports.

    Raises:
        ConfigError: dvc.yaml has no such stage.
    """
    stages = {name: item for file in DVC_FILES for name, item in config.read_yaml(file)["stages"].items()}
    if stage not in stages:
        raise ConfigError(f"{DVC_FILES[0]}: expected a stage {stage}, got {', '.join(stages)}")
    named = [Path(dep) for dep in stages[stage]["deps"] if str(dep).startswith(("src/", "pipelines/"))]
    kinds = ("*.py", "*.j2", "*.css")
    within = [path for dep in named if dep.is_dir() for kind in kinds for path in dep.rglob(kind)]
    return _tree(CODE, sorted({*within, *(dep for dep in named if not dep.is_dir())}))


def locks() -> Subject:
    """The lock files, as one digest."""
    return _tree("requirements", sorted(Path("requirements").glob("*.lock")))


def environment() -> dict[str, Any]:
    """Python, machine and installed packages: what a rebuild would need to know. No names, paths or secrets."""
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": dict(sorted(packages.items())),
    }


def _tree(name: str, paths: list[Path]) -> Subject:
    records = (FileRecord(path.as_posix(), path.stat().st_size, sha256_file(path)) for path in paths)
    return Subject(name, tree_digest(tuple(records)))
