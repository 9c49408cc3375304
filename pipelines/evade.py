"""Evade: attack the candidate: small changes of every reading, sensors that lie, histories that are told otherwise.

Reads models/candidate/, data/windows/ and policy/threats.yaml. Writes reports/evade/ (metrics.json, attacks.csv,
lives.csv) and the signed test result. It measures and does not judge: the gates do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines import _stage
from twinseal.console import out, run_stage
from twinseal.errors import EvidenceError
from twinseal.evidence import Statement, Subject, test_result
from twinseal.files import inventory, write_json, write_whole
from twinseal.prognostics.checkpoint import Model, read_model
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.attacks.evasion import Evasion, evade
from twinseal.robustness.attacks.injection import inject, worst
from twinseal.robustness.battery import beyond
from twinseal.robustness.threats import Threats

CANDIDATE, WINDOWS, THREATS = Path("models/candidate"), Path("data/windows"), Path("policy/threats.yaml")
REPORT, LIVES = Path("reports/evade"), Path("reports/evade/lives.csv")


@reproducible(0)
def main() -> None:
    """Attack, measure, sign."""
    _stage.check_signing_key("evade")
    model_files, data = candidate(), (WINDOWS / "windows.safetensors", WINDOWS / "preparation.json")
    _stage.upstream("prepare", *data)
    model, prepared, threats = read_model(CANDIDATE), Prepared.read(WINDOWS), Threats.load(THREATS)
    refuse_strangers(model, prepared)
    workers = min(2, os.cpu_count() or 1)
    evasion = evade(model, prepared, threats, workers=workers)
    injection = inject(
        model.networks.plain,
        prepared,
        model.contract,
        threats.asset(model.contract.asset).injection,
        threats.injection.directions,
        seed=threats.seed,
    )
    measures = evasion["plain"].measures() | {"injection": injection, "injection_worst": worst(injection)}
    if "commissioned" in evasion:
        measures["commissioned"] = evasion["commissioned"].measures()
    others, lived = beyond(model, prepared, threats, workers=workers)
    measures |= others
    write_whole(LIVES, pd.DataFrame(lived).to_csv(index=False, float_format="%.3f").encode())
    subjects = (*model_files, *map(_stage.subject, (*data, LIVES)))
    _stage.attest("evade", statement(subjects, evasion, measures))
    write_json(REPORT / "metrics.json", measures)
    write_whole(REPORT / "attacks.csv", pd.DataFrame(evasion["plain"].curve()).to_csv(index=False).encode())
    out.print(summary(evasion["plain"], injection))


def candidate() -> tuple[Subject, ...]:
    """The candidate's files as they are now, after checking that they are what train signed.

    Raises:
        EvidenceError: A file was added to those that train signed, or one is missing.
        DigestMismatchError: A file is another one.
    """
    files = tuple(Subject(f"model/{record.path}", record.sha256) for record in inventory(CANDIDATE))
    signed = _stage.upstream("train").subjects
    if sorted(files) != sorted(signed):
        raise EvidenceError(
            f"{CANDIDATE}: expected the files that train signed, {[s.name for s in sorted(signed)]}, "
            f"got others, or other bytes, in {[s.name for s in sorted(files)]}",
            remedy="Find out who changed the candidate, then: dvc repro --force train",
        )
    return files


def refuse_strangers(model: Model, prepared: Prepared) -> None:
    """Refuse windows that were not prepared as the model's were.

    Raises:
        EvidenceError: Channels, window or normaliser differ.
    """
    expected, got = (tuple(model.channels), model.window), (prepared.channels, prepared.window)
    if expected != got:
        raise EvidenceError(f"{WINDOWS}: expected the model's channels and window {expected}, got {got}")
    own, theirs = model.normaliser, prepared.normaliser
    if own.to_dict() != theirs.to_dict():
        raise EvidenceError(f"{WINDOWS}: expected the normaliser of the model, got another one")


def statement(subjects: tuple[Subject, ...], evasion: dict[str, Evasion], measures: dict[str, Any]) -> Statement:
    """The test result: every attack is a test; one whose number is in doubt is a warned test."""
    doubted = [f"{mode}/{flag.about}" for mode, found in evasion.items() for flag in found.flags]
    names = [
        f"{mode}/{run.name} at ε {run.epsilon_sigma:g}" for mode, found in evasion.items() for run in found.battery.runs
    ]
    beyond = [f"{group}/{name}" for group in ("injection", "experiment", "scenarios") for name in measures[group]]
    beyond += ["sensors", "adaptive", "trees", "theft", "membership"]
    return test_result(
        subjects,
        result="PASSED",  # ran to its end; whether the numbers are good enough is for the gates
        configuration=(_stage.subject(THREATS), _stage.code()),
        passed=(*(name for name in names if name not in doubted), *beyond),
        warned=tuple(sorted(set(doubted))),
        measures=measures,
    )


def summary(evasion: Evasion, injection: dict[str, dict[str, Any]]) -> str:
    """One line for people."""
    smallest, lying = evasion.budgets[0], worst(injection)["undefended"]
    return (
        f"evaded: RMSE {evasion.measures()['clean']['rmse_cycles']:.1f} cycles clean, "
        f"{evasion.worst(smallest)['rmse_cycles']:.1f} at worst within {smallest:g} σ, "
        f"{lying['rmse_cycles']:.1f} under injection; {len(evasion.flags)} reasons to doubt"
    )


if __name__ == "__main__":
    run_stage(main)
