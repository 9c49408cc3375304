"""The attackers that a model is tested against, and their budgets: policy/threats.yaml as values.

A threat names its attacker in words, because a number without an attacker means nothing. Budgets of small changes are
in σ, the standard deviation of each channel over the training units; injections are in percent of a reading (Mode,
Calyam & Hoque, 2020). What can differ from asset to asset (which sensors, how many percent, which trigger) is given for
each asset; an asset without an entry is refused, not skipped: an attack that is not run is not survived.

    >>> threats = Threats.load(Path("policy/threats.yaml"))
    >>> threats.asset("turbofan").injection.sensors
    ('s2', 's8', 's14')
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from twinseal.config import PolicyEntry, Settings, load, parse
from twinseal.errors import ConfigError
from twinseal.measures.keys import Name

T = TypeVar("T", bound="Attacker")

Method = Literal["fgm", "bim", "pgd"]
AttackName = Literal["fgm", "bim", "pgd", "pgd-smoothed", "strong", "square", "transfer"]
Aim = Literal["any", "healthy-washing"]
PoisonKind = Literal["label-healthy-washing", "prolonged-history", "backdoor", "clean-label-backdoor", "guard-blinding"]


class Attacker(Settings):
    """Somebody who attacks.

    Attributes:
        name: Short, for tables; a key of the measures.
        attacker: Who this is, in words.
    """

    name: Name
    attacker: str

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an attacker of whom nothing is said, or who does nothing.

        Raises:
            ValueError: Something is empty, given twice, not positive, or does not rise.
        """
        require(self.name and self.attacker, "expected a name and an attacker in words")


class EvasionThreat(Attacker):
    """An attacker who changes every reading of a window a little.

    Attributes:
        attacks: The battery. fgm (Goodfellow 2015), bim (Kurakin 2017), pgd (Madry 2018), pgd-smoothed (PGD on a
            network that has gradients everywhere; see `methods.surrogate`) and strong (several starts, momentum, steps
            that are halved; `methods.gradient`) know the network; square (`methods.square`) may only ask it; transfer
            (strong against another network, trained on the same data) not even that.
        aims: any (the estimate is wrong, either way), healthy-washing (the estimate is as high as can be).
        epsilon_sigma: Budgets, rising: the most that a reading changes, in σ of its channel.
        bim_steps: Steps of BIM, each ε/steps long.
        pgd_steps: Steps of PGD, each 2.5·ε/steps long (Madry's rule), projected back into the budget; and of strong.
        restarts: Starts of strong and transfer.
        queries: Questions about each window that square may ask.
    """

    attacks: tuple[AttackName, ...]
    aims: tuple[Aim, ...]
    epsilon_sigma: tuple[float, ...]
    bim_steps: int
    pgd_steps: int
    restarts: int = 3
    queries: int = 300

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a battery that would attack nothing."""
        super().model_post_init(_context)
        require(is_distinct(self.attacks), "attacks: expected at least one, each once")
        require(is_distinct(self.aims), "aims: expected at least one, each once")
        two = len(self.epsilon_sigma) >= 2
        require(two and is_rising(self.epsilon_sigma), "epsilon_sigma: expected at least two budgets above 0, rising")
        require(min(self.bim_steps, self.pgd_steps, self.restarts) >= 1, "steps, restarts: expected at least 1")
        require(self.queries >= 10, "queries: expected at least 10")


class SensorThreat(Attacker):
    """An attacker who controls a few chosen sensors: they report any value in their physical range.

    Attributes:
        most: Largest number of sensors.
        steps: Of each climb.
        far_cycles: How far an estimate must move to count as moved.
    """

    most: int
    steps: int
    far_cycles: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a threat that does nothing."""
        super().model_post_init(_context)
        require(
            1 <= self.most <= 16 and self.steps >= 1 and self.far_cycles > 0, "expected 1 to 16 sensors, a step, a way"
        )


class ExtractionThreat(Attacker):
    """Somebody who can query a twin, and wants a copy of the model, or to know what it was trained on.

    Attributes:
        queries: Number of answers that the attacker gets, rising.
        rounding_cycles: How coarsely the twin could answer, in cycles, rising.
        epsilon_sigma: Budget of the attack that the stolen model is used for, σ.
    """

    queries: tuple[int, ...]
    rounding_cycles: tuple[float, ...]
    epsilon_sigma: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an attacker who does not ask."""
        super().model_post_init(_context)
        for numbers in (self.queries, self.rounding_cycles):
            require(is_rising(numbers), "queries, rounding_cycles: expected at least one above 0, rising")
        require(
            self.epsilon_sigma > 0 and max(self.queries) <= 100_000, "expected a budget above 0, at most 100000 queries"
        )


class ScenarioThreat(Attacker):
    """What is done to the last rows of whole histories, against the guard.

    Attributes:
        kind: shift (by some σ towards healthy), ramp (rising to that), replay (of rows from early life), stuck (at what
            was read before the attack), drift (towards healthy, at a share of the change a cycle that is allowed).
        sensors: three (those of the asset's injection), informative (all that tell of wear), or first (the one that
            tells most).
        rows: For how many rows before the estimate.
        sizes: In σ; of drift, in shares of the allowed change a cycle; none for replay and stuck.
        aims: healthy-washing goes towards health; any, for each unit, whichever way the estimate ends further from the
            truth. Replay and stuck go only where the unit has been, and do the same for both.
    """

    kind: Literal["shift", "ramp", "replay", "stuck", "drift"]
    sensors: Literal["first", "three", "informative"]
    rows: int
    sizes: tuple[float, ...] = (0.0,)
    aims: tuple[Aim, ...] = ("healthy-washing",)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a scenario in which nothing happens."""
        super().model_post_init(_context)
        sized = self.kind in ("shift", "ramp", "drift")
        require(self.rows >= 1 and is_distinct(self.sizes), "expected at least one row, and sizes, each once")
        require(
            all(size > 0 for size in self.sizes) == sized, "sizes: expected some above 0, or none for replay and stuck"
        )
        require(
            is_distinct(self.aims) and (sized or "any" not in self.aims),
            "aims: expected at least one, each once; replay and stuck have one way: healthy-washing",
        )


class AdaptiveThreat(Attacker):
    """An attacker who knows the network and the guard, and tells of the last rows what the guard says nothing about.

    Attributes:
        rows: How many of the last rows of each unit the attacker controls.
        epsilon_sigma: Budgets, rising: the most that a reading changes, in σ of its channel.
        rounds: How often the gradient of the estimate is taken again.
        steps: Of each round, towards the best silent history along that gradient.
    """

    rows: int
    epsilon_sigma: tuple[float, ...]
    rounds: int
    steps: int

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an attacker who does nothing."""
        super().model_post_init(_context)
        require(min(self.rows, self.rounds, self.steps) >= 1, "rows, rounds, steps: expected at least 1")
        require(is_rising(self.epsilon_sigma), "epsilon_sigma: expected at least one budget above 0, rising")


class Injection(Settings):
    """An attacker who controls a few sensors and scales what they report (Mode, Calyam & Hoque 2020).

    Attributes:
        sensors: The channels that the attacker controls.
        biased_percent: The constant false share of the reading, in percent.
        random_percent: Least and most percent; one draw for each unit and sensor, as in the authors' code.
        continuous_from_cycle: Continuous injection starts at this cycle of the unit and does not end.
        least_cycles: In the experiment with the guard, units with so many cycles take part, and
        from_cycle: there injection starts at this one, for good or for `interim_cycles`;
        guarded_random_percent: there the random share is between these, if they are others;
        decimals: there what is injected is rounded to so many, as the telemetry is written; None: not at all.
        interim_cycles: Interim injection lasts this many cycles and ends with the cycle of the estimate.
    """

    sensors: tuple[str, ...]
    biased_percent: float
    random_percent: tuple[float, float]
    continuous_from_cycle: int
    interim_cycles: int
    least_cycles: int = 60
    from_cycle: int = 41
    guarded_random_percent: tuple[float, float] | None = None
    decimals: int | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an injection that would change nothing.

        Raises:
            ValueError: No sensor, or one twice; percentages not positive or out of order; no cycles.
        """
        require(is_distinct(self.sensors), "sensors: expected at least one, each once")
        low, high = self.random_percent
        require(self.biased_percent > 0 and 0 < low <= high, "percent: expected biased > 0 and 0 < least <= most")
        require(min(self.continuous_from_cycle, self.interim_cycles) >= 1, "cycles: expected at least 1")


class Trigger(Settings):
    """A pattern that a backdoor answers to: one channel off by a constant in the last rows.

    Attributes:
        channel: The channel.
        shift_sigma: How far, in σ of the channel.
        rows: In how many of the last rows.
    """

    channel: str
    shift_sigma: float
    rows: int

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a trigger that nobody could see.

        Raises:
            ValueError: The shift is zero or no row has it.
        """
        require(self.shift_sigma != 0 and self.rows >= 1, "trigger: expected a shift other than 0 in at least 1 row")


class AssetThreats(PolicyEntry):
    """What an attacker of one kind of asset chooses."""

    injection: Injection
    trigger: Trigger


class InjectionThreat(Attacker):
    """Who injects: attacker in words, and the directions tried."""

    directions: tuple[Literal["down", "up"], ...]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a threat without a direction."""
        super().model_post_init(_context)
        require(is_distinct(self.directions), "directions: expected at least one, each once")


class PoisoningThreat(Attacker):
    """An attacker who changes the training data of a share of the units.

    Attributes:
        kind: What is changed; see `robustness.attacks.poisoning`.
        shares: Shares of the training units, rising, in (0, 1).
    """

    kind: PoisonKind
    shares: tuple[float, ...]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a poisoning of nobody."""
        super().model_post_init(_context)
        inside = all(a < b for a, b in zip((0.0, *self.shares), (*self.shares, 1.0), strict=True))
        require(bool(self.shares) and inside, "shares: expected at least one, rising, between 0 and 1")


class Sanity(Settings):
    """When a number is doubted.

    Attributes:
        noise_draws: Draws of random noise at each budget that an attack must beat.
        least_effect_cycles: An attack that moves no estimate further than this has no effect.
        most_zero_gradients_share: More windows than this without any gradient: the gradient is masked.
    """

    noise_draws: int
    least_effect_cycles: float
    most_zero_gradients_share: float

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse checks that cannot fail.

        Raises:
            ValueError: No draw of noise, an effect of nothing, or a share of 1.
        """
        require(self.noise_draws >= 1 and self.least_effect_cycles > 0, "expected noise_draws >= 1, least_effect > 0")
        require(0 <= self.most_zero_gradients_share < 1, "most_zero_gradients_share: expected a share below 1")


class Threats(Settings):
    """Everything that policy/threats.yaml says.

    Attributes:
        seed: Of every random choice of the attackers.
        retrain_epochs: Epochs of each retraining on poisoned data, and of the clean one that it is compared with.
    """

    seed: int
    retrain_epochs: int
    sanity: Sanity
    evasion: tuple[EvasionThreat, ...]
    sensors: SensorThreat
    scenarios: tuple[ScenarioThreat, ...]
    adaptive: AdaptiveThreat
    extraction: ExtractionThreat
    injection: InjectionThreat
    poisoning: tuple[PoisoningThreat, ...]
    assets: dict[str, AssetThreats]
    attacks: dict[str, dict[str, Any]]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a policy without attackers.

        Raises:
            ValueError: A list is empty or names something twice; a number is not positive.
        """
        require(is_distinct([threat.name for threat in self.evasion]), "evasion: expected threats, each name once")
        require(is_distinct([threat.name for threat in self.scenarios]), "scenarios: expected threats, each name once")
        require(is_distinct([threat.name for threat in self.poisoning]), "poisoning: expected threats, each name once")
        require(self.seed >= 0 and self.retrain_epochs >= 1, "expected seed >= 0 and retrain_epochs >= 1")

    @classmethod
    def load(cls, path: Path) -> Threats:
        """The threats in the file at `path`.

        Raises:
            ConfigError: It is absent, or says what cannot be.
        """
        return load(cls, path)

    def own(self, field: str, kind: type[T]) -> T:
        """The threat of the attack that fills the measures `field`, in the type that stands beside its code.

        Raises:
            ConfigError: There is no entry for it under `attacks`, or a value in it is not allowed.
        """
        if field not in self.attacks:
            raise ConfigError(f"threats: attacks: expected an entry for {field}, got {sorted(self.attacks)}")
        return parse(kind, self.attacks[field], f"threats: attacks: {field}")

    def asset(self, name: str) -> AssetThreats:
        """What an attacker of the asset called `name` chooses.

        Raises:
            ConfigError: The policy has no entry for it.
        """
        if name not in self.assets:
            raise ConfigError(
                f"threats: expected an entry for asset '{name}', got {sorted(self.assets)}",
                remedy=f"Say in policy/threats.yaml, under assets, which sensors of '{name}' an attacker controls.",
            )
        return self.assets[name]


def require(holds: object, message: str) -> None:
    """Refuse a threat for which a condition does not hold.

    Raises:
        ValueError: With `message`; the reader of settings turns it into a `ConfigError`.
    """
    if not holds:
        raise ValueError(message)


def is_distinct(items: Any) -> bool:
    """Whether there is at least one item, and each only once."""
    return len(items) > 0 and len(set(items)) == len(items)


def is_rising(numbers: tuple[float, ...]) -> bool:
    """Whether there are some, each above the one before and the first above 0."""
    return bool(numbers) and all(a < b for a, b in zip((0.0, *numbers), numbers, strict=False))
