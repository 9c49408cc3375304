"""False data injection: a few sensors report a percentage too little or too much.

Mode, Calyam & Hoque: Impact of False Data Injection Attacks on Deep Learning Enabled Predictive Analytics (NOMS 2020),
and its extended version (arXiv 1910.01716). Four signatures on chosen sensors:

    biased        the same percentage always
    random        a percentage drawn once for each unit and sensor, between a least and a most, as in the authors' code
    continuous    from a cycle on, without end
    interim       during 20 cycles

It works on raw readings, before the normaliser: `reading · (100 ± percent) / 100`. The authors place the interim
attack at fixed cycles and plot the estimate while it lasts; here it ends with the cycle of the estimate, which is when
it harms most. They round to two decimals, as the data are written; we do not.

The attacker knows nothing of the network. On C-MAPSS this looks small (0.02 %) and is not: fan speed hardly varies, and
0.02 % of it is 7 σ. `largest_shift_sigma` says so beside every number, and `noticed_share` how many windows would have
broken the contract's own bounds on readings and on their change a cycle; what begins with `unnoticed_` is
measured with those windows set aside, at their clean estimates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinseal.errors import ConfigError
from twinseal.measures.common import WorstCase
from twinseal.measures.keys import Name
from twinseal.measures.quantity import Keys
from twinseal.measures.robustness import InjectionGroup, InjectionMeasures
from twinseal.prognostics.ensemble import Ensemble, networks_of
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.windows import Prepared, Windows
from twinseal.robustness.attack import Attack, Plan, Testbed
from twinseal.robustness.threats import Injection
from twinseal.telemetry.contract import Contract

Doubles = NDArray[np.float64]

FORMS, SPANS = ("biased", "random"), ("continuous", "interim")


@dataclass(frozen=True)
class Case:
    """One signature: which share of the reading, for how long, which way."""

    form: str
    span: str
    direction: str

    @property
    def name(self) -> str:
        """How evidence calls it."""
        return f"{self.form}-{self.span}-{self.direction}"


def cases(directions: tuple[str, ...]) -> tuple[Case, ...]:
    """Every signature in every direction."""
    return tuple(Case(*parts) for parts in itertools.product(FORMS, SPANS, directions))


def run(testbed: Testbed) -> InjectionGroup:
    """Every signature of the injection in every direction of the policy, on the network for any unit."""
    model, threats = testbed.model, testbed.threats
    injection = threats.asset(model.contract.asset).injection
    signatures = inject(
        networks_of(model.inference).plain,
        testbed.prepared,
        model.contract,
        injection,
        threats.injection.directions,
        seed=threats.seed,
    )
    found = tuple(signatures.values())
    return InjectionGroup(
        signatures=signatures,
        worst_undefended=_highest((item.rmse_cycles, item.missed_failure_share) for item in found),
        worst_unnoticed=_highest((item.unnoticed_rmse_cycles, item.unnoticed_missed_failure_share) for item in found),
    )


def keys(plan: Plan) -> Keys:
    """Which signatures its measures have."""
    return {"signatures": frozenset(case.name for case in cases(plan.threats.injection.directions))}


def inject(
    network: Ensemble,
    prepared: Prepared,
    contract: Contract,
    injection: Injection,
    directions: tuple[str, ...],
    *,
    seed: int,
) -> dict[Name, InjectionMeasures]:
    """What each signature does to the estimates of the evaluation set's windows: its measures by the name of the case.

    Raises:
        ConfigError: A sensor of the attacker's is not among the network's channels.
    """
    missing = sorted(set(injection.sensors) - set(prepared.channels))
    if missing:
        raise ConfigError(f"threats: injection: expected sensors among {prepared.channels}, got {missing}")
    evaluation_set, normaliser = EvaluationSet.of(prepared), prepared.normaliser
    windows, regimes = evaluation_set.windows, evaluation_set.windows.batch_regimes()
    raw = normaliser.restore(windows.batch(), regimes)  # (N, L, C), each channel in its unit
    clean = estimates(network, windows)
    measured: dict[Name, InjectionMeasures] = {}
    for case in cases(directions):
        factor = factors(case, windows, prepared.channels, injection, seed=seed)
        false = raw * factor
        changed = ((false - normaliser.mean[regimes]) / normaliser.std[regimes]).astype(np.float32)
        injected = windows.with_values(changed)
        under, noticed = estimates(network, injected), _breaks_contract(raw, false, prepared.channels, contract)
        unnoticed = evaluation_set.worst_case(np.where(noticed, clean, under))
        measured[case.name] = InjectionMeasures(
            unnoticed_rmse_cycles=unnoticed.rmse_cycles,
            unnoticed_missed_failure_share=unnoticed.missed_failure_share,
            largest_shift_sigma=float(np.abs((false - raw) / normaliser.std[regimes]).max()),
            windows_touched_share=float(np.mean((factor != 1.0).any(axis=(1, 2)))),
            noticed_share=float(np.mean(noticed)),
            **evaluation_set.worst_case(under).fields(),
        )
    return measured


def _highest(numbers: Iterable[tuple[float, float | None]]) -> WorstCase:
    """The highest RMSE and the highest share of missed failures, each by itself."""
    errors, shares = zip(*numbers, strict=True)
    missed = [share for share in shares if share is not None]
    return WorstCase(rmse_cycles=max(errors), missed_failure_share=max(missed) if missed else None)


def factors(case: Case, windows: Windows, channels: tuple[str, ...], injection: Injection, *, seed: int) -> Doubles:
    """What each reading is multiplied by, (N, L, C) float64: 1 where the attacker has no hand.

    Rows that pad a short history copy the unit's first row, and are changed as it is.
    """
    cycles = np.maximum(1, windows.cycles[:, None] + np.arange(1 - windows.window, 1))  # (N, L)
    newest = windows.cycles[:, None]
    continuous = cycles >= injection.continuous_from_cycle
    struck = continuous if case.span == "continuous" else cycles > newest - injection.interim_cycles
    at = [channels.index(sensor) for sensor in injection.sensors]
    if case.form == "biased":
        percent = np.full((len(windows.unit_names), len(at)), injection.biased_percent)
    else:
        rng = np.random.default_rng([seed, 20])
        percent = rng.uniform(*injection.random_percent, size=(len(windows.unit_names), len(at)))
    sign = -1.0 if case.direction == "down" else 1.0
    factor = np.ones((len(windows), windows.window, len(channels)))
    factor[:, :, at] += sign * struck[:, :, None] * percent[windows.units][:, None, :] / 100.0  # (N, L, S)
    return factor


def _breaks_contract(raw: Doubles, false: Doubles, channels: tuple[str, ...], contract: Contract) -> NDArray[np.bool_]:
    """Whether a window (N,) now breaks the contract's range or change per cycle where it did not before."""
    known = [contract.all_channels[name] for name in channels]
    low, high, step = (np.array([getattr(c, key) for c in known]) for key in _BOUNDS)
    # float32 keeps seven digits: a reading on its bound must not count as outside after the way there and back.
    slack = 1e-6 * np.maximum(np.abs(low), np.abs(high))

    def broken(readings: Doubles) -> NDArray[np.bool_]:
        outside = (readings < low - slack) | (readings > high + slack)  # (N, L, C)
        leaps = np.abs(np.diff(readings, axis=1)) > step + 2 * slack  # (N, L-1, C)
        return np.asarray(outside.any(axis=(1, 2)) | leaps.any(axis=(1, 2)))

    return np.asarray(broken(false) & ~broken(raw))


_BOUNDS = ("minimum", "maximum", "max_change_per_cycle")


ATTACKS = (Attack("injection", run, keys, tests="signatures", seconds=1),)
