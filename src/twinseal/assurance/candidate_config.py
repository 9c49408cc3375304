"""What kind of model the candidate is: read from its own signed files, and from the signed record of its training.

The report and the model card say nothing of the candidate that is not written here, so that no sentence about one
family stands in the page of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.evidence import Statement
from twinseal.measures.keys import Mode
from twinseal.prognostics.architecture import EnsembleConfig
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.families import Family
from twinseal.prognostics.fitting import Recipe
from twinseal.prognostics.training import Against, TrainParams
from twinseal.telemetry.contract import Contract


@dataclass(frozen=True)
class EnsembleFacts:
    """One ensemble of the candidate.

    Attributes:
        mode: `plain` answers for any unit, `commissioned` for units with a signed baseline.
        members: How many networks it has.
        aggregation: What is made of their estimates.
        epsilon_sigma: The change of every reading that its training defends against, σ; 0 where training has no
            defence; None where no sound record says.
        epochs: Passes over the training windows; None likewise.
    """

    mode: Mode
    members: int
    aggregation: Literal["mean", "median"]
    epsilon_sigma: float | None
    epochs: int | None

    @property
    def defended(self) -> bool:
        """Whether it was trained with interval bounds."""
        return bool(self.epsilon_sigma)


@dataclass(frozen=True)
class CandidateConfig:
    """What kind of model the candidate is.

    Attributes:
        family: As the signed model says.
        against: Of a median: whether its members share no sensors, or no training units; None for a mean.
        plain: The ensemble that answers for any unit.
        commissioned: The ensemble that reads the signed baseline; None where there is none.
        channels: How many channels the networks read.
        window_cycles: How many cycles they look back.
        rul_cap_cycles: The longest remaining life that the model states.
        operating_points: Those of its contract in words, such as `mach 0.84`; none where it names none.
        drift_limit_psi: How far the contract lets a fleet drift from its reference.
    """

    family: Family
    against: Against | None
    plain: EnsembleFacts
    commissioned: EnsembleFacts | None
    channels: int
    window_cycles: int
    rul_cap_cycles: float
    drift_limit_psi: float
    operating_points: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Model, train: Statement | None) -> CandidateConfig:
        """From the signed model, and the record of its training where that is sound."""
        architecture, recipes = model.inference.config, _recipes(model, train)
        signed = architecture.commissioned
        return cls(
            family=model.family,
            against=_against(architecture.plain),
            plain=_facts("plain", architecture.plain, recipes),
            commissioned=None if signed is None else _facts("commissioned", signed, recipes),
            channels=len(model.channels),
            window_cycles=model.window,
            rul_cap_cycles=model.rul_cap_cycles,
            drift_limit_psi=model.contract.drift.max_psi,
            operating_points=operating_points(model.contract),
        )

    @property
    def ensembles(self) -> tuple[EnsembleFacts, ...]:
        """Those that there are."""
        return (self.plain,) if self.commissioned is None else (self.plain, self.commissioned)


def _facts(mode: Mode, ensemble: EnsembleConfig, recipes: Mapping[Mode, Recipe]) -> EnsembleFacts:
    recipe = recipes.get(mode)
    return EnsembleFacts(
        mode=mode,
        members=len(ensemble.members),
        aggregation=ensemble.aggregation,
        epsilon_sigma=recipe.epsilon_sigma if recipe else None,
        epochs=recipe.epochs if recipe else None,
    )


def operating_points(contract: Contract) -> tuple[str, ...]:
    """The operating points of a contract in words, in its order; none if it names none."""
    if contract.regimes is None:
        return ()
    names = [(name, contract.settings[name].unit) for name in contract.regimes.settings]
    return tuple(
        ", ".join(f"{name} {value:g} {unit}".strip() for (name, unit), value in zip(names, point, strict=True))
        for point in contract.regimes.points
    )


def _against(ensemble: EnsembleConfig) -> Against | None:
    """The members of a median share no sensors, unless they read the same ones: then they share no training units."""
    if ensemble.aggregation == "mean":
        return None
    return "units" if len({member.inputs for member in ensemble.members}) == 1 else "sensors"


def _recipes(model: Model, train: Statement | None) -> Mapping[Mode, Recipe]:
    """The recipe of each ensemble, from the params that the training signed; none where they are not sound."""
    params = _train_params(train)
    if params is None or params.family != model.family:
        return {}
    if params.family == "accurate":
        return {"plain": params.accurate}
    if params.family == "robust":
        return {"plain": params.robust.plain, "commissioned": params.robust.commissioned}
    against = _against(model.inference.config.plain)
    return {"plain": params.certified.units.recipe if against == "units" else params.certified.sensors.recipe}


def _train_params(train: Statement | None) -> TrainParams | None:
    definition: Any = train.predicate.get("buildDefinition") if train else None
    given = definition.get("externalParameters") if isinstance(definition, dict) else None
    if not isinstance(given, dict) or "train" not in given:
        return None
    try:
        return parse(TrainParams, given["train"], "train: externalParameters")
    except ConfigError:
        return None  # malformed is as good as absent
