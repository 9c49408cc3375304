"""The door to the Adversarial Robustness Toolbox (ART 1.20.1): its FGM, BIM and PGD against a RUL network.

Three traps of ART with regressors, each measured, are closed here:

- without `y`, or with `y` of shape (B, 1), the loss broadcasts to B × B and the attack is weak in silence: `y` is
  always given and is one-dimensional;
- upwards, the cap itself as target saturates (no gradient where the estimate has reached it): the target is 3 × cap;
- ART replaces a NaN in a gradient with 0 in silence: estimates that are not finite are refused before and after.

Random restarts are not offered by ART for regressors (ValueError), so each attack starts at the window itself.

ART is imported when it is used: it takes 1.3 s, and of the processes that share the battery only one needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twinseal.errors import EvidenceError
from twinseal.robustness.target import Target, estimates, everyone
from twinseal.robustness.threats import Aim, Method

Floats = NDArray[np.float32]

UNREACHABLE = 3.0  # × cap: the target upwards
PGD_STEP = 2.5  # × ε/steps: Madry et al. (2018), so that the far side of the budget can be reached and left again


class _Bound(torch.nn.Module):
    """A target in the shape that ART knows: windows (N, L, C) → (N,), always all N of them."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.target(x, everyone(x))


@dataclass(frozen=True)
class ArtTarget:
    """A target under attack, in ART's clothes.

    Attributes:
        target: Of the windows that it is asked about, all of them and in order.
        rul_cap_cycles: The highest RUL that it was trained on.
    """

    target: Target
    rul_cap_cycles: float

    def estimates(self, x: Floats) -> Floats:
        """RUL in cycles, (N,) float32, of windows `x` (N, L, C) float32 normalised.

        Raises:
            EvidenceError: An estimate is not finite, or not one number a window.
        """
        return estimates(self.target, x)

    def attack_windows(
        self, x: Floats, y: Floats, *, method: Method, aim: Aim, epsilon_sigma: float, steps: int
    ) -> Floats:
        """Windows (N, L, C) float32, each reading within ε of `x`, made to harm.

        Args:
            x: Windows (N, L, C) float32, normalised.
            y: True RUL (N,) float32 in cycles; what `any` is led away from.
            method: fgm, bim or pgd.
            aim: any (away from `y`), healthy-washing (towards UNREACHABLE × cap).
            epsilon_sigma: The budget, in σ.
            steps: Of bim and pgd.

        Raises:
            ValueError: `y` is not one-dimensional, or not as long as `x`.
            EvidenceError: ART cannot attack this network, or it answers with what is no number.
        """
        if y.shape != (len(x),):
            raise ValueError(f"y: expected shape ({len(x)},), got {y.shape}: ART would broadcast it in silence")
        self.estimates(x)
        goal = y if aim == "any" else np.full(len(x), UNREACHABLE * self.rul_cap_cycles)
        budget = {"eps": epsilon_sigma, "targeted": aim == "healthy-washing", "batch_size": len(x)}
        attack = _attack(method, {"estimator": self._regressor(x), **budget}, steps)
        changed = _translate_errors(lambda: attack.generate(x=x.astype(np.float32), y=goal.astype(np.float32)))
        return np.asarray(changed, dtype=np.float32)

    def gradients(self, x: Floats) -> Floats:
        """The gradient of the upward loss at each reading, (N, L, C) float32: zero everywhere means masked.

        Raises:
            EvidenceError: As `attack_windows`.
        """
        goal = np.full(len(x), UNREACHABLE * self.rul_cap_cycles, dtype=np.float32)
        return np.asarray(_translate_errors(lambda: self._regressor(x).loss_gradient(x, goal)), dtype=np.float32)

    def _regressor(self, x: Floats) -> Any:
        from art.estimators.regression.pytorch import PyTorchRegressor  # noqa: PLC0415 - 1.3 s, see above

        return _translate_errors(
            lambda: PyTorchRegressor(
                model=_Bound(self.target),
                loss=torch.nn.MSELoss(),
                input_shape=x.shape[1:],
                preprocessing=None,  # by default it takes 0 away and divides by 1
                device_type="cpu",
            )
        )


def infer_membership(inside: Floats, inside_truth: Floats, outside: Floats, outside_truth: Floats) -> float:
    """How often ART's black-box attack tells members from others, by their losses; 0.5 is a guess.

    It learns from the first half of both sides and is asked about the second.

    Args:
        inside: (N,) cycles, what the model says of windows that it was trained on.
        inside_truth: (N,) cycles.
        outside: (M,) cycles, what it says of others.
        outside_truth: (M,) cycles.

    Raises:
        EvidenceError: ART cannot run it.
    """
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox  # noqa: PLC0415 - see above
    from art.estimators.regression.blackbox import BlackBoxRegressor  # noqa: PLC0415

    said, truth = np.concatenate([inside, outside]), np.concatenate([inside_truth, outside_truth])
    number = np.arange(len(said), dtype=np.float32)[
        :, None
    ]  # a window is told by its number: only its loss is looked at
    regressor = BlackBoxRegressor(
        lambda asked: said[asked[:, 0].astype(int)],
        input_shape=(1,),
        loss_fn=lambda y, e: np.square(np.ravel(y) - np.ravel(e)),
    )
    attack = MembershipInferenceBlackBox(regressor, input_type="loss", attack_model_type="gb")
    attack.attack_model.set_params(random_state=0)  # ART leaves it to chance, in the order of equal splits
    half, middle, other = len(inside) // 2, len(inside), len(inside) + len(outside) // 2
    _translate_errors(lambda: attack.fit(number[:half], truth[:half], number[middle:other], truth[middle:other]))
    told = [
        np.mean(np.ravel(_translate_errors(lambda part=part: attack.infer(number[part], truth[part]))))  # type: ignore[misc]
        for part in (slice(half, middle), slice(other, None))
    ]
    return float((told[0] + 1 - told[1]) / 2)


def _attack(method: Method, budget: dict[str, Any], steps: int) -> Any:
    from art.attacks.evasion import (  # noqa: PLC0415 - see above
        BasicIterativeMethod,
        FastGradientMethod,
        ProjectedGradientDescent,
    )

    if method == "fgm":
        return FastGradientMethod(**budget)
    step = budget["eps"] / steps
    iterated = {**budget, "max_iter": steps, "verbose": False}
    if method == "bim":
        return BasicIterativeMethod(**iterated, eps_step=step)
    return ProjectedGradientDescent(**iterated, eps_step=PGD_STEP * step, num_random_init=0)


def _translate_errors(action: Callable[[], Any]) -> Any:
    """Whatever ART throws at us becomes one error of ours; it documents none of its own."""
    try:
        return action()
    except Exception as error:
        raise EvidenceError(f"attack: expected ART to run on it, got {type(error).__name__}: {error}") from error
