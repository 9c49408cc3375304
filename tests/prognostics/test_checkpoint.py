from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prognostics.conftest import complete

from twinseal.errors import DataError, EvidenceError
from twinseal.files import inventory
from twinseal.prognostics import weights
from twinseal.prognostics.checkpoint import (
    CONFIG,
    CONTRACT,
    GUARD,
    WEIGHTS,
    parse_model,
    read_model,
    write_model,
)
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.evaluation import estimates
from twinseal.prognostics.fitting import Epoch
from twinseal.prognostics.training import TrainParams, train
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.fleet import Fleet

Trained = tuple[Networks, tuple[Epoch, ...]]


def test_training_and_writing_again_gives_the_same_bytes(
    toy_model: Path, toy_prepared: Prepared, toy_training: TrainParams, toy_contract: Contract, tmp_path: Path
) -> None:
    again, _ = train(toy_prepared, toy_training)
    write_model(tmp_path / "again", complete(again, toy_contract, toy_prepared))
    assert inventory(toy_model) == inventory(tmp_path / "again")
    assert [CONFIG, CONTRACT, GUARD, WEIGHTS] == [record.path for record in inventory(toy_model)]


def test_the_model_read_predicts_what_the_network_did(
    toy_model: Path, toy_trained: Trained, toy_prepared: Prepared, toy_fleet: Fleet
) -> None:
    model, test = read_model(toy_model), toy_prepared.test
    plain, commissioned = (np.clip(estimates(e, test), 0, 40) for e in toy_trained[0].modes().values())
    histories = [
        toy_fleet.trajectory(test.unit_names[unit]).rows(model.channels)[:cycle]
        for unit, cycle in zip(test.units, test.cycles, strict=True)
    ]
    first = [toy_fleet.trajectory(test.unit_names[unit]).rows(model.channels)[:20] for unit in test.units]
    np.testing.assert_allclose(plain, [model.predict(rows, len(rows)) for rows in histories], atol=1e-3)
    with_baseline = [model.predict(rows, len(rows), known) for rows, known in zip(histories, first, strict=True)]
    np.testing.assert_allclose(commissioned, with_baseline, atol=1e-3)
    assert not np.allclose(plain, commissioned, atol=1e-3)


def test_what_is_read_says_what_it_is(toy_model: Path, toy_contract: Contract) -> None:
    model = read_model(toy_model)
    assert toy_contract == model.contract
    assert list(toy_contract.all_channels) == list(model.contract.all_channels)
    assert (("load", "heat", "drone"), 20, 40.0) == (model.channels, model.window, model.rul_cap_cycles)
    assert "robust" == model.family


def test_predict_stays_between_nothing_and_the_cap(toy_model: Path) -> None:
    model = read_model(toy_model)
    assert 0.0 == model.predict(np.tile([5.0, 900.0, 50.0], (20, 1)), 20)
    assert 40.0 == model.predict(np.tile([5.0, -900.0, -50.0], (20, 1)), 20)


def test_predict_looks_back_one_window_and_fills_gaps(toy_model: Path, toy_fleet: Fleet) -> None:
    model = read_model(toy_model)
    rows = toy_fleet.trajectory("unit-03").rows(model.channels)
    assert model.predict(rows[-20:], 70) == model.predict(rows, 70)
    gap, held = rows.copy(), rows.copy()
    gap[-1, 1], held[-1, 1] = np.nan, rows[-2, 1]
    assert model.predict(held, 70) == model.predict(gap, 70)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (np.zeros((0, 3)), ValueError, "expected a row at least"),
        (np.zeros(3), ValueError, r"expected \(L, 3\)"),
        (np.zeros((5, 2)), ValueError, r"expected \(L, 3\)"),
        (np.full((5, 3), np.inf), DataError, "got an infinity"),
        (np.full((5, 3), 1e300), DataError, "got values beyond it"),
        (np.tile([[1.5e38, 0.0, 0.0]], (5, 1)), DataError, "got values too large"),
    ],
)
def test_predict_refuses_what_no_estimate_can_be_made_from(
    toy_model: Path, rows: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_model(toy_model).predict(rows, 5)


def test_the_twin_needs_no_scikit_learn_to_predict(toy_model: Path) -> None:
    program = f"""
import sys
for name in ("sklearn", "art", "great_expectations", "mlflow", "progpy", "matplotlib", "dvc"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from twinseal.prognostics.checkpoint import read_model
print(read_model(Path({str(toy_model)!r})).predict(np.zeros((5, 3)), 5))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert 0.0 <= float(done.stdout) <= 40.0


# What follows is an enemy's work: each vector is an honest model with one thing wrong.


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8 if not isinstance(header, bytes) else 0)  # as safetensors aligns it
    return struct.pack("<Q", len(text)) + text + body


def _header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        header, body = _split(data)
        changed = change(header)
        return _joined(header if changed is None else changed, body)

    return damage


def _weights(name: str, values: bytes) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        header, body = _split(data)
        start = header[name]["data_offsets"][0]
        return _joined(header, body[:start] + values + body[start + len(values) :])

    return damage


def _json(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        value = json.loads(data)
        changed = change(value)
        return json.dumps(value if changed is None else changed).encode()

    return damage


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: Any) -> None:
        *parents, last = path
        for parent in parents:
            value = value[parent]
        value[last] = to

    return change


NETWORK, MEMBER = "plain.members.0.", ("architecture", "plain", "members", 0)
NAN, HUGE = struct.pack("<f", float("nan")), (1 << 63).to_bytes(8, "little")
ATTACKS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "weights-empty": (WEIGHTS, lambda data: b"", "expected a header"),
    "weights-cut": (WEIGHTS, lambda data: data[:-4], "bytes, got"),
    "weights-with-a-tail": (WEIGHTS, lambda data: data + b"tail", "bytes, got"),
    "header-longer-than-the-file": (WEIGHTS, lambda data: HUGE + data[8:], "expected a header"),
    "header-above-the-cap": (
        WEIGHTS,
        lambda data: _joined(b" " * (1 << 20) + b"{}", b""),
        "expected a header of 2 to 1048576",
    ),
    "header-not-json": (WEIGHTS, _header(lambda header: b"\x80\x04pickle"), "header: expected JSON"),
    "header-a-list": (WEIGHTS, _header(lambda header: b"[]"), "expected tensors"),
    "header-nested-deeply": (WEIGHTS, _header(lambda header: b"[" * 100_000), "expected JSON|expected tensors"),
    "header-key-twice": (WEIGHTS, _header(lambda header: b'{"a":1,"a":2}'), "a key is given twice"),
    "header-with-metadata": (WEIGHTS, _header(_set("__metadata__", to={"a": "b"})), "expected tensors"),
    "tensor-extra": (
        WEIGHTS,
        _header(_set("extra", to={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})),
        "expected tensors",
    ),
    "tensor-missing": (
        WEIGHTS,
        _header(lambda header: header.pop(NETWORK + "feature_mean") and None),
        "expected tensors",
    ),
    "tensor-of-float64": (
        WEIGHTS,
        _header(_set(NETWORK + "feature_mean", "dtype", to="F64")),
        "feature_mean: expected",
    ),
    "tensor-of-another-shape": (
        WEIGHTS,
        _header(_set(NETWORK + "layers.0.weight", "shape", to=[15, 16])),
        "layers.0.weight: exp",
    ),
    "tensor-with-a-key-more": (
        WEIGHTS,
        _header(_set(NETWORK + "feature_mean", "note", to="x")),
        "feature_mean: expected",
    ),
    "tensor-no-object": (WEIGHTS, _header(_set(NETWORK + "feature_mean", to=3)), "feature_mean: expected"),
    "offsets-overlap": (
        WEIGHTS,
        _header(_set(NETWORK + "feature_std", "data_offsets", to=[0, 64])),
        ": expected",
    ),
    "offsets-negative": (
        WEIGHTS,
        _header(_set(NETWORK + "feature_std", "data_offsets", to=[-64, 0])),
        ": expected",
    ),
    "offsets-true": (
        WEIGHTS,
        _header(_set(NETWORK + "feature_std", "data_offsets", to=[True, 64])),
        ": expected",
    ),
    "weight-nan": (WEIGHTS, _weights(NETWORK + "layers.1.bias", NAN), "layers.1.bias: expected finite weights"),
    "scale-zero": (WEIGHTS, _weights(NETWORK + "feature_std", bytes(4)), "feature_std: expected values above 0"),
    "scale-negative": (
        WEIGHTS,
        _weights(NETWORK + "feature_std", struct.pack("<f", -1.0)),
        "feature_std: expected values above 0",
    ),
    "config-not-json": (CONFIG, lambda data: b"\x80\x04pickle", "config.json: expected JSON"),
    "config-a-list": (CONFIG, lambda data: b"[]", "expected keys and values"),
    "config-with-nan": (CONFIG, lambda data: data.replace(b"40.0", b"NaN"), "NaN is not JSON"),
    "config-unknown-key": (CONFIG, _json(_set("loader_module", to="os")), "loader_module: unknown key"),
    "config-unknown-key-inside": (
        CONFIG,
        _json(_set(*MEMBER, "code", to="x")),
        "code: unknown key",
    ),
    "config-key-missing": (CONFIG, _json(lambda value: value.pop("normaliser") and None), "normaliser: field required"),
    "config-other-format": (CONFIG, _json(_set("format", to="twinseal-model/2")), "format: input should be"),
    "config-other-asset": (CONFIG, _json(_set("asset", to="pump")), "asset: expected the contract's toy"),
    "config-other-model": (CONFIG, _json(_set("model", to="pump-rul")), "model: expected the contract's toy-rul"),
    "config-channels-swapped": (CONFIG, _json(_set("channels", to=["heat", "load", "drone"])), "channels: expected"),
    "config-std-zero": (
        CONFIG,
        _json(_set("normaliser", "std", to=[[1.0, 0.0, 1.0]])),
        "expected finite means and stds above 0",
    ),
    "config-mean-short": (CONFIG, _json(_set("normaliser", "mean", to=[[1.0]])), "expected a mean and a std a channel"),
    "config-number-as-text": (CONFIG, _json(_set("normaliser", "mean", to=[["1.0", 2.0, 3.0]])), "valid number"),
    "config-other-cap": (
        CONFIG,
        _json(_set(*MEMBER, "rul_cap_cycles", to=4000.0)),
        "same channels, window and cap",
    ),
    "config-giant-layer": (
        CONFIG,
        _json(_set(*MEMBER, "hidden", to=[10**12])),
        "1-16384 units a layer",
    ),
    "config-giant-window": (
        CONFIG,
        _json(_set(*MEMBER, "window", to=10**12)),
        "a window of 2-10000",
    ),
    "config-members-of-other-windows": (
        CONFIG,
        _json(_set(*MEMBER, "window", to=90)),
        "same",
    ),
    "config-no-members": (CONFIG, _json(_set("architecture", "plain", "members", to=[])), "1-32 members"),
    "config-plain-reads-a-baseline": (
        CONFIG,
        _json(_set(*MEMBER, "baseline", to=True)),
        "expected members that do without a baseline",
    ),
    "config-other-family": (CONFIG, _json(_set("family", to="sturdy")), "family: input should be"),
    "config-without-commissioned": (CONFIG, _json(_set("architecture", "commissioned", to=None)), "expected tensors"),
    "config-other-hidden": (
        CONFIG,
        _json(_set(*MEMBER, "hidden", to=[16])),
        "expected tensors",
    ),
    "config-another-channel-count": (
        CONFIG,
        _json(_set(*MEMBER, "channels", to=4)),
        "same channels, window and cap",
    ),
    "config-intervals-of-no-network": (CONFIG, _json(_set("intervals", "other", to={})), "intervals"),
    "config-life-bounds-absent": (CONFIG, _json(_set("life_bounds", to={})), "expected life bounds of each network"),
    "config-life-bounds-none": (CONFIG, _json(_set("life_bounds", to=None)), "life_bounds"),
    "config-life-bound-of-no-life": (
        CONFIG,
        _json(_set("life_bounds", "plain", "lives", to=0)),
        "expected at least one life",
    ),
    "config-life-bound-of-any-length": (
        CONFIG,
        _json(_set("life_bounds", "plain", "margins", to=[1e9])),
        "expected margins of 0 to 1e6 cycles",
    ),
    "config-intervals-negative": (
        CONFIG,
        _json(_set("intervals", "plain", "below", to=[-1.0, 9.0])),
        "widths of 0 or more",
    ),
    "guard-not-json": (GUARD, lambda data: b"", "guard.json: expected JSON"),
    "guard-unknown-key": (GUARD, _json(_set("exec", to="x")), "exec: unknown key"),
    "guard-of-other-channels": (GUARD, _json(_set("stuck_cycles", to=[5, 5])), "the same everywhere"),
    "guard-threshold-zero": (GUARD, _json(_set("thresholds", 0, 0, to=0.0)), "thresholds above 0"),
    "guard-precision-skewed": (GUARD, _json(_set("precision", 0, 1, to=9.0)), "symmetric, positive definite"),
    "guard-precision-negative": (GUARD, _json(_set("precision", 0, 0, to=-9.0)), "symmetric, positive definite"),
    "guard-alarms-impossible": (GUARD, _json(_set("false_alarm_share", to=1.0)), "a share of alarms in"),
    "contract-not-json": (CONTRACT, lambda data: b"", "contract.json: expected JSON"),
    "contract-unknown-key": (CONTRACT, _json(_set("exec", to="x")), "exec: unknown key"),
    "contract-of-another-asset": (CONTRACT, _json(_set("asset", to="pump")), "asset: expected the contract's pump"),
    "contract-channel-unused": (CONTRACT, _json(_set("sensors", "drone", "used", to=False)), "channels: expected"),
    "contract-channels-in-another-order": (
        CONTRACT,
        _json(_set("order", to=["load", "drone", "heat"])),
        "channels: expected the contract's",
    ),
    "contract-over-size": (
        CONTRACT,
        lambda data: data + b" " * (1 << 20),
        "expected a regular file of at most 1048576",
    ),
}


@pytest.mark.attack(6)
@pytest.mark.parametrize("mapped", [False, True], ids=["in memory", "mapped"])
@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_a_damaged_model_is_refused(
    toy_model: Path, tmp_path: Path, attack: str, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, config, contract or guard are damaged, one change at a time."""
    file, damage, message = ATTACKS[attack]
    if mapped:
        monkeypatch.setattr(weights, "IN_MEMORY_BYTES", 0)
    shutil.copytree(toy_model, tmp_path / "model")
    assert read_model(tmp_path / "model").window == 20  # honest as it stands
    honest = (tmp_path / "model" / file).read_bytes()
    (tmp_path / "model" / file).write_bytes(damage(honest))
    assert honest != (tmp_path / "model" / file).read_bytes()
    with pytest.raises(EvidenceError, match=message):
        read_model(tmp_path / "model")


@pytest.mark.attack(6)
@pytest.mark.parametrize("change", ["extra", "missing", "renamed", "link", "folder", "absent"])
def test_other_than_the_four_files_is_refused(toy_model: Path, tmp_path: Path, change: str) -> None:
    """The model folder contains an extra file, a symlink or a folder, or a file is missing or renamed."""
    model = shutil.copytree(toy_model, tmp_path / "model")
    if change == "extra":
        (model / "setup.py").write_text("")
    elif change == "missing":
        (model / CONTRACT).unlink()
    elif change == "renamed":
        (model / CONTRACT).rename(model / "Contract.json")
    elif change == "link":
        (model / WEIGHTS).unlink()
        (model / WEIGHTS).symlink_to(toy_model / WEIGHTS)
    elif change == "folder":
        (model / WEIGHTS).unlink()
        (model / WEIGHTS).mkdir()
    else:
        shutil.rmtree(model)
    with pytest.raises(
        EvidenceError, match=r"expected config\.json, contract\.json|a regular file|expected a model, got none"
    ):
        read_model(model)


@settings(max_examples=150, deadline=None)
@given(
    file=st.sampled_from([WEIGHTS, CONFIG, CONTRACT, GUARD]),
    at=st.floats(0, 1, exclude_max=True),
    junk=st.binary(max_size=9),
)
def test_whatever_bytes_come_a_model_or_a_refusal_comes_out(toy_model: Path, file: str, at: float, junk: bytes) -> None:
    files = {name: (toy_model / name).read_bytes() for name in (WEIGHTS, CONFIG, CONTRACT, GUARD)}
    place = int(at * len(files[file]))
    files[file] = files[file][:place] + junk + files[file][place + len(junk) :]
    try:
        parse_model(files)
    except EvidenceError as error:
        assert "ask whoever signed it" in error.remedy


def test_what_does_not_belong_together_is_no_model(toy_model: Path, toy_contract: Contract) -> None:
    honest = read_model(toy_model)
    other = toy_contract.model_copy(update={"settings": {}})
    with pytest.raises(ValueError, match="expected as many channels in contract, network, normaliser and guard"):
        replace(honest, contract=other)
    capped = toy_contract.model_copy(update={"rul_cap_cycles": 50.0})
    with pytest.raises(ValueError, match="expected intervals of each network"):
        replace(honest, intervals={})
    with pytest.raises(ValueError, match="expected life bounds of each network"):
        replace(honest, life_bounds={})
    with pytest.raises(ValueError, match="expected the contract's cap of 50 cycles, got 40"):
        replace(honest, contract=capped)


def test_what_could_not_be_read_is_not_written(toy_model: Path, tmp_path: Path) -> None:
    model = read_model(toy_model)
    model.inference.arrays["plain.members.0.feature_mean"][0] = np.nan
    with pytest.raises(EvidenceError, match="feature_mean: expected finite weights"):
        write_model(tmp_path / "model", model)
    assert not (tmp_path / "model").exists()
