"""The families side by side: what each costs in clean accuracy, and what it buys.

The candidate is of one family; the others are trained on the same windows for comparison only, and never shipped.
"""

from __future__ import annotations

from typing import Any

from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import certify, estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.families import Family
from twinseal.prognostics.median_certificates import certificates
from twinseal.prognostics.metrics import measure
from twinseal.prognostics.training import Against, TrainParams, train, unit_part
from twinseal.prognostics.windows import Prepared

SIGMA = (0.05, 0.1)
KINDS: tuple[tuple[str, Family, Against | None], ...] = (
    ("accurate", "accurate", None),
    ("robust", "robust", None),
    ("certified-sensors", "certified", "sensors"),
    ("certified-units", "certified", "units"),
)


def compare(prepared: Prepared, params: TrainParams, own: Networks, *, workers: int = 1) -> dict[str, dict[str, Any]]:
    """The measures of each family on the test windows, by its name; `robust-commissioned` beside `robust`.

    Args:
        prepared: The windows.
        params: The recipes, and the candidate's family.
        own: The candidate's networks: they are measured, not trained again.
        workers: Processes that fit at the same time.

    Returns:
        clean: as `measure`; certified: by eps-…, as `certify`; liars: as `certificates`, where there are any.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, family, against in KINDS:
        if not possible(prepared, params, against):
            continue
        mine = family == params.family and against in (None, params.certified.against)
        networks = own if mine else train(prepared, params, family=family, against=against, workers=workers)[0]
        for mode, ensemble in networks.modes().items():
            measures: dict[str, Any] = {
                "clean": measure(estimates(ensemble, prepared.test), prepared.test.rul),
                "certified": {f"eps-{epsilon:g}": certify(ensemble, prepared.test, epsilon) for epsilon in SIGMA},
            }
            bought = certificates(ensemble, EvaluationSet.of(prepared))
            found[name if mode == "plain" else f"{name}-{mode}"] = measures | ({"liars": bought} if bought else {})
    return found


def possible(prepared: Prepared, params: TrainParams, against: Against | None) -> bool:
    """Whether there are sensors, or units of one regime, for every part of a certified family."""
    if against == "sensors":
        return len(prepared.channels) >= params.certified.sensors.parts
    parts, one_regime = params.certified.units.parts, not prepared.normaliser.settings
    return against is None or (
        one_regime and len({unit_part(name, parts) for name in prepared.train.unit_names}) == parts
    )
