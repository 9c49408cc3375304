"""A small deployment, all real: keys, anchor, evidence, signatures, TUF repository, and a mirror to pull from.

The model is a tiny untrained network and the evidence is about files that were never made: who admits must not care how
good a model is, only that the signed evidence says so about exactly these bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests import signed_policy
from tests.signed_policy import obeyed
from twinseal.digests import sha256, sha256_file
from twinseal.evidence import Statement, Subject, provenance, test_result, verification_summary
from twinseal.files import inventory
from twinseal.guard.parameters import GuardParams
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.checkpoint import Model, write_model
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import Normaliser
from twinseal.telemetry.contract import Contract
from twinseal.trust.ceremonies.ceremony import init_demo
from twinseal.trust.release import repository
from twinseal.trust.release.model_role import sign_role
from twinseal.trust.release.oms import sign_directory
from twinseal.trust.release.release import Release
from twinseal.trust.release.request import Request
from twinseal.trust.root.anchor import Anchor
from twinseal.trust.root.home import Home
from twinseal.trust.root.roles import Role, Roles, RoleTable
from twinseal.trust.signing.attestation import write_attestation

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MODEL, OTHER = "pump-rul", "fan-rul"
POLICY = signed_policy.WHOLE
CHANNELS = ("speed", "pressure", "flow", "torque", "heat", "noise", "vibration", "current")
WINDOW = 6

RAW = Subject("data/raw/telemetry.parquet", sha256(b"raw"))
ACCEPTED = Subject("data/accepted/telemetry.parquet", sha256(b"accepted"))
SALT = Subject("data/accepted/split_salt.json", sha256(b"salt"))
WINDOWS = (
    Subject("data/windows/preparation.json", sha256(b"preparation")),
    Subject("data/windows/windows.safetensors", sha256(b"windows")),
)


def roles(models: tuple[str, ...] = (MODEL, OTHER)) -> Roles:
    """Two of three reviewers; everybody else alone."""
    holders = {
        "root": ("ruth",),
        "targets": ("ruth",),
        "builder": ("builder",),
        "assessor": ("assessor",),
        "reviewer": ("alice", "bruno", "chiara"),
        "commissioner": ("emil", "flora"),
        "owner": ("gerda",),
        "registrar": ("registrar",),
    }
    table = {
        name: Role(holders=names, threshold=2 if name == "reviewer" else 1, expires_days=30)
        for name, names in holders.items()
    }
    return Roles(models=models, roles=RoleTable(**table))


def contract(model: str = MODEL) -> Contract:
    """Every channel from 0 to 10, at most 1 a cycle."""
    channel = {"unit": "1", "minimum": 0.0, "maximum": 10.0, "max_change_per_cycle": 1.0}
    return Contract.from_dict(
        {
            "asset": model.removesuffix("-rul"),
            "model": model,
            "description": "a test",
            "cycle": "one",
            "rul_cap_cycles": 100.0,
            "min_cycles": 3,
            "max_quarantined_share": 0.1,
            "settings": {"speed": channel},
            "sensors": dict.fromkeys(CHANNELS[1:], channel),
        }
    )


Writer = Callable[[Path, int, str], None]  # of a model's three files: folder, seed, name of the model


class Deployment:
    """A home with an anchor, and releases published one after the other.

    Attributes:
        home: Where trust lives.
        roles: Its policy.
        anchor: What the twin is given.
        mirror: The folder that a DirectorySource, or the simulator, serves.
    """

    def __init__(self, path: Path, models: tuple[str, ...] = (MODEL, OTHER), now: datetime | None = None) -> None:
        self.home = Home(path / "home")
        self.roles = roles(models)
        if not self.home.anchor_dir.exists():
            init_demo(self.home, self.roles, now or NOW)
        self.anchor: Anchor = self.home.anchor()
        self.mirror = path / "mirror"
        self._work = path
        self.update_mirror()

    def bundle(
        self, seed: int, model: str = MODEL, name: str = "bundle", *, write: Writer | None = None, **changes: Any
    ) -> Path:
        """A signed bundle; `changes` are predicates' fields by stage, to make evidence that says something else."""
        folder = self._work / f"{name}-{seed}-{model}"
        shutil.rmtree(folder, ignore_errors=True)
        (write or write_tiny_model)(folder / "model", seed, model)
        (folder / "model.sig.json").write_bytes(sign_directory(folder / "model", self.home.signer("builder")))
        files = tuple(Subject(f"model/{r.path}", r.sha256) for r in inventory(folder / "model"))
        for stage, statement in statements(files, model).items():
            said = Statement(statement.subjects, statement.predicate_type, statement.predicate | changes.get(stage, {}))
            write_attestation(folder / f"evidence/{stage}.dsse.json", stage, said, self.home)
        inputs = [Subject(p.stem, sha256_file(p)) for p in sorted((folder / "evidence").iterdir())]
        verdict = verdict_on(files, model, tuple(inputs))
        said = Statement(verdict.subjects, verdict.predicate_type, verdict.predicate | changes.get("assess", {}))
        write_attestation(folder / "evidence/assess.dsse.json", "assess", said, self.home)
        signed_policy.write_approval(folder, self.home)
        return folder

    def publish(
        self, version: int, *, seed: int | None = None, model: str = MODEL, now: datetime = NOW, **changes: Any
    ) -> Release:
        """Approve and publish a release, whatever its evidence says, and put it into the mirror."""
        bundle = self.bundle(version if seed is None else seed, model, **changes)
        return self.release(bundle, version, model=model, now=now)

    def release(
        self, bundle: Path, version: int, *, model: str = MODEL, now: datetime = NOW, model_id: str = ""
    ) -> Release:
        """Approve and publish the bundle as it is, and put it into the mirror."""
        release = Release.describe(
            bundle,
            model=model,
            version=version,
            policy_sha256=POLICY.sha256,
            mlflow_model_id=model_id or f"m-{sha256(bundle.name.encode())[:32]}",
            parent_version=version - 1 or None,
        )
        role = repository.stage(self.home, release, expires=now + timedelta(days=20))
        signatures = [sign_role(role, self.home.signer(name)) for name in ("alice", "chiara")]
        repository.publish(
            self.home,
            Request(release, role),
            signatures,
            registrar=self.home.signer("registrar"),
            roles=self.roles,
            now=now,
        )
        self.update_mirror()
        shutil.copytree(bundle, self.candidate(release), dirs_exist_ok=True)
        return release

    def candidate(self, release: Release) -> Path:
        """Where the mirror keeps the files of a release."""
        return self.mirror / "candidates" / release.mlflow_model_id

    def update_mirror(self) -> None:
        """Copy the repository of record to where twins fetch it."""
        shutil.copytree(self.home.repository, self.mirror, dirs_exist_ok=True)


def write_tiny_model(folder: Path, seed: int, model: str = MODEL) -> None:
    """The files of a model that nobody trained."""
    write_untrained(folder, seed, model, (4,))


def write_untrained(folder: Path, seed: int, model: str, hidden: tuple[int, ...]) -> None:
    """Likewise, of a size."""
    torch.manual_seed(seed)
    member = NetworkConfig.for_window(channels=len(CHANNELS), window=WINDOW, hidden=hidden, rul_cap_cycles=100.0)
    networks = Networks(Architecture(plain=EnsembleConfig(members=(member,))))
    width = (1, len(CHANNELS))
    normaliser = Normaliser(np.full(width, 5.0), np.full(width, 2.0), np.zeros((1, 0)), np.zeros(0))
    intervals = Intervals(coverage=0.9, edges=(50.0,), below=(5.0, 10.0), above=(5.0, 10.0), cap_cycles=100.0)
    write_model(
        folder,
        Model(
            networks.to_inference(),
            contract(model),
            normaliser,
            "robust",
            guard_without_calibration(len(CHANNELS)),
            {"plain": intervals},
            {"plain": LifeBound(edges=(20.0,), margins=(10.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0)},
        ),
    )


def guard_without_calibration(channels: int) -> GuardParams:
    """A guard with the contract's limits only, not calibrated on telemetry."""
    return GuardParams(
        precision=tuple(map(tuple, np.eye(channels).tolist())),
        spans=(1,),
        thresholds=((1e6,) * channels,),
        wear=(0.0,) * channels,
        falls=(1e6,),
        stuck_cycles=(1_000,) * channels,
        false_alarm_share=0.01,
        measured_false_alarm_share=0.0,
        widen=1.25,
    )


def statements(files: tuple[Subject, ...], model: str) -> dict[str, Statement]:
    """The evidence of every stage before the verdict, as the pipeline would write it."""
    common: dict[str, Any] = {"builder": "test", "parameters": {}, "environment": {}}
    tested: dict[str, Any] = {"result": "PASSED", "passed": ("all",), "measures": {"n": 1}}
    return {
        "ingest": provenance((RAW,), stage="ingest", materials=obeyed("ingest"), **common),
        "validate": test_result((RAW, ACCEPTED, SALT), configuration=obeyed("validate"), **tested),
        "prepare": provenance(WINDOWS, stage="prepare", materials=(ACCEPTED, SALT, *obeyed("prepare")), **common),
        "train": provenance(files, stage="train", materials=(*WINDOWS, *obeyed("train")), **common),
        "evade": test_result((*files, *WINDOWS), configuration=obeyed("evade"), **tested),
        "poison": test_result((*files, ACCEPTED), configuration=obeyed("poison"), **tested),
    }


def verdict_on(files: tuple[Subject, ...], model: str, inputs: tuple[Subject, ...]) -> Statement:
    """A passed verdict."""
    gate = {"name": "accuracy", "observed": 1.0, "bound": 2.0, "unit": "cycles", "result": "PASSED"}
    return verification_summary(
        files,
        verifier="https://twinseal.dev/assess",
        time_verified="2026-03-01T00:00:00Z",
        resource=f"https://twinseal.dev/model/{model}",
        policy=POLICY,
        inputs=inputs,
        result="PASSED",
        gates=[gate],
    )
