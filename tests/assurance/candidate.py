"""One candidate's evidence, as the stages write it: a small case in which everything is in order."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

from tests.assurance import measured
from twinseal.assurance.candidate_config import CandidateConfig, EnsembleFacts
from twinseal.assurance.case import Estimate, Life
from twinseal.digests import sha256
from twinseal.evidence import Statement, Subject, provenance
from twinseal.evidence import test_result as tested
from twinseal.measures.keys import Mode
from twinseal.measures.quantity import Group
from twinseal.prognostics.families import Family
from twinseal.prognostics.fitting import Epoch
from twinseal.prognostics.training import TrainParams

Kind = Literal["accurate", "robust", "certified-sensors", "certified-units"]
KINDS: tuple[Kind, ...] = ("accurate", "robust", "certified-sensors", "certified-units")


def subject(name: str) -> Subject:
    """A file that is made of its own name."""
    return Subject(name, sha256(name.encode()))


def policy_for(asset: str) -> tuple[Subject, ...]:
    """The parts of a policy that are about one asset: contract, evaluation, reference, threats."""
    return tuple(subject(f"policy/{name}.yaml#{asset}") for name in ("contract", "evaluation", "reference", "threats"))


MODEL = tuple(subject(f"model/{name}") for name in ("config.json", "contract.json", "guard.json", "model.safetensors"))
RAW, ACCEPTED = subject("data/raw/telemetry.parquet"), subject("data/accepted/telemetry.parquet")
SALT = subject("data/accepted/split_salt.json")
LIVES = subject("reports/evade/lives.csv")
WINDOWS = tuple(subject(f"data/windows/{name}") for name in ("preparation.json", "windows.safetensors"))
POLICY = policy_for("pump")
COMMON = tuple(subject(name) for name in ("code", "params.yaml", "policy", "requirements"))
ENVIRONMENT = {
    "python": "3.11.9",
    "implementation": "CPython",
    "system": "Linux",
    "machine": "x86_64",
    "packages": {"numpy": "2.4.0", "torch": "2.13.0", "scikit-learn": "1.9.0", "safetensors": "0.7.0", "zipp": "3.23"},
}
DATA = {  # as policy/evaluation.yaml has it for pumps
    "source": "simulated",
    "simulated": {"units": 180, "seed": 7, "test_share": 0.3, "life_cycles": [145, 255], "six_regimes": False},
}
ABOUT: Any = {"family": "robust", "model": MODEL, "policy": POLICY}  # what is judged


def family_of(kind: Kind) -> Family:
    """The family of a kind."""
    return "certified" if kind in ("certified-sensors", "certified-units") else kind  # type: ignore[return-value]


def params(kind: Kind) -> TrainParams:
    """The params that a candidate of a kind was trained with."""
    chosen = TrainParams(family=family_of(kind))
    against = "units" if kind == "certified-units" else "sensors"
    return chosen.model_copy(update={"certified": chosen.certified.model_copy(update={"against": against})})


def config(kind: Kind = "robust") -> CandidateConfig:
    """What `CandidateConfig.of` reads from such a model (tests/assurance/test_candidate_config.py compares)."""
    trained = params(kind)
    recipe = {
        "accurate": trained.accurate,
        "robust": trained.robust.plain,
        "certified-sensors": trained.certified.sensors.recipe,
        "certified-units": trained.certified.units.recipe,
    }[kind]
    members = {
        "accurate": trained.accurate.members,
        "robust": trained.robust.plain.members,
        "certified-sensors": trained.certified.sensors.parts,
        "certified-units": trained.certified.units.parts,
    }[kind]
    against = {"certified-sensors": "sensors", "certified-units": "units"}.get(kind)
    facts: Any = {"aggregation": "median" if against else "mean", "epsilon_sigma": recipe.epsilon_sigma}

    def ensemble(mode: Mode) -> EnsembleFacts:
        return EnsembleFacts(mode=mode, members=members, epochs=recipe.epochs, **facts)

    return CandidateConfig(
        family=family_of(kind),
        against=against,  # type: ignore[arg-type]
        plain=ensemble("plain"),
        commissioned=ensemble("commissioned") if kind == "robust" else None,
        channels=14,
        window_cycles=100,
        rul_cap_cycles=125.0,
        drift_limit_psi=0.25,
    )


def build(kind: Kind = "robust", asset: str = "pump") -> dict[str, Statement]:
    """The six statements; measures written from the types, as the stages do."""
    contract, evaluation, reference, threats = policy_for(asset)

    def made(
        stage: str,
        subjects: tuple[Subject, ...],
        materials: tuple[Subject, ...],
        measures: Group | None = None,
        **parameters: Any,
    ) -> Statement:
        return provenance(
            subjects,
            stage=stage,
            builder="https://twinseal.dev/builder/v1",
            materials=(*materials, contract, *COMMON),
            parameters={"stage": stage, "seed": 7} | parameters,
            environment=copy.deepcopy(ENVIRONMENT),
            measures=None if measures is None else measures.to_dict(),
        )

    commissioned, liars = kind == "robust", 2 if kind.startswith("certified") else 0
    return {
        "ingest": made("ingest", (RAW, subject("data/raw/manifest.json")), (), data=copy.deepcopy(DATA)),
        "validate": tested(
            (RAW, ACCEPTED, SALT),
            result="PASSED",
            configuration=(contract, reference, subject("code")),
            passed=("schema",),
            measures=measured.validation().to_dict(),
        ),
        "prepare": made("prepare", WINDOWS, (ACCEPTED, SALT, evaluation), measured.preparation()),
        "train": made(
            "train",
            MODEL,
            WINDOWS,
            measured.training(commissioned=commissioned),
            train=params(kind).model_dump(mode="json"),
        ),
        "evade": tested(
            (*MODEL, *WINDOWS, LIVES),
            result="PASSED",
            configuration=(threats, subject("code")),
            passed=("evasion/attacks/small-changes/pgd/any/eps-0.1", "false_age"),
            measures=measured.robustness(commissioned=commissioned, liars=liars).to_dict(),
        ),
        "poison": tested(
            (*MODEL, ACCEPTED),
            result="PASSED",
            configuration=(threats, contract, evaluation, subject("code")),
            passed=("backdoor/share-0.01",),
            measures=measured.poisoning().to_dict(),
        ),
    }


def compared(model: tuple[Subject, ...] = MODEL) -> Statement:
    """The record of the optional stage `compare`, of some model."""
    return provenance(
        (subject("reports/compare/measures.json"),),
        stage="compare",
        builder="https://twinseal.dev/builder/v1",
        materials=(*model, *WINDOWS, *COMMON),
        parameters={},
        environment=copy.deepcopy(ENVIRONMENT),
        measures=measured.comparison().to_dict(),
    )


def holder(statement: Statement) -> dict[str, Any]:
    """The measures in a statement, to be spoilt."""
    predicate = statement.predicate
    found: dict[str, Any] = predicate.get("runDetails", predicate)["twinseal_measures"]
    return found


def estimates() -> tuple[Estimate, ...]:
    """100 windows whose RMSE is the signed one, 8.3 cycles."""
    truth = [min(125.0, 6.0 + 1.5 * index) for index in range(100)]
    wave = [math.sin(2.4 * index) for index in range(100)]
    scale = 8.3 / math.sqrt(sum(w * w for w in wave) / 100)
    return tuple(
        Estimate(
            f"test-{index:03}",
            t,
            t + scale * w,
            t + 0.85 * scale * math.cos(1.7 * index),
            (t + scale * w - 7, t + scale * w + 8),
        )
        for index, (t, w) in enumerate(zip(truth, wave, strict=True))
    )


def lives(unit: str = "pump-017", attack: str = "replay") -> tuple[Life, ...]:
    """One unit's life as it was, and under an attack; from cycle 150 on the guard abstains."""
    cycles = tuple(float(cycle) for cycle in range(30, 196))
    truth = tuple(min(125.0, 195.0 - cycle) for cycle in cycles)
    honest = tuple(t + 9 * math.sin(c / 7) for t, c in zip(truth, cycles, strict=True))
    false = tuple(t + (60 if c >= 150 else 0) for t, c in zip(honest, cycles, strict=True))
    guarded = tuple(None if c >= 150 else t for t, c in zip(honest, cycles, strict=True))
    return (
        Life(unit, "no attack", cycles, truth, honest, honest),
        Life(unit, attack, cycles, truth, false, guarded),
    )


def history() -> tuple[Epoch, ...]:
    """Twenty epochs."""
    return tuple(
        Epoch(
            epoch=epoch,
            loss=900.0 / epoch,
            train_rmse_cycles=11 + 40 / epoch,
            validation_rmse_cycles=12 + 42 / epoch,
            validation_worst_rmse_cycles=19 + 60 / epoch,
        )
        for epoch in range(1, 21)
    )
