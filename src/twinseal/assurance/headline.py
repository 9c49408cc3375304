"""The headline: about ten numbers that two runs are compared by. `dvc metrics show` prints these and nothing else."""

from __future__ import annotations

from twinseal.assurance.gates import Verdict
from twinseal.measures.keys import epsilon_key
from twinseal.measures.stages import StageMeasures

BUDGET = epsilon_key(0.1)  # what the recipes defend against


def headline(verdict: Verdict, measures: StageMeasures) -> dict[str, float | str]:
    """By name, to four decimals; what was not measured is absent."""
    validate, evade, poison = measures.validate, measures.evade, measures.poison
    found: dict[str, float | str | None] = {
        "result": verdict.result,
        "gates_failed": sum(gate.result == "FAILED" for gate in verdict.gates),
        "units_quarantined": validate.units_quarantined if validate else None,
    }
    if evade is not None:
        certified, worst = evade.evasion.certified.get(BUDGET), evade.evasion.worst.get(BUDGET)
        found |= {
            "rmse_cycles": evade.evasion.clean.rmse_cycles,
            "commissioned_rmse_cycles": evade.commissioned.clean.rmse_cycles if evade.commissioned else None,
            "boosting_rmse_cycles": evade.boosted_trees.clean.rmse_cycles,
            "certified_rmse_cycles": certified.rmse_cycles if certified else None,
            "certified_missed_failure_share": certified.missed_failure_share if certified else None,
            "worst_attack_rmse_cycles": worst.rmse_cycles if worst else None,
        }
    if poison is not None:
        found["unnoticed_poison_rmse_increase_cycles"] = poison.worst_unnoticed.rmse_increase_cycles
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}
    return {name: value for name, value in rounded.items() if value is not None}
