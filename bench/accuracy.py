"""What each family of models is worth over several seeds: error, certificates, and how long it is trained.

A simulated fleet of pumps by default; a subset of C-MAPSS, where there are reaches, with DATA=<folder or zip> and
SUBSET=FD001 (or another) in the environment. The recipes are those of params.yaml, with the changes of `make cmapss`. A
sample is a seed, and no seed is left out: nothing is chosen by the test set here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.table import Row
from demo.cmapss import SUBSETS, Subset
from twinseal.config import load, parse, read_yaml
from twinseal.errors import ConfigError
from twinseal.measures.common import WorstCase
from twinseal.measures.keys import liars_key
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import accuracy, certify
from twinseal.prognostics.evaluation_set import EvaluationSet
from twinseal.prognostics.families import Family
from twinseal.prognostics.fitting import reproducible
from twinseal.prognostics.median_certificates import certificates
from twinseal.prognostics.metrics import measure as errors
from twinseal.prognostics.splitting import Split, SplitPolicy
from twinseal.prognostics.training import Against, TrainParams, cross_validate, train
from twinseal.prognostics.windows import Prepared, PrepareParams, prepare
from twinseal.sources.cmapss import Cmapss, CmapssParams
from twinseal.sources.data_params import DataParams
from twinseal.sources.simulated import Simulated
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

ROOT = Path(__file__).parents[1]
PARAMS, EVALUATION = ROOT / "params.yaml", ROOT / "policy/evaluation.yaml"
FIRST_SEED = 7
WORKERS = 2
REACHES: Mapping[str, Mapping[str, float]] = {  # cycles; seconds; %
    "FD001": {
        "accurate: clean": 10.5,
        "accurate: training": 180,
        "robust: certified at 0.05 σ": 15.5,
        "robust: certified at 0.1 σ": 20,
        "robust, baseline: clean": 11,
        "robust, baseline: certified at 0.05 σ": 14.5,
        "robust, baseline: certified at 0.1 σ": 18,
        "certified, sensors: 1 liar": 16.5,
        "certified, sensors: 2 liars": 21,
        "certified, units: clean": 13.5,
        "certified, units: 1 liar": 17,
        "certified, units: 2 liars": 20,
        "certified, units: 3 liars": 24,
    },
    "FD002": {"accurate: clean": 10.5, "robust: clean": 12.5, "robust: certified at 0.1 σ, missed": 0},
    "FD003": {"accurate: clean": 11, "robust: clean": 12, "robust: certified at 0.1 σ, missed": 0},
    "FD004": {"accurate: clean": 11, "robust: clean": 14, "robust: certified at 0.1 σ, missed": 0},
}
KINDS: tuple[tuple[str, Family, Against | None], ...] = (
    ("accurate", "accurate", None),
    ("robust", "robust", None),
    ("certified, sensors", "certified", "sensors"),
    ("certified, units", "certified", "units"),
)


def measure(_folder: Path, repeats: int) -> list[Row]:
    """The rows of `accuracy, pumps` or `accuracy, FD001`; a sample a seed, `repeats` of them from 7 on."""
    given, name = os.environ.get("DATA"), os.environ.get("SUBSET") or "FD001"
    if name not in SUBSETS:
        raise ConfigError(f"SUBSET: expected one of {', '.join(SUBSETS)}, got {name[:40]!r}")
    bench = f"accuracy, {name}" if given else "accuracy, pumps"
    prepared, params = _engines(Path(given), SUBSETS[name]) if given else _pumps()
    kinds = [kind for kind in KINDS if not (kind[2] == "units" and prepared.normaliser.settings)]
    found: dict[tuple[str, str], list[float]] = {}
    with reproducible(0):
        for seed in range(FIRST_SEED, FIRST_SEED + repeats):
            for kind, family, against in kinds:
                for what, unit, value in _family(prepared, params, kind, family, against, seed):
                    found.setdefault((what, unit), []).append(value)
    reaches = REACHES[name] if given else {}
    return [Row(bench, what, tuple(values), unit, reaches.get(what)) for (what, unit), values in found.items()]


def _family(
    prepared: Prepared, params: TrainParams, name: str, family: Family, against: Against | None, seed: int
) -> Iterator[tuple[str, str, float]]:
    """What is measured of one family from one seed: in words, unit, value."""
    certified = params.certified.model_copy(update={"against": against or params.certified.against})
    own = params.model_copy(update={"family": family, "certified": certified})
    prepared = replace(prepared, salt=str(seed))  # other first weights and folds; the same units in each split
    begun = time.perf_counter()
    networks, _ = train(prepared, own, workers=WORKERS)
    yield f"{name}: training", "s", time.perf_counter() - begun
    unseen = {} if against else cross_validate(prepared, own, workers=WORKERS)
    for mode, values in _modes(prepared, networks).items():
        label = name if mode == "plain" else f"{name}, baseline"
        if mode in unseen:
            outside = errors(unseen[mode].estimates, unseen[mode].truth, unseen[mode].units)
            yield f"{label}: cross-validated", "cycles", outside.rmse_cycles
        for what, unit, value in values:
            yield f"{label}: {what}", unit, value


def _modes(prepared: Prepared, networks: Networks) -> dict[str, list[tuple[str, str, float]]]:
    found: dict[str, list[tuple[str, str, float]]] = {}
    for mode, ensemble in networks.modes().items():
        clean = accuracy(ensemble, prepared.test)
        rows = [("clean", "cycles", clean.rmse_cycles), ("NASA score", "", clean.nasa_score)]
        rows += [("late", "%", 100 * clean.late_share)]
        liars = certificates(ensemble, EvaluationSet.of(prepared))
        for r in (r for r in (1, 2, 3) if liars_key(r) in liars):
            rows += _worst(f"{r} liar{'s' if r > 1 else ''}", liars[liars_key(r)])
        for epsilon in () if liars else (0.05, 0.1, 0.25):
            rows += _worst(f"certified at {epsilon:g} σ", certify(ensemble, prepared.test, epsilon))
        found[mode] = rows
    return found


def _worst(what: str, harm: WorstCase) -> list[tuple[str, str, float]]:
    missed = harm.missed_failure_share  # no share where no test window is failing
    return [
        (what, "cycles", harm.rmse_cycles),
        *([(f"{what}, missed", "%", 100 * missed)] if missed is not None else []),
    ]


def _pumps() -> tuple[Prepared, TrainParams]:
    data = load(DataParams, PARAMS, section="data")
    contract = Contract.load(ROOT / "policy/contract.yaml", "pump")
    return _prepared(Simulated(data.simulated, contract).read(), contract), load(TrainParams, PARAMS, section="train")


def _engines(folder: Path, subset: Subset) -> tuple[Prepared, TrainParams]:
    contract = Contract.load(ROOT / "policy/contract.yaml", subset.asset)
    fleet = Cmapss.open(folder, CmapssParams(subset=subset.name), contract).read()
    recipes = changed(read_yaml(PARAMS), subset.changes)["train"]
    return _prepared(fleet, contract), parse(TrainParams, recipes, str(PARAMS))


def changed(params: Any, changes: Iterable[str]) -> Any:
    """`params` with each `a.b.c=number` of the changes in its place, as `dvc exp run -S` makes them."""
    for change in changes:
        path, _, value = change.partition("=")
        *groups, name = path.split(".")
        group = params
        for key in groups:
            group = group[key]
        group[name] = type(group[name])(value)
    return params


def _prepared(fleet: Fleet, contract: Contract) -> Prepared:
    split = Split(load(SplitPolicy, EVALUATION), str(FIRST_SEED))
    return prepare(fleet, contract, load(PrepareParams, PARAMS, section="prepare"), split)
