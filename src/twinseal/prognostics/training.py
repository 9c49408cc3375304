"""Training: the networks of a model family from prepared windows, and what they would say of units they never saw.

    accurate    the mean of a few networks; no defence. The error to beat
    robust      networks hardened by interval bounds: one for any unit, one more for units with a trusted baseline
    certified   the median of networks that share nothing: disjoint sensors, or disjoint training units (each part with
                a σ of its own), so that control of few of those moves few votes

Every network is fitted by itself (`fitting`), from a seed of its own, drawn from the salt of the split, so they may be
fitted at the same time. Same inputs, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import structlog
import torch

from twinseal.config import Settings
from twinseal.errors import DataError
from twinseal.prognostics.ensemble import Ensemble, Networks
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.families import Family
from twinseal.prognostics.fitting import Epoch, Fit, Recipe, fit_together, reproducible
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.normaliser import F32, Normaliser
from twinseal.prognostics.raw_rows import in_own_units
from twinseal.prognostics.splitting import seed, unit_part
from twinseal.prognostics.windows import I64, Prepared, Windows
from twinseal.telemetry.over_units import largest

log = structlog.get_logger()

Against = Literal["sensors", "units"]
MODES = ("plain", "commissioned")
LEAST_WINDOWS, LEAST_GUARD_UNITS = 10_000, 100  # fewer would show other machines than the fleet's
TOGETHER = 5  # networks that are fitted together at most: more no longer fit a core's cache


class RobustRecipes(Settings):
    """Of the family `robust`: `plain` for any unit, `commissioned` for those with a trusted baseline."""

    plain: Recipe = Recipe(members=3, epsilon_sigma=0.1)
    commissioned: Recipe = Recipe(members=3, epsilon_sigma=0.1)


class Partition(Settings):
    """How sensors or units are divided, and how each part's network is made.

    Attributes:
        parts: How many.
        recipe: Of every part's network.
    """

    parts: int = 5
    recipe: Recipe = Recipe()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a partition in which one part decides."""
        if not 3 <= self.parts <= 32:
            raise ValueError(f"parts: expected 3 to 32, got {self.parts}: of two, one liar is half")


class CertifiedRecipes(Settings):
    """Of the family `certified`.

    Attributes:
        against: What the attacker controls: some of `sensors`, or the telemetry of some of `units`.
        sensors: The division of the sensors.
        units: The division of the training units.
    """

    against: Against = "sensors"
    sensors: Partition = Partition(parts=5, recipe=Recipe(epochs=10, weight_decay=0.1))
    units: Partition = Partition(
        parts=10, recipe=Recipe(hidden=(32, 32), epochs=1, least_steps=700, epsilon_sigma=0.05, kappa=0.3)
    )


class TrainParams(Settings):
    """The section `train` of params.yaml.

    Attributes:
        family: Which networks are built.
        folds: Of the cross-validation over the training units.
        windows: From so many training windows everything but σ and the guard is learnt, and so many of the validation
            are watched, at most; where there are more, as many are drawn by the salt from all units.
        guard_units: From the histories of so many training units the guard is learnt at most, and on so many unseen
            ones its false alarms are measured; drawn likewise.
        accurate, robust, certified: The recipes of each family.
    """

    family: Family
    folds: int = 5
    windows: int = 200_000
    guard_units: int = 1_000
    accurate: Recipe = Recipe(members=5, components=3)
    robust: RobustRecipes = RobustRecipes()
    certified: CertifiedRecipes = CertifiedRecipes()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse values that no training can obey."""
        if not 2 <= self.folds <= 20:
            raise ValueError(f"folds: expected 2 to 20, got {self.folds}")
        for name, least in (("windows", LEAST_WINDOWS), ("guard_units", LEAST_GUARD_UNITS)):
            if not least <= getattr(self, name) <= 100_000_000:
                raise ValueError(f"{name}: expected {least} to 100000000, got {getattr(self, name)}")

    def with_single_members(self) -> TrainParams:
        """With one network where several are averaged: for what is trained many times."""
        robust = {mode: getattr(self.robust, mode).model_copy(update={"members": 1}) for mode in MODES}
        accurate = self.accurate.model_copy(update={"members": 1})
        return self.model_copy(update={"accurate": accurate, "robust": self.robust.model_copy(update=robust)})

    def with_few_epochs(self, epochs: int) -> TrainParams:
        """Likewise, and with few epochs: for retrainings that are compared with each other."""

        def short(recipe: Recipe) -> Recipe:
            return recipe.model_copy(update={"epochs": min(epochs, recipe.epochs)})

        def parts(division: Partition) -> Partition:
            return division.model_copy(update={"recipe": short(division.recipe)})

        once, certified = self.with_single_members(), self.certified
        changes = {"sensors": parts(certified.sensors), "units": parts(certified.units)}
        return once.model_copy(
            update={
                "accurate": short(once.accurate),
                "robust": once.robust.model_copy(update={mode: short(getattr(once.robust, mode)) for mode in MODES}),
                "certified": certified.model_copy(update=changes),
            }
        )


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What networks say of training windows whose units they did not see.

    Attributes:
        estimates: (N,) float32, cycles.
        truth: (N,) float32, cycles, capped.
        units: (N,) int64, index of the unit.
        cycles: (N,) int64, the unit's age.
    """

    estimates: F32
    truth: F32
    units: I64
    cycles: I64


@dataclass(frozen=True, eq=False)
class _Task:
    """One network to fit, and the windows to ask it about afterwards.

    Where it has a normaliser of its `own`, it is fitted on rows in that one's σ, and answers for rows in the `common`;
    and it is fitted alone, so that no other part's units are in the same computation.
    """

    fit: Fit
    asked: Windows | None = None
    own: Normaliser | None = None
    common: Normaliser | None = None


_Fitted = tuple[RulNetwork, F32, tuple[Epoch, ...]]


def train(
    prepared: Prepared,
    params: TrainParams,
    *,
    family: Family | None = None,
    against: Against | None = None,
    modes: tuple[str, ...] = MODES,
    workers: int = 1,
    progress: Callable[[Epoch], None] | None = None,
) -> tuple[Networks, tuple[Epoch, ...]]:
    """The networks of a family, fitted on `prepared.train`; `prepared.validation` is watched and chooses nothing.

    Args:
        prepared: The windows.
        params: How to train.
        family: Which; that of the params when left out.
        against: Of the certified family; likewise.
        modes: Which of its ensembles, `plain` among them.
        workers: Threads that fit at the same time; the numbers do not depend on it.
        progress: Told of every epoch of the first network.

    Returns:
        The networks, in evaluation mode, and the history of the first one.

    Raises:
        DataError: There are no windows to learn from, or training did not stay finite.
    """
    prepared = prepared.learnt(params.windows)
    chosen = params.model_copy(update={"family": family or params.family})
    holder = against or params.certified.against
    whole = _plan(prepared, prepared.train, chosen, holder)
    plan = {mode: tasks for mode, tasks in whole.items() if mode in modes}
    expected = params.certified.units.parts
    if chosen.family == "certified" and holder == "units" and len(plan["plain"]) != expected:
        raise DataError(
            f"units: expected training units in each of {expected} parts, got them in {len(plan['plain'])}",
            remedy="Bring more units that ran to failure, or lower train.certified.units.parts.",
        )
    tasks = [task for tasks in plan.values() for task in tasks]
    tasks[0] = replace(tasks[0], fit=replace(tasks[0].fit, watched=prepared.validation))
    fitted = _fit_all(tasks, workers, progress)
    networks, taken = {}, 0
    for mode, tasks in plan.items():
        members = [network for network, _, _ in fitted[taken : taken + len(tasks)]]
        networks[mode] = Ensemble.of(members, "median" if chosen.family == "certified" else "mean").eval()
        taken += len(tasks)
    log.info("networks.trained", family=chosen.family, networks=len(fitted))
    return Networks.of(networks["plain"], networks.get("commissioned")), fitted[0][2]


def cross_validate(
    prepared: Prepared, params: TrainParams, *, modes: tuple[str, ...] = MODES, workers: int = 1
) -> dict[str, OutOfFold]:
    """What networks of the family say of each training unit that they did not see, by mode.

    The training units are divided into folds at random; for each, the family is trained on the others, with one network
    where several would be averaged: a little worse than what is shipped. The normaliser stays: it is fitted on all
    training units. A part of the units that a fold leaves empty has no vote in it.

    Raises:
        DataError: There are fewer training units than folds; or as `train`.
    """
    prepared = prepared.learnt(params.windows)
    windows = prepared.train
    names = np.unique(windows.units)
    if len(names) < params.folds:
        raise DataError(
            f"cross-validation: expected at least {params.folds} training units, got {len(names)}",
            remedy="Bring more units that ran to failure, or lower train.folds.",
        )
    order = np.random.default_rng(seed(prepared.salt, "folds")).permutation(names)
    if params.family == "certified" and params.certified.against == "units":
        parts = _parts(windows, params.certified.units.parts, prepared.salt)
        order = order[np.argsort(parts[order], kind="stable")]  # every part loses its share to every fold, none all
    fold_of = {int(unit): at % params.folds for at, unit in enumerate(order)}
    folds = np.array([fold_of[int(unit)] for unit in windows.units])  # (N,)
    single = params.with_single_members()
    whole = [_plan(prepared, windows.take(folds != k), single, params.certified.against) for k in range(params.folds)]
    plans = [{mode: tasks for mode, tasks in plan.items() if mode in modes} for plan in whole]
    tasks = [
        replace(task, asked=windows.take(folds == k))
        for k, plan in enumerate(plans)
        for mode in plan
        for task in plan[mode]
    ]
    said = iter([estimates for _, estimates, _ in _fit_all(tasks, workers)])
    found: dict[str, F32] = {mode: np.zeros(len(windows), dtype=np.float32) for mode in plans[0]}
    for k, plan in enumerate(plans):
        for mode in plan:
            each = np.stack([next(said) for _ in plan[mode]])  # (M, B)
            found[mode][folds == k] = np.median(each, axis=0) if params.family == "certified" else each.mean(axis=0)
    return {mode: OutOfFold(values, windows.rul, windows.units, windows.cycles) for mode, values in found.items()}


def sensor_groups(windows: Windows, parts: int) -> tuple[tuple[int, ...], ...]:
    """The channels in groups that tell about equally much: the best dealt out first, back and forth.

    How much a channel tells is its correlation with the remaining life over the training windows' newest rows.

    Raises:
        DataError: There are fewer channels than groups.
    """
    newest, rul = windows.rows[windows.ends - 1].astype(np.float64), windows.rul.astype(np.float64)
    if newest.shape[1] < parts:
        raise DataError(
            f"sensors: expected at least {parts} channels for {parts} groups, got {newest.shape[1]}",
            remedy="Lower train.certified.sensors.parts.",
        )
    spread = np.maximum(newest.std(axis=0) * rul.std(), 1e-12)
    told = np.abs(((newest - newest.mean(axis=0)) * (rul - rul.mean())[:, None]).mean(axis=0) / spread)
    groups: list[list[int]] = [[] for _ in range(parts)]
    for place, channel in enumerate(np.argsort(-told, kind="stable")):
        lap, at = divmod(place, parts)
        groups[at if lap % 2 == 0 else parts - 1 - at].append(int(channel))
    return tuple(tuple(sorted(group)) for group in groups)


def _plan(prepared: Prepared, windows: Windows, params: TrainParams, against: Against) -> dict[str, list[_Task]]:
    """What is to be fitted, by mode. Seeds: a thousand apart by mode, so that no two networks share one."""
    channels, cap, first = len(prepared.channels), prepared.rul_cap_cycles, seed(prepared.salt, "weights")

    def task(recipe: Recipe, at: int, windows: Windows = windows, **others: object) -> _Task:
        config = recipe.network(channels, prepared.window, cap, oldest_cycles=oldest_age(windows), **others)
        return _Task(Fit(windows, config, recipe, (first + at) % 2**32))

    if params.family == "accurate":
        return {"plain": [task(params.accurate, at) for at in range(params.accurate.members)]}
    if params.family == "robust":
        plain, commissioned = params.robust.plain, params.robust.commissioned
        return {
            "plain": [task(plain, at) for at in range(plain.members)],
            "commissioned": [task(commissioned, 1_000 + at, baseline=True) for at in range(commissioned.members)],
        }
    if against == "sensors":
        division = params.certified.sensors
        groups = sensor_groups(windows, division.parts)
        return {"plain": [task(division.recipe, 2_000 + at, inputs=group) for at, group in enumerate(groups)]}
    division, normaliser = params.certified.units, prepared.normaliser
    if normaliser.settings or division.recipe.components:
        raise DataError(
            "units: expected one operating regime, and a recipe without components: the parts must share nothing",
            remedy="Choose another family: train.family, or train.certified.against: sensors.",
        )
    part_of = _parts(windows, division.parts, prepared.salt)[windows.units]  # (N,)
    tasks = []
    for part in (part for part in range(division.parts) if (part_of == part).any()):
        mine, own = in_own_units(prepared.raw, windows.take(part_of == part))
        tasks.append(replace(task(division.recipe, 3_000 + part, mine), own=own, common=normaliser))
    return {"plain": tasks}


def oldest_age(windows: Windows) -> int:
    """The age in cycles up to which something is known: that of the oldest units, but for few (`over_units`).

    With the very oldest, one unit whose history is written longer would let the twin answer for any age.
    """
    return int(largest(ages(windows).astype(np.float64))) if len(windows) else 1


def ages(windows: Windows) -> I64:
    """The age of each unit that has windows at its newest one, (U,)."""
    found, unit = np.unique(windows.units, return_inverse=True)
    oldest = np.zeros(len(found), dtype=np.int64)
    np.maximum.at(oldest, unit, windows.cycles)
    return oldest


def _translate(network: RulNetwork, own: Normaliser, common: Normaliser) -> RulNetwork:
    """A network fitted on rows in `own` σ, made to read rows in `common` σ: the scale of its features takes the change.

    Means and slopes are linear: with z = (x - μ)/σ, the mean of own z is the mean of common z times σ/σ' plus
    (μ - μ')/σ', a slope the same without the constant.
    """
    config = network.config
    scale = torch.from_numpy((common.std[0] / own.std[0])[list(config.inputs)])
    offset = torch.from_numpy(((common.mean[0] - own.mean[0]) / own.std[0])[list(config.inputs)])
    means = torch.arange(len(config.means + config.slopes)) < len(config.means)  # (F,)
    width, shape = scale.numel() * len(means), (len(means), scale.numel())
    mean, std = (part[:width].double().reshape(shape) for part in (network.feature_mean, network.feature_std))
    network.feature_mean[:width] = ((mean - means[:, None] * offset) / scale).flatten().float()
    network.feature_std[:width] = (std / scale).flatten().float()
    return network


def _parts(windows: Windows, parts: int, salt: str) -> I64:
    """The part of each unit, (U,)."""
    return np.array([unit_part(name, parts, salt) for name in windows.unit_names], dtype=np.int64)


def _fit_all(tasks: Sequence[_Task], workers: int, progress: Callable[[Epoch], None] | None = None) -> list[_Fitted]:
    """Each task's network, its history, and its estimates, in order. What is fitted together is the tasks' own matter.

    Threads will do: nearly all of the time torch computes, without Python's lock, and each network has a generator of
    its own.
    """
    groups = _groups(tasks)
    with reproducible(0), ThreadPoolExecutor(max(1, min(workers, len(groups)))) as pool:
        fitted = pool.map(lambda group: _fit_group([tasks[at] for at in group], progress), groups)
        found = {
            at: result
            for group, results in zip(groups, fitted, strict=True)
            for at, result in zip(group, results, strict=True)
        }
    return [found[at] for at in range(len(tasks))]


def _groups(tasks: Sequence[_Task]) -> list[list[int]]:
    """Which tasks are fitted together, by index: those of one shape and recipe; one that is to be alone is alone."""
    kinds: dict[object, list[int]] = {}
    for at, task in enumerate(tasks):
        kinds.setdefault(at if task.own else task.fit.kind, []).append(at)
    return [kind[begin : begin + TOGETHER] for kind in kinds.values() for begin in range(0, len(kind), TOGETHER)]


def _fit_group(tasks: Sequence[_Task], progress: Callable[[Epoch], None] | None) -> list[_Fitted]:
    fitted = fit_together([task.fit for task in tasks], progress)
    return [(*_finished(task, network), history) for task, (network, history) in zip(tasks, fitted, strict=True)]


def _finished(task: _Task, fitted: RulNetwork) -> tuple[RulNetwork, F32]:
    """The network as it is shipped, and its estimates of what it is asked about."""
    network = _translate(fitted, task.own, task.common) if task.own and task.common else fitted
    asked = np.zeros(0, dtype=np.float32) if task.asked is None else estimates(network, task.asked)
    return network, asked
