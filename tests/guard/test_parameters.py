from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from guard.conftest import untrained_params

from twinseal.config import parse
from twinseal.digests import parse_json
from twinseal.errors import ConfigError
from twinseal.guard.parameters import GuardParams


def test_parameters_survive_the_way_through_json(params: GuardParams) -> None:
    data = params.model_dump_json().encode()
    assert params == parse(GuardParams, parse_json(data, "guard.json"), "guard.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": ((1.0, 0.0), (0.0,))}, "the same everywhere"),
        ({"precision": ((1.0, 0.0),)}, "the same everywhere"),
        ({"precision": ((1.0, 2.0), (2.0, 1.0))}, "positive definite"),
        ({"precision": ((1.0, 0.5), (0.4, 1.0))}, "symmetric"),
        ({"precision": ((1.0, 1.0), (1.0, 1.0))}, "positive definite"),
        ({"precision": ((1e300, 0.0), (0.0, 1e-300))}, "positive definite"),
        ({"wear": (0.0,)}, "the same everywhere"),
        ({"thresholds": ((1.0, 1.0, 1.0),)}, "the same everywhere"),
        ({"thresholds": ((1.0, 1.0), (1.0, 1.0))}, "for each span"),
        ({"thresholds": ((1.0, 0.0),)}, "above 0"),
        ({"falls": (-1.0,)}, "above 0"),
        ({"falls": ()}, "for each span"),
        ({"spans": ()}, "1 to 8 spans"),
        ({"spans": (0,)}, "1 to 8 spans"),
        ({"spans": (10**9,)}, "1 to 8 spans"),
        ({"spans": (5, 1), "thresholds": ((1.0, 1.0),) * 2, "falls": (1.0, 1.0)}, "rising"),
        ({"stuck_cycles": ()}, "1-512 channels"),
        ({"stuck_cycles": (1, 5)}, "stuck_cycles >= 2"),
        ({"false_alarm_share": 0.0}, "share of alarms"),
        ({"measured_false_alarm_share": 1.5}, "share of false alarms"),
        ({"widen": 0.5}, "widen of 1 to 100"),
        ({"widen": math.inf}, "finite"),
        ({"wear": (math.nan, 0.0)}, "finite"),
        ({"surprise": 1}, "unknown key"),
    ],
)
def test_numbers_by_which_nothing_could_be_judged_are_refused(changes: dict[str, Any], message: str) -> None:
    legitimate = untrained_params(2).model_dump(mode="json")
    assert untrained_params(2) == parse(GuardParams, legitimate, "guard.json")
    with pytest.raises(ConfigError, match=message):
        parse(GuardParams, legitimate | changes, "guard.json")


def test_more_channels_than_a_machine_has_are_refused() -> None:
    with pytest.raises(ValueError, match="1-512 channels"):
        untrained_params(513)


def test_matrix_is_the_precision(params: GuardParams) -> None:
    assert np.array(params.precision).tolist() == params.matrix.tolist()
