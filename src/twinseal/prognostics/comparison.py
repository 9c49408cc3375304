"""The families side by side: what each costs in clean accuracy, and what it buys.

The candidate is of one family; the others are trained on the same windows for comparison only, and never shipped.
"""

from __future__ import annotations

from twinseal.measures.comparison import ComparisonMeasures, FamilyMeasures, FamilyName
from twinseal.measures.keys import epsilon_key
from twinseal.prognostics.ensemble import Ensemble, Networks
from twinseal.prognostics.evaluation import accuracy, certify
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.families import Family
from twinseal.prognostics.median_certificates import certificates
from twinseal.prognostics.splitting import unit_part
from twinseal.prognostics.training import Against, TrainParams, train
from twinseal.prognostics.windows import Prepared

SIGMA = (0.05, 0.1)
KINDS: tuple[tuple[FamilyName, Family, Against | None], ...] = (
    ("accurate", "accurate", None),
    ("robust", "robust", None),
    ("certified-sensors", "certified", "sensors"),
    ("certified-units", "certified", "units"),
)


def compare(prepared: Prepared, params: TrainParams, candidate: Networks, *, workers: int = 1) -> ComparisonMeasures:
    """The measures of each family on the test windows; `robust-commissioned` beside `robust`.

    Args:
        prepared: The windows.
        params: The recipes, and the candidate's family.
        candidate: The candidate's networks: they are measured, not trained again.
        workers: Processes that fit at the same time.
    """
    found: dict[FamilyName, FamilyMeasures] = {}
    for name, family, against in KINDS:
        if not possible(prepared, params, against):
            continue
        own = family == params.family and against in (None, params.certified.against)
        networks = candidate if own else train(prepared, params, family=family, against=against, workers=workers)[0]
        found[name] = measure_family(networks.plain, prepared)
        if networks.commissioned is not None:
            found["robust-commissioned"] = measure_family(networks.commissioned, prepared)
    return ComparisonMeasures(families=found)


def measure_family(ensemble: Ensemble, prepared: Prepared) -> FamilyMeasures:
    """One ensemble: without an attack, and its certificates of both kinds."""
    return FamilyMeasures(
        clean=accuracy(ensemble, prepared.test),
        certified={epsilon_key(epsilon): certify(ensemble, prepared.test, epsilon) for epsilon in SIGMA},
        liars=certificates(ensemble, EvaluationSet.of(prepared)),
    )


def possible(prepared: Prepared, params: TrainParams, against: Against | None) -> bool:
    """Whether there are sensors, or units of one regime, for every part of a certified family."""
    if against == "sensors":
        return len(prepared.channels) >= params.certified.sensors.parts
    parts, one_regime = params.certified.units.parts, not prepared.normaliser.settings
    return against is None or (
        one_regime and len({unit_part(name, parts, prepared.salt) for name in prepared.train.unit_names}) == parts
    )
