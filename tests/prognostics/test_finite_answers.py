"""Finite answers: what is read answers every reading within its contract with a finite number."""

from __future__ import annotations

import json
import resource
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.deployment import CHANNELS, MODEL, WINDOW, contract, guard_without_calibration, write_untrained
from twinseal.errors import EvidenceError
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.checkpoint import (
    CONFIG,
    GUARD,
    MAX_BYTES,
    WEIGHTS,
    Model,
    parse_model,
    read_model,
    write_model,
)
from twinseal.prognostics.conformal import Intervals
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.finite_answers import require_finite_answers
from twinseal.prognostics.life_bounds import LifeBound
from twinseal.prognostics.normaliser import BASELINE_CYCLES, Normaliser
from twinseal.telemetry.contract import Contract

Files = dict[str, bytes]


def build_model() -> Model:
    """Two networks that nobody trained, for any unit and for commissioned ones; the latter with components."""
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"channels": len(CHANNELS), "window": WINDOW, "hidden": (4, 4), "rul_cap_cycles": 100.0}
    plain = NetworkConfig.for_window(**sizes)
    commissioned = NetworkConfig.for_window(**sizes, baseline=True, components=3, inputs=(0, 2, 5, 6))
    networks = Networks(
        Architecture(
            plain=EnsembleConfig(members=(plain, plain)),
            commissioned=EnsembleConfig(members=(commissioned,) * 3, aggregation="median"),
        )
    )
    for name, tensor in networks.named_buffers():
        if name.endswith("projection"):
            tensor.copy_(torch.randn_like(tensor))
    width = (1, len(CHANNELS))
    normaliser = Normaliser(np.full(width, 5.0), np.full(width, 2.0), np.zeros((1, 0)), np.zeros(0))
    intervals = Intervals(coverage=0.9, edges=(50.0,), below=(5.0, 10.0), above=(5.0, 10.0), cap_cycles=100.0)
    modes, life = (
        {"plain": intervals, "commissioned": intervals},
        LifeBound(edges=(20.0,), margins=(10.0,), lives=20, false_lock_share=0.05, unknown_cycles=10.0),
    )
    return Model(
        networks.to_inference(),
        contract(MODEL),
        normaliser,
        "robust",
        guard_without_calibration(len(CHANNELS)),
        modes,
        dict.fromkeys(modes, life),
    )


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, build_model())
    return {name: (folder / name).read_bytes() for name in MAX_BYTES}


def layout(files: Files) -> tuple[int, dict[str, tuple[int, int]]]:
    """Where the weights begin, and the first and last byte of each tensor from there."""
    length = struct.unpack("<Q", files[WEIGHTS][:8])[0]
    header = json.loads(files[WEIGHTS][8 : 8 + length])
    return 8 + length, {name: tuple(item["data_offsets"]) for name, item in header.items()}


def poke(files: Files, name: str, value: float, at: float = 0.0) -> Files:
    """One value of a tensor is another."""
    start, tensors = layout(files)
    first, last = tensors[name]
    place = start + first + 4 * int(at * ((last - first) // 4 - 1))
    data = bytearray(files[WEIGHTS])
    data[place : place + 4] = struct.pack("<f", value)
    return files | {WEIGHTS: bytes(data)}


def edit(files: Files, name: str, change: Callable[[Any], Any]) -> Files:
    value = json.loads(files[name])
    change(value)
    return files | {name: json.dumps(value).encode()}


def test_an_honest_model_is_read_also_with_large_weights(honest: Files) -> None:
    parse_model(honest)
    for name in layout(honest)[1]:
        parse_model(poke(honest, name, 1e9))


P, C = "plain.members.1.", "commissioned.members.2."


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        (P + "layers.0.weight", 3e38, "network 2 of plain, layer 1"),
        (P + "layers.0.bias", -3e38, "network 2 of plain, layer 1"),
        (P + "layers.1.weight", 3e38, "network 2 of plain, layer 2"),
        (P + "layers.2.bias", 3e38, "network 2 of plain, layer 3"),
        (P + "layers.2.bias", 2e36, "the ensemble plain"),  # times the cap of 100 cycles
        (P + "feature_mean", 3e38, "network 2 of plain, features"),
        (P + "feature_std", 1e-45, "network 2 of plain, features"),
        (C + "projection", 3e38, "network 3 of commissioned, projection"),
        (C + "layers.0.weight", 3e38, "network 3 of commissioned, layer 1"),
    ],
)
def test_weights_that_leave_float32_are_refused(name: str, value: float, where: str, honest: Files) -> None:
    """A model has finite weights that are so large, or scales so small, that it would refuse every row."""
    parse_model(honest)
    with pytest.raises(EvidenceError, match=f"all readings within its own contract, got .*{where}") as refusal:
        parse_model(poke(honest, name, value))
    assert "The model would refuse every row" in refusal.value.remedy


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (CONFIG, lambda c: c["normaliser"]["std"][0].__setitem__(2, 1e-300), "the normaliser"),
        (CONFIG, lambda c: c["normaliser"]["mean"][0].__setitem__(2, 1e300), "the normaliser"),
        (GUARD, lambda g: g["wear"].__setitem__(0, -1e308), "the guard's wear"),
        (GUARD, lambda g: g.update(precision=(1e200 * np.eye(len(CHANNELS))).tolist()), "the guard's disagreement"),
        (GUARD, lambda g: g["wear"].__setitem__(0, float("inf")), "Infinity is not JSON"),
        (GUARD, lambda g: g.update(widen=float("inf")), "Infinity is not JSON"),
    ],
)
def test_other_numbers_that_leave_float_are_refused(
    name: str, change: Callable[[Any], Any], message: str, honest: Files
) -> None:
    """A model's normaliser or guard has finite numbers so large or small that no answer is finite."""
    parse_model(honest)
    with pytest.raises(EvidenceError, match=message):
        parse_model(edit(honest, name, change))


@pytest.mark.parametrize("mode", ["plain", "commissioned"])
def test_intervals_that_overflow_when_they_are_widened_are_refused(mode: str, honest: Files) -> None:
    wide = edit(honest, CONFIG, lambda c: c["intervals"][mode].update(below=[1e308, 1e308]))
    parse_model(wide)
    with pytest.raises(EvidenceError, match=f"the intervals of {mode}"):
        parse_model(edit(wide, GUARD, lambda g: g.update(widen=100.0)))


sizes = st.builds(lambda sign, power: sign * 2.0**power, st.sampled_from([-1, 1]), st.integers(-149, 127))
places = st.floats(0, 1)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_read_answers_every_reading_within_its_contract(honest: Files, data: st.DataObject) -> None:
    """The law, for weights of any size: either the model is refused, or no row of its contract is."""
    files = honest
    for name in data.draw(st.lists(st.sampled_from(sorted(layout(honest)[1])), min_size=1, max_size=4)):
        value = data.draw(sizes)
        files = poke(files, name, abs(value) if name.endswith("std") else value, data.draw(places))
    if data.draw(st.booleans()):
        at, scale = data.draw(st.integers(0, 7)), 2.0 ** data.draw(st.integers(-900, 900))
        files = edit(files, CONFIG, lambda c: c["normaliser"]["std"][0].__setitem__(at, scale))
    try:
        model = parse_model(files)
    except EvidenceError:
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(3):
        rows = rng.choice([0.0, 10.0, 5.0, rng.uniform(0, 10)], size=(WINDOW, len(CHANNELS)))
        base = rng.choice([0.0, 10.0], size=(BASELINE_CYCLES, len(CHANNELS)))
        for baseline in (None, base):
            answer = model.predict(rows, int(rng.choice([1, 200, 10**6])), baseline)  # raises if it is not finite
            assert 0 <= answer <= 100


def test_it_is_fast_and_takes_little_memory(tmp_path: Path) -> None:
    write_untrained(tmp_path / "model", 1, MODEL, (64, 64))
    model = read_model(tmp_path / "model")
    start = time.process_time()
    for _ in range(5):
        require_finite_answers(model)
    assert time.process_time() - start < 5 * 0.05


@pytest.mark.attack(6)
@pytest.mark.timeout(60)
def test_a_model_of_very_large_windows_takes_bounded_memory() -> None:
    """A model names the largest window, many channels and many regimes, to exhaust the memory of whoever asks it."""
    channel = {"unit": "1", "minimum": 0.0, "maximum": 10.0, "max_change_per_cycle": 1.0}
    names = [f"s{at}" for at in range(400)]
    points = [[float(at)] for at in range(100)]
    limits = contract(MODEL).to_dict() | {
        "settings": {"speed": channel | {"used": False, "maximum": 100.0}},
        "sensors": dict.fromkeys(names, channel),
        "order": ["speed", *names],
        "regimes": {"settings": ["speed"], "within": [0.1], "points": points},
    }
    config = NetworkConfig.for_window(channels=400, window=10_000, hidden=(1,), rul_cap_cycles=100.0)
    ones = np.ones((100, 400))
    model = Model(
        Networks(Architecture(plain=EnsembleConfig(members=(config,)))).to_inference(),
        Contract.from_dict(limits),
        Normaliser(5 * ones, 2 * ones, np.array(points), np.array([0.1])),
        "robust",
        guard_without_calibration(400),
        {"plain": build_model().intervals["plain"]},
        {"plain": build_model().life_bounds["plain"]},
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        require_finite_answers(model)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB


@pytest.mark.attack("P")
def test_a_builder_does_not_write_such_a_model(tmp_path: Path) -> None:
    """The builder trains a model whose weights are finite and so large that it would refuse every row."""
    model = build_model()
    model.inference.arrays["plain.members.0.layers.0.weight"].fill(3e38)
    with pytest.raises(EvidenceError, match="expected finite numbers as answers"):
        write_model(tmp_path / "model", model)
    assert not (tmp_path / "model").exists()
