"""One candidate's evidence, as the stages write it: a small case in which everything is in order."""

from __future__ import annotations

import copy
import math
from typing import Any

from twinseal.assurance.case import Estimate, Life
from twinseal.digests import sha256
from twinseal.evidence import Statement, Subject, provenance
from twinseal.evidence import test_result as tested

EPSILONS = (0.05, 0.1, 0.25, 0.5)


def subject(name: str) -> Subject:
    return Subject(name, sha256(name.encode()))


MODEL = tuple(subject(f"model/{name}") for name in ("config.json", "contract.json", "guard.json", "model.safetensors"))
RAW, ACCEPTED = subject("data/raw/telemetry.parquet"), subject("data/accepted/telemetry.parquet")
LIVES = subject("reports/evade/lives.csv")
WINDOWS = tuple(subject(f"data/windows/{name}") for name in ("preparation.json", "windows.safetensors"))
POLICY = tuple(subject(f"policy/{name}.yaml") for name in ("contract", "reference", "threats"))
COMMON = (POLICY[0], *(subject(name) for name in ("code", "params.yaml", "policy", "requirements")))
ENVIRONMENT = {
    "python": "3.11.9",
    "implementation": "CPython",
    "system": "Linux",
    "machine": "x86_64",
    "packages": {"numpy": "2.4.0", "torch": "2.13.0", "scikit-learn": "1.9.0", "safetensors": "0.7.0", "zipp": "3.23"},
}
ABOUT: Any = {"family": "robust", "model": MODEL, "policy": POLICY}  # what is judged


def accuracy(rmse: float, missed: float = 0.0) -> dict[str, Any]:
    return {
        "rmse_cycles": rmse,
        "nasa_score": rmse * 17.3,
        "late_share": 0.47,
        "windows": 100,
        "failing_windows": 129,
        "missed_failure_share": missed,
    }


def worst(scale: float) -> dict[str, Any]:
    return {
        f"eps-{e:g}": {
            "rmse_cycles": 8.3 + scale * 60 * e * (1 + e),
            "missed_failure_share": max(0.0, scale * (e - 0.22) * 2),
        }
        for e in EPSILONS
    }


def attacks() -> list[dict[str, Any]]:
    strength = {"fgm": 0.8, "bim": 0.9, "pgd": 0.92, "noise": 0.1}
    return [
        {"name": name, "threat": "small-changes", "aim": aim, "epsilon_sigma": e, "damage_cycles": 1.0}
        | {"late_share": 0.6, **worst(power * (1 if aim == "any" else 0.85))[f"eps-{e:g}"]}
        for aim in ("any", "healthy-washing")
        for name, power in strength.items()
        for e in EPSILONS
    ]


def injections() -> dict[str, Any]:
    names = [f"{f}-{s}-{d}" for f in ("biased", "random") for s in ("continuous", "interim") for d in ("down", "up")]
    return {
        name: {
            "rmse_cycles": 12.1 + index,
            "unnoticed_rmse_cycles": 11.9,
            "unnoticed_missed_failure_share": 0.0,
            "late_share": 0.5,
            "missed_failure_share": 0.0,
            "largest_shift_sigma": 7.1,
            "windows_touched_share": 0.83,
            "noticed_share": 0.4,
        }
        for index, name in enumerate(names)
    }


def poisonings() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for share in (0.01, 0.02, 0.05, 0.1):
        washing = {"rmse_increase_cycles": 30 * share, "rmse_cycles": 12 + 30 * share}
        door = {"rmse_increase_cycles": 4 * share, "rmse_cycles": 12 + 4 * share}
        fires = {"trigger_success_share": min(1.0, 14 * share)}
        screened = {"rmse_increase_cycles": 0.1, "rmse_cycles": 12.1}
        rows += [
            {"name": "label-healthy-washing", "kind": "label-healthy-washing", "share": share, "units_poisoned": 3}
            | {"noticed_share": 1.0, **washing, "after_screening": screened},
            {"name": "backdoor", "kind": "backdoor", "share": share, "units_poisoned": 3}
            | {"noticed_share": 1.0, **door, **fires, "after_screening": screened | {"trigger_success_share": 0.0}},
            {"name": "clean-label-backdoor", "kind": "clean-label-backdoor", "share": share, "units_poisoned": 3}
            | {"noticed_share": 0.0, **door, "trigger_success_share": share}
            | {"after_screening": door | {"trigger_success_share": share}},
        ]
    return rows


def families() -> dict[str, Any]:
    certified = {e: worst(1.0)[e] for e in ("eps-0.05", "eps-0.1")}
    liars = {f"liars-{r}": {"rmse_cycles": 10.0 + 4 * r, "missed_failure_share": 0.0} for r in range(3)}
    return {
        "accurate": {"clean": accuracy(7.7), "certified": certified},
        "robust": {"clean": accuracy(8.3), "certified": certified},
        "robust-commissioned": {"clean": accuracy(8.0), "certified": certified},
        "certified-sensors": {"clean": accuracy(9.9), "certified": certified, "liars": liars},
    }


def beyond() -> dict[str, Any]:
    """What evade measures of owned sensors, falsified histories, theft and membership."""
    harm = {"rmse_cycles": 30.0, "missed_failure_share": 0.2}
    case = {"units": 37.0, "detected_share": 1.0, "abstained_share": 0.1, **harm}
    case |= {"guarded_rmse_cycles": 8.5, "guarded_missed_failure_share": 0.0}
    alone = {name: {"rise_cycles": 4.0 * i, "chosen_first_share": 0.25} for i, name in enumerate("abcd")}
    owned = {f"k-{k}": harm | {"moved_share": 0.3 * k} for k in (1, 2, 3)}
    pairs = {a: {b: 20.0 + 15 * (i + j) for j, b in enumerate("abcd")} for i, a in enumerate("abcd")}
    student = {"near_share": 0.5, "fidelity_rmse_cycles": 7.0, "student_rmse_cycles": 12.0}
    return {
        "sensors": {"any": owned, "healthy-washing": owned, "alone": alone, "pairs": pairs},
        "experiment": {f"{f}-{s}": case for f in ("biased", "random") for s in ("continuous", "interim")},
        "scenarios": {
            "one-sensor": [case | {"aim": "any", "size": 0.5}, case | {"aim": "healthy-washing", "size": 2.0}],
            "replay": [case | {"aim": "healthy-washing", "size": 0.0}],
        },
        "adaptive": [{"epsilon_sigma": e, "unnoticed_share": 1.0, "rise_cycles": 40 * e} | case for e in (0.1, 0.5)],
        "trees": {"clean": accuracy(7.2), "worst": worst(2.0)},
        "theft": {"queries-100": student, "queries-5000": student, "rounding-5": student},
        "membership": {"windows_auc": 0.51, "units_auc": 0.52, "windows_found_share": 0.01, "advantage": 0.03},
    }


TRAINED = {"train": {"family": "robust", "robust": {"plain": {"epochs": 20, "kappa": 0.5}}}}


def build() -> dict[str, Statement]:
    """The six statements; measures named exactly as the stages name them."""

    def made(stage: str, subjects: tuple[Subject, ...], materials: tuple[Subject, ...], **extra: Any) -> Statement:
        parameters = {"stage": stage, "seed": 7}
        return provenance(
            subjects,
            stage=stage,
            builder="https://twinseal.dev/builder/v1",
            materials=materials + COMMON,
            parameters=parameters | extra.pop("parameters", {}),
            environment=copy.deepcopy(ENVIRONMENT),
            **extra,
        )

    validate = {
        "rows_total": 36012,
        "units_total": 152,
        "units_quarantined": 2,
        "quarantined_share": 2 / 152,
        "expectations_total": 61,
        "expectations_failed": 2,
        "findings_by_rule": {"range": 3, "rate-of-change": 1},
    }
    train = {
        "test": {"network": accuracy(8.3), "baseline": accuracy(10.4)},
        "validation": {"network": accuracy(12.2)},
        "certified": {"eps-0.1": worst(1.0)["eps-0.1"]},
        "cross_validation": {"plain": accuracy(9.1), "commissioned": accuracy(8.8)},
        "intervals": {
            mode: {"coverage": 0.905, "standard_error": 0.012, "width_cycles": 24.0, "test_coverage": 0.9}
            for mode in ("plain", "commissioned")
        },
        "families": families(),
        "guard": {"false_alarm_share": 0.011},
    }
    evade = {
        "clean": accuracy(8.3),
        "attacks": attacks(),
        "worst": worst(0.95),
        "certified": worst(1.0),
        "zero_gradients_share": 0.0,
        "injection": injections(),
        "flags": {"raised": 0, "names": [], "details": []},
        "commissioned": {
            "clean": accuracy(8.0),
            "attacks": attacks(),
            "worst": worst(0.25),
            "certified": worst(0.3),
            "certified_baseline_moved": worst(1.2),
            "flags": {"raised": 0, "names": [], "details": []},
        },
        "guard": {"false_alarm_share": 0.011},
        "certificate": {},
        **beyond(),
    }
    unnoticed = {"rmse_cycles": 12.4, "rmse_increase_cycles": 0.4, "trigger_success_share": 0.1}
    poison = {
        "clean": {"rmse_cycles": 12.0, "rmse_increase_cycles": 0.0, "trigger_success_share": 0.0},
        "schedule": {"epochs": 10, "trigger_windows": 43},
        "attacks": poisonings(),
        "worst": {"undefended": unnoticed | {"trigger_success_share": 1.0}, "unnoticed": unnoticed},
    }
    contract, reference, threats = POLICY
    return {
        "ingest": made("ingest", (RAW, subject("data/raw/manifest.json")), ()),
        "validate": tested(
            (RAW, ACCEPTED), result="PASSED", configuration=(contract, reference), passed=("schema",), measures=validate
        ),
        "prepare": made("prepare", WINDOWS, (ACCEPTED,)),
        "train": made("train", MODEL, WINDOWS, measures=train, parameters=copy.deepcopy(TRAINED)),
        "evade": tested(
            (*MODEL, *WINDOWS, LIVES),
            result="PASSED",
            configuration=(threats, subject("code")),
            passed=("pgd",),
            measures=evade,
        ),
        "poison": tested(
            (*MODEL, ACCEPTED),
            result="PASSED",
            configuration=(threats, contract),
            passed=("backdoor",),
            measures=poison,
        ),
    }


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
    """One unit's life as it was, and as an attacker tells it; from cycle 150 on the guard abstains."""
    cycles = tuple(float(cycle) for cycle in range(30, 196))
    truth = tuple(min(125.0, 195.0 - cycle) for cycle in cycles)
    honest = tuple(t + 9 * math.sin(c / 7) for t, c in zip(truth, cycles, strict=True))
    false = tuple(t + (60 if c >= 150 else 0) for t, c in zip(honest, cycles, strict=True))
    guarded = tuple(None if c >= 150 else t for t, c in zip(honest, cycles, strict=True))
    return (
        Life(unit, "no attack", cycles, truth, honest, honest),
        Life(unit, attack, cycles, truth, false, guarded),
    )


def history() -> tuple[dict[str, float], ...]:
    return tuple(
        {
            "epoch": float(epoch),
            "loss": 900.0 / epoch,
            "train_rmse_cycles": 11 + 40 / epoch,
            "validation_rmse_cycles": 12 + 42 / epoch,
            "validation_worst_rmse_cycles": 19 + 60 / epoch,
        }
        for epoch in range(1, 21)
    )
