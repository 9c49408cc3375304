"""The contract: the range of each channel, how fast it may change, how much may be missing. One for each kind of asset.

Three readers use the same contract: the validation of training data, the network (which channels it reads, in which
order), and the twin's guard before every prediction. It is in `policy/contract.yaml`, which an experimenter may not
change, and travels with the model as plain JSON. Light on purpose: no numpy, no pandas.

Rules: a missing channel, NaN where no value may be missing, and a value outside the bounds are refused. The bounds are
inclusive: `minimum <= value <= maximum`.

    >>> wear = Channel(unit="mm", minimum=0.0, maximum=2.0, max_change_per_cycle=0.1)
    >>> wear.admits(0.5), wear.admits(2.5), wear.admits(float("nan"))
    (True, False, False)
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinseal.config import MARKS, PartialSettings, PolicyEntry, Settings, parse, read_yaml
from twinseal.errors import ConfigError

KEYS = ("unit", "cycle", "censored", "rul")
"""The columns that come before the channels in every fleet."""

ROUNDING = 1e-6
"""float32 telemetry, read as float64, may differ by this share from the bounds as they are written."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_MODEL = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")


class AssetParams(PartialSettings):
    """The asset that the section `data` of params.yaml names.

    Stages after ingest read only this key. The rest of the section belongs to `twinseal.sources`, which they do not
    import: a new source changes nothing for them.

    Attributes:
        asset: The contract in policy/contract.yaml that the telemetry must meet.
    """

    asset: str


class Channel(Settings):
    """One setting or sensor.

    Attributes:
        unit: Physical unit, for people; "1" for a ratio.
        minimum: Smallest value that the machine can show.
        maximum: Largest value that the machine can show.
        max_change_per_cycle: Largest change from one cycle to the next.
        missing_share: Largest share of a unit's cycles in which the value may be missing.
        outlier_share: Largest share of a unit's cycles in which a value out of range counts as missing; a unit with
            more is set aside whole. By default none is borne.
        resolution: Step in which readings are recorded, in its unit: a finer one was not read from the instrument. 0:
            not known.
        used: Whether the network reads it.
        description: What it measures.

    Raises:
        ValueError: The bounds cross, the change is negative, or a share is not in [0, 1).
    """

    unit: str
    minimum: float
    maximum: float
    max_change_per_cycle: float
    missing_share: float = 0.0
    outlier_share: float = 0.0
    resolution: float = 0.0
    used: bool = True
    description: str = ""

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a channel that no value can meet."""
        if not self.unit.strip():
            raise ValueError("unit: expected a physical unit, got none")
        if self.minimum > self.maximum:
            raise ValueError(f"expected minimum <= maximum, got {self.minimum} > {self.maximum}")
        if self.max_change_per_cycle < 0:
            raise ValueError(f"max_change_per_cycle: expected >= 0, got {self.max_change_per_cycle}")
        if not 0 <= self.missing_share < 1:
            raise ValueError(f"missing_share: expected 0 <= share < 1, got {self.missing_share}")
        if self.resolution < 0:
            raise ValueError(f"resolution: expected >= 0, got {self.resolution}")
        if not 0 <= self.outlier_share <= self.missing_share:
            raise ValueError(f"outlier_share: expected 0 to missing_share, got {self.outlier_share}")

    @property
    def rounding(self) -> float:
        """By how much a reading may be beyond the bounds, in its unit: for validation and for the twin's guard."""
        return ROUNDING * max(abs(self.minimum), abs(self.maximum))

    def admits(self, value: float) -> bool:
        """Whether `value` is within the bounds; NaN never is."""
        return self.minimum <= value <= self.maximum


class Drift(Settings):
    """How far a fleet may drift away from the reference before it is refused.

    Attributes:
        max_psi: Largest population stability index of a channel over the reference's bins. Siddiqi (2006) calls less
            than 0.1 stable and more than 0.25 a shift.
        max_mean_shift_sigma: Largest shift of a channel's mean, in standard deviations of the reference.
        chance: The share of fleets without drift that may be refused, over all channels together. Where a fleet has so
            few units that chance alone goes beyond the bounds more often, they are widened; `telemetry.drift`.
    """

    max_psi: float = 0.25
    max_mean_shift_sigma: float = 0.5
    chance: float = 0.01

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse bounds that no fleet can meet."""
        if self.max_psi <= 0 or self.max_mean_shift_sigma <= 0:
            raise ValueError("drift: expected bounds above zero")
        if not 0 < self.chance < 1:
            raise ValueError(f"drift: expected 0 < chance < 1, got {self.chance}")


class Consistency(Settings):
    """How far a sensor may deviate from what the other sensors predict; `rules` has the formula.

    Attributes:
        window_cycles: Over how many cycles residuals are averaged.
        max_window_sigma: Largest such average, in robust standard deviations over the fleet.
        max_unit_sigma: Largest median residual of a unit, in robust standard deviations over the fleet's units.
        min_correlation: A sensor that correlates less than this with every other channel is not compared.
    """

    window_cycles: int = 10
    max_window_sigma: float = 16.0
    max_unit_sigma: float = 10.0
    min_correlation: float = 0.5

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse bounds that no fleet can meet."""
        if self.window_cycles < 1 or min(self.max_window_sigma, self.max_unit_sigma) <= 0:
            raise ValueError("consistency: expected at least one cycle, and bounds above zero")
        if not 0 < self.min_correlation < 1:
            raise ValueError(f"min_correlation: expected 0 < correlation < 1, got {self.min_correlation}")


class Regimes(Settings):
    """The points at which the asset is operated; see `telemetry.regimes`.

    Attributes:
        settings: Names of the S settings that define a point.
        within: How far each setting may be from its point, in its unit.
        points: The K operating points, each with S values.
        min_units: So many units of a fleet must have been at each point, or half of them: fewer do not show what is
            usual there.

    Raises:
        ValueError: There are fewer than two points, one has another length, or two are too close together.
    """

    settings: tuple[str, ...]
    within: tuple[float, ...]
    points: tuple[tuple[float, ...], ...]
    min_units: int = 10

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse points that cannot be told apart."""
        count = len(self.settings)
        if not count or len(set(self.settings)) != count or len(self.within) != count or min(self.within) <= 0:
            raise ValueError("regimes: expected settings, each once and with a `within` above zero")
        if len(self.points) < 2 or any(len(point) != count for point in self.points):
            raise ValueError(f"regimes: expected two points or more, each with {count} values")
        for first, second in itertools.combinations(self.points, 2):
            if all(abs(a - b) <= 2 * w for a, b, w in zip(first, second, self.within, strict=True)):
                raise ValueError(f"regimes: expected points further apart than twice `within`, got {first}, {second}")


class Contract(PolicyEntry):
    """What telemetry of one kind of asset must be.

    Attributes:
        asset: The kind of asset, e.g. `turbofan`.
        model: Name of the model that is trained on it, e.g. `turbofan-rul`.
        description: What the asset is, for people.
        cycle: What one cycle is, for people.
        rul_cap_cycles: Longer remaining lives count as this many cycles: early wear does not show.
        min_cycles: Fewest cycles that the history of a unit must have.
        max_quarantined_share: Largest share of units that may be quarantined before validation fails.
        max_unreadable_share: Largest share of rows with a cell that is no number: it is a missing reading then. By
            default none: the file is refused.
        max_lost_share: Largest share of a window's cycles without a row, or with one that was set aside, at which the
            twin still gives an estimate.
        proposed: What proposed this contract, and from what. While this is not empty, stages run, and the verdict is
            FAILED. A person lifts the mark: `twinseal asset accept`.
        accepted: Who accepted it, and when.
        settings: The operating conditions, by name, in the order of the columns.
        sensors: The measurements, by name, in the order of the columns; they follow the settings.
        drift: Bounds on the shift of the fleet away from the reference.
        consistency: Bounds on the disagreement of sensors.
        regimes: The points at which the asset is operated; none if there is only one. Each regime has its own bounds on
            the change per cycle and on the disagreement of sensors.

    Law: `Contract.from_dict(contract.to_dict()) == contract` without its marks, with the order of the channels, also
    through JSON. A model carries no mark: whether its contract is accepted, policy says, when the model is judged.

    Raises:
        ValueError: A name is not plain, is given twice or is a key column; no channel is used; a bound cannot be met; a
            channel that defines a regime is not a setting, may be missing, or is read by the network.
    """

    asset: str
    model: str
    description: str
    cycle: str
    rul_cap_cycles: float
    min_cycles: int
    max_quarantined_share: float
    settings: dict[str, Channel]
    sensors: dict[str, Channel]
    drift: Drift = Drift()
    consistency: Consistency = Consistency()
    regimes: Regimes | None = None
    max_unreadable_share: float = 0.0
    max_lost_share: float = 0.2

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a contract that no telemetry can meet."""
        super().model_post_init(_context)
        names = [*self.settings, *self.sensors]
        odd = [name for name in [*names, self.asset] if not _NAME.match(name) or name in KEYS]
        if odd or len(set(names)) != len(names):
            raise ValueError(f"channels: expected plain names, each once, none of {KEYS}, got {odd or names}")
        if not _MODEL.match(self.model):
            raise ValueError(f"model: expected lower-case letters, digits and dashes, got {self.model!r}")
        if not self.channels:
            raise ValueError("channels: expected at least one with 'used', got none")
        if not self.cycle.strip():
            raise ValueError("cycle: expected what one cycle is, got nothing")
        if self.rul_cap_cycles <= 0 or self.min_cycles < 2 or not 0 <= self.max_quarantined_share < 1:
            raise ValueError("expected rul_cap_cycles > 0, min_cycles >= 2 and 0 <= max_quarantined_share < 1")
        if not 0 <= self.max_unreadable_share < 1:
            raise ValueError(f"max_unreadable_share: expected 0 <= share < 1, got {self.max_unreadable_share}")
        if not 0 < self.max_lost_share <= 0.5:
            raise ValueError(f"max_lost_share: expected 0 < share <= 0.5, got {self.max_lost_share}")
        if self.regimes:
            self._check_regimes(self.regimes)

    def _check_regimes(self, regimes: Regimes) -> None:
        for name, values in zip(regimes.settings, zip(*regimes.points, strict=True), strict=True):
            setting = self.settings.get(name)
            if setting is None or setting.used or setting.missing_share:
                raise ValueError(f"regimes: expected a setting that is not used and never missing, got '{name}'")
            if not all(map(setting.admits, values)):
                raise ValueError(f"regimes: expected points within the bounds of '{name}', got {values}")

    @property
    def all_channels(self) -> dict[str, Channel]:
        """Settings, then sensors, by name: the columns of a fleet after the keys."""
        return {**self.settings, **self.sensors}

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that the network reads, in its order."""
        return tuple(name for name, channel in self.all_channels.items() if channel.used)

    @property
    def regime_settings(self) -> tuple[str, ...]:
        """Names of the settings that define the operating regime; none if there is only one regime."""
        return self.regimes.settings if self.regimes else ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that a model reads: the regime settings, then the channels."""
        return (*self.regime_settings, *self.channels)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of a fleet, in order."""
        return (*KEYS, *self.settings, *self.sensors)

    def to_dict(self) -> dict[str, Any]:
        """Plain data without marks, for JSON. `order` holds the order of the channels: canonical JSON sorts keys."""
        return {**self.model_dump(mode="json", exclude=set(MARKS)), "order": list(self.all_channels)}

    @classmethod
    def from_dict(cls, value: Any, where: str = "contract") -> Contract:
        """The contract that plain data describes; without `order`, its channels are in the given order.

        Raises:
            ConfigError: It describes no contract.
        """
        if not isinstance(value, Mapping) or "order" not in value:
            return parse(cls, value, where)
        rest = {key: item for key, item in value.items() if key != "order"}
        contract = parse(cls, rest, where)
        order = value["order"]
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(contract.all_channels):
            raise ConfigError(f"{where}: order: expected each channel once, got {str(order)[:200]}")
        for kind in ("settings", "sensors"):
            rest[kind] = {name: rest[kind][name] for name in order if name in rest[kind]}
        return parse(cls, rest, where)

    @classmethod
    def load(cls, path: Path, asset: str) -> Contract:
        """The contract for `asset` in the policy file at `path`.

        Raises:
            ConfigError: The file does not hold contracts, or none for this asset; names the nearest known asset.
        """
        known = cls._entries(path)
        if not isinstance(known.get(asset), Mapping):
            near = difflib.get_close_matches(asset, [str(name) for name in known], n=1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"{path}: expected a contract for the asset '{asset}', got {sorted(map(str, known))}{guess}",
                remedy="Write a contract for it under 'assets', or set data.asset in params.yaml.",
            )
        if "asset" in known[asset]:
            raise ConfigError(f"{path}: assets.{asset}.asset: unknown key; the key above it already names the asset")
        return parse(cls, {"asset": asset, **known[asset]}, f"{path}: assets.{asset}")

    @classmethod
    def load_all(cls, path: Path) -> dict[str, Contract]:
        """The contract of every asset in the policy file at `path`.

        Raises:
            ConfigError: The file does not hold contracts, or one of them is wrong.
        """
        return {str(asset): cls.load(path, asset) for asset in cls._entries(path)}

    @staticmethod
    def _entries(path: Path) -> Mapping[Any, Any]:
        value = read_yaml(path)
        if not isinstance(value, Mapping) or set(value) != {"assets"} or not isinstance(value["assets"], Mapping):
            raise ConfigError(f"{path}: expected one key 'assets', with a contract for each kind of asset")
        return value["assets"]
