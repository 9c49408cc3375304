"""The caveats: what a reader should hold against each number, found by looking at the numbers themselves.

A number without its caveats is an advertisement. Each caveat names the section it belongs to and stands beside its
numbers; a grave one (two records contradict each other, or an attack was not an attack) is shown with the verdict
too. Caveats never change the verdict: what should decide is a gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinseal.assurance.case import Case, Estimate
from twinseal.assurance.report.figures import FAILING_CYCLES, MISSED_CYCLES
from twinseal.assurance.report.measured import certified, curves, group, number, of, poisonings
from twinseal.errors import EvidenceError
from twinseal.evidence import PROVENANCE, materials

RESAMPLES, SEED = 1000, 1979
EPSILON = "eps-0.1"  # the ε that both the builder and the assessor certify


@dataclass(frozen=True)
class Caveat:
    """One thing to hold against the numbers of a section.

    Attributes:
        section: data, accuracy, evasion, injection, poisoning or provenance.
        text: What, in one or two sentences.
        grave: Whether the numbers cannot be taken as they stand.
    """

    section: str
    text: str
    grave: bool = False


def find(case: Case) -> tuple[Caveat, ...]:
    """Every caveat about the case, grave ones first within each section."""
    found = [*_data(case), *_accuracy(case), *_evasion(case), *_injection(case), *_poisoning(case), *_provenance(case)]
    return tuple(sorted(found, key=lambda caveat: not caveat.grave))


def rmse_interval(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """A 95 % interval of the network's RMSE in cycles: bootstrap over units (Efron 1979), 1,000 resamples, fixed seed.

    Units, not windows, are drawn: windows of one unit share its fate.

    Raises:
        ValueError: No estimates.
    """
    if not estimates:
        raise ValueError("rmse_interval: expected at least one estimate, got none")
    units = {unit: index for index, unit in enumerate(dict.fromkeys(item.unit for item in estimates))}
    squares, counts = np.zeros(len(units)), np.zeros(len(units))
    for item in estimates:
        squares[units[item.unit]] += (item.network - item.true_rul) ** 2
        counts[units[item.unit]] += 1
    drawn = np.random.default_rng(SEED).integers(0, len(units), size=(RESAMPLES, len(units)))
    rmse = np.sqrt(squares[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(rmse, [0.025, 0.975])
    return float(low), float(high)


def _data(case: Case) -> list[Caveat]:
    found = []
    if case.asset == "pump":
        text = (
            "The telemetry is simulated (NASA ProgPy). It says how the pipeline behaves, nothing about a real machine."
        )
        found.append(Caveat("data", text))
    quarantined = number(of(case.statements, "validate", "units_quarantined"))
    if quarantined:
        text = (
            f"{quarantined:.0f} units were left out as breaking the contract; the model was never measured "
            "on their like."
        )
        found.append(Caveat("data", text))
    warned = case.statements["validate"].predicate.get("warnedTests") if "validate" in case.statements else None
    if isinstance(warned, list) and warned:
        found.append(Caveat("data", f"Passed with a warning: {', '.join(map(str, warned[:6]))}."))
    return found


def _accuracy(case: Case) -> list[Caveat]:
    signed = number(of(case.statements, "train", "test", "network", "rmse_cycles"))
    baseline = number(of(case.statements, "train", "test", "baseline", "rmse_cycles"))
    found = []
    if signed is not None and baseline is not None and signed > baseline:
        text = (
            f"The baseline is {signed - baseline:.1f} cycles better than the network. That is the price of training "
            "against attacks: what the baseline says under attack stands under evasion, and it has no certificate."
        )
        found.append(Caveat("accuracy", text))
    if not case.estimates:
        return [
            *found,
            Caveat("accuracy", "No estimates were kept for single windows: the figure and its interval are missing."),
        ]
    return [*found, *_sample(case.estimates), *_agreement(case, signed)]


def _sample(estimates: Sequence[Estimate]) -> list[Caveat]:
    low, high = rmse_interval(estimates)
    units = len({item.unit for item in estimates})
    text = (
        f"{len(estimates)} windows of {units} units: another draw of as many units would give an RMSE between "
        f"{low:.1f} "
        f"and {high:.1f} cycles (95 %, bootstrap over units)."
    )
    found = [Caveat("accuracy", text)]
    failing = [item for item in estimates if item.true_rul <= FAILING_CYCLES]
    if failing and not any(item.network > MISSED_CYCLES for item in failing):
        # No event in n trials: the 95 % upper bound is 3/n (Hanley & Lippman-Hand 1983).
        bound = min(1.0, 3 / len(failing))
        text = (
            f"No missed failure in {len(failing)} failing windows still allows a true share of up to "
            f"{100 * bound:.0f} % (rule of three)."
        )
        found.append(Caveat("accuracy", text))
    return found


def _agreement(case: Case, signed: float | None) -> list[Caveat]:
    """Whether the windows drawn are the windows that the signed number was computed from."""
    squares = [(item.network - item.true_rul) ** 2 for item in case.estimates]
    drawn = math.sqrt(sum(squares) / len(squares))
    if signed is None or abs(drawn - signed) > max(0.01, 0.005 * signed):
        against = "none" if signed is None else f"{signed:.2f}"
        text = (
            f"The windows in the figure give an RMSE of {drawn:.2f} cycles, the signed record says "
            f"{against}. One of them is wrong."
        )
        return [Caveat("accuracy", text, grave=True)]
    if "reports/train/predictions.csv" in case.unsigned:
        text = "No signed record names the file behind the figure; its RMSE agrees with the signed one."
        return [Caveat("accuracy", text)]
    return []


def _evasion(case: Case) -> list[Caveat]:
    found = []
    raised = of(case.statements, "evade", "flags", "details") or of(case.statements, "evade", "flags", "names")
    if isinstance(raised, list):
        found += [Caveat("evasion", f"Sanity check raised: {name}.", grave=True) for name in raised]
    if not certified(case.statements, "rmse_cycles"):
        found.append(
            Caveat("evasion", "No certificate: a better attacker than those tried may do any amount of damage.")
        )
    found += _contradictions(case)
    text = (
        "The attacker is assumed to know the model and to change every sensor in every row by at most ε. "
        "Slower, larger or "
        "physical changes (a fouled probe, a swapped cable) are another threat: see injection."
    )
    return [*found, Caveat("evasion", text)]


def _contradictions(case: Case) -> list[Caveat]:
    """Records that cannot both be true: an attack beyond the certificate, or a builder and an assessor who disagree."""
    found = []
    for measure in ("rmse_cycles", "missed_failure_share"):
        bounds = dict(certified(case.statements, measure))
        beaten = [
            f"An attack beats the certificate: {curve.name} at ε {epsilon:g} reaches {value:.4g}, "
            f"certified at most {bounds[epsilon]:.4g} ({measure}). One of them is wrong."
            for curve in curves(case.statements, measure)
            for epsilon, value in curve.points
            if curve.kind != "certified"
            and epsilon in bounds
            and epsilon > 0
            and value > bounds[epsilon] * 1.001 + 1e-6
        ]
        found += [Caveat("evasion", text, grave=True) for text in beaten[:3]]
    pairs = (("accuracy", ("test", "network"), ("clean",)), ("evasion", ("certified", EPSILON), ("certified", EPSILON)))
    for section, built, assessed in pairs:
        theirs = number(of(case.statements, "train", *built, "rmse_cycles"))
        ours = number(of(case.statements, "evade", *assessed, "rmse_cycles"))
        if theirs is not None and ours is not None and abs(theirs - ours) > 0.01 + 0.001 * abs(ours):
            text = (
                f"The builder says {theirs:.2f} cycles ({'/'.join(built)}), the assessor measured {ours:.2f} "
                "on the same "
                "model and windows. One of them is wrong."
            )
            found.append(Caveat(section, text, grave=True))
    return found


def _injection(case: Case) -> list[Caveat]:
    if not group(case.statements, "evade", "injection"):
        return [Caveat("injection", "No injection was tried on this model.")]
    text = (
        "Measured on the bare network. What the contract's ranges and rates would notice is beside it; "
        "the rest of the twin's guard is not counted."
    )
    return [Caveat("injection", text)]


def _poisoning(case: Case) -> list[Caveat]:
    found = []
    unnoticed = [item for item in poisonings(case.statements) if number(item.values.get("noticed_share")) == 0.0]
    if unnoticed:
        names = ", ".join(dict.fromkeys(item.name for item in unnoticed))
        text = (
            f"Validation noticed none of the poisoned units of: {names}. Who may write telemetry is the "
            "only defence left."
        )
        found.append(Caveat("poisoning", text))
    found += _chance(case)
    epochs, whole = _epochs(case)
    if epochs is not None and whole is not None and epochs < whole:
        text = (
            f"The poisoned models were trained for {epochs:g} epochs, the candidate for {whole:g}: a "
            "longer run may learn more of the poison."
        )
        found.append(Caveat("poisoning", text))
    text = (
        "These are what poison would do, were it there. They do not show that this model's own telemetry is free of it."
    )
    return [*found, Caveat("poisoning", text)]


def _chance(case: Case) -> list[Caveat]:
    """A poison that made the model better did so by chance: so much of every difference may be chance."""
    gains = [number(item.values.get("rmse_increase_cycles")) for item in poisonings(case.statements)]
    lowered = [-gain for gain in gains if gain is not None and gain < 0]
    if not lowered:
        return []
    text = (
        f"{len(lowered)} of {len(gains)} poisonings made the error smaller, by up to {max(lowered):.1f} cycles: "
        "differences of that size between two trainings are chance."
    )
    return [Caveat("poisoning", text)]


def _epochs(case: Case) -> tuple[float | None, float | None]:
    train = case.statements.get("train")
    definition: Any = train.predicate.get("buildDefinition") if train else None
    given = definition.get("externalParameters") if isinstance(definition, dict) else None
    trained = given.get("train") if isinstance(given, dict) else None
    family = trained.get("family") if isinstance(trained, dict) else None
    recipe = trained.get(family) if isinstance(trained, dict) and isinstance(family, str) else None
    recipe = recipe.get("plain", recipe) if isinstance(recipe, dict) else None
    whole = recipe.get("epochs") if isinstance(recipe, dict) else None
    return number(of(case.statements, "poison", "schedule", "epochs")), number(whole)


def _provenance(case: Case) -> list[Caveat]:
    found = []
    for name in ("code", "policy", "requirements"):
        digests = {}
        for stage, statement in case.statements.items():
            for item in _made_from(statement):
                if item.name == name:
                    digests[stage] = item.sha256
        if len(set(digests.values())) > 1:
            text = (
                f"The stages did not all run with the same {name}: "
                f"{', '.join(f'{k} {v[:8]}' for k, v in digests.items())}."
            )
            found.append(Caveat("provenance", text))
    text = (
        "Digests show that nothing changed between the stages. They do not show that the telemetry was "
        "true when it came in."
    )
    return [*found, Caveat("provenance", text)]


def _made_from(statement: Any) -> tuple[Any, ...]:
    try:
        return materials(statement) if statement.predicate_type == PROVENANCE else ()
    except EvidenceError:
        return ()
