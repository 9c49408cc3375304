"""The gradients written out in `stacked` against those that torch records, and its optimiser against torch's own."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.course import loss
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.stacked import AdamW, Batch, Stack, one_cycle

CONFIGS = {
    "two layers": NetworkConfig.for_window(4, 30, hidden=(16, 8)),
    "one layer, no age": NetworkConfig.for_window(4, 30, hidden=(16,), age=False),
    "baseline": NetworkConfig.for_window(4, 30, hidden=(16, 8), baseline=True),
    "components": NetworkConfig.for_window(4, 30, hidden=(8, 8, 8), components=2, baseline=True),
    "some inputs, no leak": NetworkConfig.for_window(4, 30, hidden=(16, 8), inputs=(1, 3), leak=0.0),
}


def networks(config: NetworkConfig, count: int = 3) -> list[RulNetwork]:
    torch.manual_seed(1)
    made = [RulNetwork(config) for _ in range(count)]
    for network in made:
        network.feature_mean.normal_()
        network.feature_std.uniform_(0.5, 2.0)
        network.projection.normal_() if config.components else None
    return made


def gradient(network: RulNetwork) -> torch.Tensor:
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize(("config", "defence"), [*product(CONFIGS, [(0.0, 0.5), (0.1, 0.5), (0.2, 1.0)])])
def test_the_gradient_written_out_is_the_recorded_one(config: str, defence: tuple[float, float]) -> None:
    epsilon, kappa = defence
    made = networks(CONFIGS[config])
    features, rul = torch.randn(3, 20, CONFIGS[config].width), 125 * torch.rand(3, 20)
    given = torch.stack([(f - n.feature_mean) / n.feature_std for f, n in zip(features, made, strict=True)])
    stack = Stack(made)
    batch = Batch(given, rul / 125, torch.full((3, 20), 1 / 20))
    whole, clean = stack.descend(batch, torch.full((3, 1), epsilon), torch.full((3, 1), kappa))
    for at, network in enumerate(made):
        expected = loss(network, features[at], rul[at], epsilon, kappa)
        (expected[0] / 125**2).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(gradient(network), stack.gradients[at], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(expected[0].detach() / 125**2, whole[at])
        torch.testing.assert_close(expected[1].detach() / 125**2, clean[at])


def test_windows_without_a_share_are_not_learned_from() -> None:
    made = networks(CONFIGS["two layers"])
    width = CONFIGS["two layers"].width
    features, truth, shares = torch.randn(3, 9, width), torch.rand(3, 9), torch.full((3, 9), 1 / 6)
    shares[1, 6:] = 0
    goal = torch.full((3, 1), 0.1), torch.full((3, 1), 0.5)
    found = []
    for other in (features, torch.where(shares[..., None] > 0, features, 1e3)):
        stack = Stack(made)
        losses = stack.descend(Batch(other, truth, shares), *goal)
        found.append([*losses, stack.gradients.clone()])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_one_networks_windows_reach_no_other() -> None:
    made = networks(CONFIGS["baseline"])
    features, truth, shares = torch.randn(3, 9, CONFIGS["baseline"].width), torch.rand(3, 9), torch.full((3, 9), 1 / 9)
    goal, found = (torch.full((3, 1), 0.1), torch.full((3, 1), 0.5)), []
    for factor in (1.0, 5.0):
        features[1] *= factor
        stack = Stack(made)
        stack.descend(Batch(features, truth, shares), *goal)
        found.append(stack.gradients)
    assert [True, False, True] == [torch.equal(one, two) for one, two in zip(*found, strict=True)]


def test_the_optimiser_is_torchs_own() -> None:
    torch.manual_seed(0)
    values, gradients = torch.randn(2, 7), torch.randn(30, 2, 7)
    theirs = [torch.nn.Parameter(row.clone()) for row in values]
    optimisers = [
        torch.optim.AdamW([p], lr=rate, weight_decay=0.1) for p, rate in zip(theirs, (0.01, 0.1), strict=True)
    ]
    own = AdamW(values, 0.1)
    for step in gradients:
        own.step(step, torch.tensor([[0.01], [0.1]]))
        for parameter, optimiser, given in zip(theirs, optimisers, step, strict=True):
            parameter.grad = given.clone()
            optimiser.step()
    torch.testing.assert_close(torch.stack([p.detach() for p in theirs]), values)


@pytest.mark.parametrize("total", [1, 2, 3, 10, 100])
def test_the_schedule_is_torchs_own(total: int) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.02, total_steps=total + 1, cycle_momentum=False)
    expected = []
    for _ in range(total):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert expected == pytest.approx(one_cycle(0.02, total, total).tolist(), rel=1e-5)
    assert [0.0, 0.0] == one_cycle(0.02, total, total + 2)[-2:].tolist()
