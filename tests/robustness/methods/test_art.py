from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.regression.pytorch import PyTorchRegressor
from numpy.typing import NDArray

from twinseal.errors import EvidenceError
from twinseal.prognostics.ensemble import Ensemble
from twinseal.prognostics.windows import Prepared
from twinseal.robustness.methods.art import PGD_STEP, UNREACHABLE, ArtTarget
from twinseal.robustness.target import NetworkTarget, Target, everyone
from twinseal.robustness.threats import Aim

Floats = NDArray[np.float32]
EPSILON, STEPS = 0.2, 15


@pytest.fixture(scope="module")
def target(network: Ensemble, prepared: Prepared) -> ArtTarget:
    return ArtTarget(NetworkTarget.of(network, prepared.test), prepared.rul_cap_cycles)


@pytest.fixture(scope="module")
def windows(prepared: Prepared) -> tuple[Floats, Floats]:
    return prepared.test.batch(), prepared.test.rul


def plain_pgd(target: Target, x: Floats, goal: Floats, *, steps: int, step: float, sign: float) -> Floats:
    """PGD as its paper has it: up the sign of the gradient of the squared error, back into the box."""
    start, goals = torch.from_numpy(x), torch.from_numpy(goal)
    moved = start.clone()
    for _ in range(steps):
        moved.requires_grad_()
        gradient = torch.autograd.grad((target(moved, everyone(moved)) - goals).square().mean(), moved)[0]
        moved = (moved + sign * step * gradient.sign()).detach()
        moved = torch.minimum(torch.maximum(moved, start - EPSILON), start + EPSILON)
    return moved.numpy()


@pytest.mark.parametrize("aim", ["any", "healthy-washing"])
def test_pgd_is_what_a_plain_torch_loop_does(target: ArtTarget, windows: tuple[Floats, Floats], aim: Aim) -> None:
    x, y = windows
    by_art = target.attack_windows(x, y, method="pgd", aim=aim, epsilon_sigma=EPSILON, steps=STEPS)
    goal = y if aim == "any" else np.full_like(y, UNREACHABLE * target.rul_cap_cycles)
    network, step = target.target, PGD_STEP * EPSILON / STEPS
    by_hand = plain_pgd(network, x, goal, steps=STEPS, step=step, sign=1.0 if aim == "any" else -1.0)
    assert float(np.abs(by_art - x).max()) > 0.9 * EPSILON
    assert float(np.abs(target.estimates(by_art) - target.estimates(by_hand)).max()) < 1e-4 * target.rul_cap_cycles
    assert float(np.quantile(np.abs(by_art - by_hand), 0.99)) < 1e-4


def test_fgm_is_one_step_to_the_edge_of_the_budget(target: ArtTarget, windows: tuple[Floats, Floats]) -> None:
    x, y = windows
    moved = target.attack_windows(x, y, method="fgm", aim="any", epsilon_sigma=EPSILON, steps=1)
    by_hand = plain_pgd(target.target, x, y, steps=1, step=EPSILON, sign=1.0)
    assert float(np.abs(moved - by_hand).max()) < 1e-5


@pytest.mark.parametrize("method", ["fgm", "bim", "pgd"])
def test_healthy_washing_raises_every_estimate(target: ArtTarget, windows: tuple[Floats, Floats], method: str) -> None:
    x, y = windows
    moved = target.attack_windows(x, y, method=method, aim="healthy-washing", epsilon_sigma=EPSILON, steps=STEPS)
    assert bool((target.estimates(moved) > target.estimates(x)).all())


def test_labels_in_a_column_are_refused_because_art_would_broadcast_them(
    target: ArtTarget, windows: tuple[Floats, Floats]
) -> None:
    x, y = windows
    with pytest.raises(ValueError, match=rf"y: expected shape \({len(x)},\), got \({len(x)}, 1\)"):
        target.attack_windows(x, y[:, None], method="fgm", aim="any", epsilon_sigma=EPSILON, steps=1)


def test_the_column_really_weakens_the_attack(target: ArtTarget, windows: tuple[Floats, Floats]) -> None:
    """Why the shape is refused: with a column, ART still answers, and the attack does less than it seems."""
    x, y = windows
    loss = torch.nn.MSELoss()
    regressor = PyTorchRegressor(model=Whole(target.target), loss=loss, input_shape=x.shape[1:], device_type="cpu")
    attack = ProjectedGradientDescent(
        regressor, eps=EPSILON, eps_step=PGD_STEP * EPSILON / STEPS, max_iter=STEPS, batch_size=len(x), verbose=False
    )
    with pytest.warns(UserWarning, match="different to the input size"):
        weak = attack.generate(x=x, y=y[:, None])
    strong = target.attack_windows(x, y, method="pgd", aim="any", epsilon_sigma=EPSILON, steps=STEPS)
    errors = [np.square(target.estimates(moved) - y).mean() for moved in (weak, strong)]
    assert errors[0] < 0.95 * errors[1]


class Whole(torch.nn.Module):
    """A target as ART wants it."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.target(x, everyone(x))


class Broken:
    """Answers with whatever it is told to."""

    def __init__(self, answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.answer = answer

    def __call__(self, x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return self.answer(x)


BROKEN = {
    "nan": lambda x: x.mean(dim=(1, 2)) * torch.nan,
    "infinite": lambda x: x.mean(dim=(1, 2)) + torch.inf,
    "a column": lambda x: x.mean(dim=(1, 2))[:, None],
}


@pytest.mark.parametrize("defect", sorted(BROKEN))
def test_a_network_that_gives_no_numbers_is_refused(defect: str, windows: tuple[Floats, Floats]) -> None:
    x, y = windows
    with pytest.raises(EvidenceError, match=f"expected {len(x)} finite estimates"):
        ArtTarget(Broken(BROKEN[defect]), 90.0).attack_windows(
            x, y, method="fgm", aim="any", epsilon_sigma=0.1, steps=1
        )


def test_what_art_throws_becomes_an_error_of_ours(windows: tuple[Floats, Floats]) -> None:
    x, y = windows
    no_gradient = ArtTarget(Broken(lambda x: x.detach().mean(dim=(1, 2))), 90.0)
    with pytest.raises(EvidenceError, match="expected ART to run on it, got RuntimeError"):
        no_gradient.attack_windows(x, y, method="pgd", aim="any", epsilon_sigma=0.1, steps=2)


def test_a_gradient_that_is_masked_shows(windows: tuple[Floats, Floats], target: ArtTarget) -> None:
    x, _ = windows
    clamped = ArtTarget(Broken(lambda x: x.mean(dim=(1, 2)).clamp(min=1e6)), 90.0)
    assert 0.0 == float(np.abs(clamped.gradients(x)).max())
    assert bool((np.abs(target.gradients(x)).max(axis=(1, 2)) > 0).all())
