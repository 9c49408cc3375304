"""Closed sums of absolute values against sums row by row."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twinseal.prognostics.architecture import NetworkConfig
from twinseal.prognostics.network import RulNetwork
from twinseal.prognostics.piecewise import PiecewiseLinear


def front_end(kind: torch.dtype = torch.float32) -> torch.Tensor:
    return RulNetwork(NetworkConfig.for_window(2, 40, means=(2, 3, 10, 40), slopes=(2, 10, 40))).front_end.to(kind)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), zeros=st.integers(0, 7))
def test_sums_are_those_of_every_row_and_never_less(seed: int, zeros: int) -> None:
    """Never less: certificates rest on it. Also where the front end, in float32, is not quite a line."""
    weights = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights[0, :, :zeros] = 0
    front = front_end(torch.float64)
    pieces, expected = PiecewiseLinear.of(front), (weights @ front).abs().sum(-1)
    torch.testing.assert_close(expected, pieces.sums(weights), rtol=1e-6, atol=1e-9)
    assert bool((pieces.sums(weights) >= expected * (1 - 1e-14)).all())


def test_a_line_that_begins_at_zero_or_stays_there_is_summed_too() -> None:
    functions = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, -3.0]], dtype=torch.float64)
    assert [6.0, 2.0, 0.0, 2.0] == PiecewiseLinear.of(functions).sums(weights).tolist()


def test_the_pieces_of_a_front_end_sum_what_its_rows_do() -> None:
    torch.manual_seed(0)
    front = front_end()
    weights = torch.randn(2, 5, 3, len(front))
    weights[0, 0] = 0
    weights[0, 1, :, 4:] = 0  # means alone: no slope anywhere
    weights.requires_grad_()
    expected = (weights @ front).abs().sum((2, 3))
    expected.sum().backward()  # type: ignore[no-untyped-call]
    found, by_weights = PiecewiseLinear.of(front).sums_and_gradient(weights.detach())
    torch.testing.assert_close(expected.detach(), found)
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad[0, 1:], by_weights[0, 1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.grad[1], by_weights[1], rtol=1e-4, atol=1e-5)
