"""Builder, assessor and reviewers all signed a harmful model: only the parser can refuse it."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.field import Field
from tests.attacks.forge import deceive
from twinseal.errors import EvidenceError

WEIGHTS, CONFIG, CONTRACT, GUARD = "model.safetensors", "config.json", "contract.json", "guard.json"


class Bomb:
    """What runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def pickled(field: Field) -> bytes:
    return pickle.dumps(Bomb(field.path / "exploded"))


def test_the_bomb_would_go_off(field: Field) -> None:
    pickle.loads(pickled(field))
    assert (field.path / "exploded").exists()


@pytest.mark.attack(6)
@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CONTRACT])
def test_a_pickle_in_place_of_a_model_file(field: Field, name: str) -> None:
    """Builder, assessor and reviewers sign a pickle in place of weights, config or contract."""
    assert 2 == field.accepts()
    (field.bundle / "model" / name).write_bytes(pickled(field))
    deceive(field.bundle, field.keys)
    field.release_3()
    field.refuses(EvidenceError, "expected a header of 2 to|expected JSON, got something else")
    assert not (field.path / "exploded").exists()


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    "name",
    ["model.pkl", "model.pt", "pytorch_model.bin", "weights.joblib", "data.npy", "model.safetensors.pkl", "a/b/c.dat"],
)
def test_a_pickle_beside_the_model_files(field: Field, name: str) -> None:
    """Builder, assessor and reviewers sign a pickle, under various names, beside the model files."""
    assert 2 == field.accepts()
    path = field.bundle / "model" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickled(field))
    deceive(field.bundle, field.keys)
    field.release_3()
    field.refuses(
        EvidenceError,
        r"expected config\.json, contract\.json, guard\.json, model\.safetensors, got .*"
        + name.split("/", maxsplit=1)[0],
    )
    assert not (field.path / "exploded").exists()


@pytest.mark.attack(6)
def test_an_mlmodel_with_its_own_loader(field: Field) -> None:
    """Builder, assessor and reviewers sign an MLmodel file with `loader_module` and a `code/` folder."""
    assert 2 == field.accepts()
    model = field.bundle / "model"
    (model / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: evil\n    code: code\n")
    (model / "code").mkdir()
    (model / "code/evil.py").write_text(f"open({str(field.path / 'exploded')!r}, 'w')\n")
    deceive(field.bundle, field.keys)
    field.release_3()
    field.refuses(EvidenceError, "expected config.json, contract.json, guard.json, model.safetensors, got .*MLmodel")
    assert not (field.path / "exploded").exists()


def _json(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return changed


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _joined(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _header(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        header, body = _split(data)
        change(header)
        return _joined(header, body)

    return changed


def _first_weight(value: float) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        header, body = _split(data)
        at = header[NETWORK + "layers.0.weight"]["data_offsets"][0]
        return _joined(header, body[:at] + struct.pack("<f", value) + body[at + 4 :])

    return changed


def _replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        text = json.dumps(json.loads(data))
        assert old in text
        return text.replace(old, new, 1).encode()

    return changed


NETWORK = "plain.members.0."


def _member(config: Any) -> Any:
    """The first network of config.json."""
    return config["architecture"]["plain"]["members"][0]


def _doubled(data: bytes) -> bytes:
    header, body = _split(data)
    return _joined(b'{"plain.members.0.feature_mean": {}, ' + json.dumps(header).encode()[1:], body)


DECEITS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "config names a loader": (CONFIG, _json(lambda c: c.update(loader_module="evil")), "loader_module: unknown key"),
    "architecture names code": (CONFIG, _json(lambda c: _member(c).update(code="x")), "code: unknown key"),
    "contract names code": (CONTRACT, _json(lambda c: c.update(exec="x")), "exec: unknown key"),
    "guard names code": (GUARD, _json(lambda g: g.update(exec="x")), "exec: unknown key"),
    "guard that is never alarmed": (GUARD, _json(lambda g: g.update(thresholds=[[1e308] * 3])), "guard|expected"),
    "guard that alarms at once": (GUARD, _json(lambda g: g["thresholds"][0].__setitem__(0, 0.0)), "thresholds above 0"),
    "intervals of another network": (CONFIG, _json(lambda c: c["intervals"].clear()), "intervals of each network"),
    "a baseline where there is none": (CONFIG, _json(lambda c: _member(c).update(baseline=True)), "without a baseline"),
    "config with a key twice": (CONFIG, _replaced("{", '{"format": "x", '), "a key is given twice"),
    "config with a key twice, deeper": (CONFIG, _replaced('"window"', '"window": 3, "window"'), "a key is given twice"),
    "config with a mark before it": (CONFIG, lambda data: b"\xef\xbb\xbf" + data, "expected JSON, got something else"),
    "config in UTF-16": (CONFIG, lambda data: data.decode().encode("utf-16"), "expected JSON, got something else"),
    "config with NaN": (CONFIG, _replaced("5.0", "NaN"), "NaN is not JSON"),
    "config with an infinity": (CONFIG, _replaced("5.0", "Infinity"), "Infinity is not JSON"),
    "config with 1e400": (CONFIG, _replaced("5.0", "1e400"), "1e400 is too large for a float"),
    "config with -1e400": (CONFIG, _replaced("5.0", "-1e400"), "-1e400 is too large for a float"),
    "config with a huge integer": (CONFIG, _replaced("5.0", "9" * 5000), "expected JSON|expected finite|finite"),
    "config with a long integer": (CONFIG, _replaced("5.0", "9" * 4000), "expected|finite|number"),
    "config with a scale of -0": (CONFIG, _replaced("2.0", "-0.0"), "expected finite means and stds above 0"),
    "config with a tiny scale": (CONFIG, _replaced("2.0", "-1e-300"), "expected finite means and stds above 0"),
    "config with text for a number": (CONFIG, _replaced("5.0", '"5.0"'), "number"),
    "config with true for a number": (CONFIG, _json(lambda c: _member(c).update(window=True)), "window|integer"),
    "config with half a pair": (CONFIG, _replaced('"pump"', '"\\ud800"'), "asset|surrogate|expected"),
    "config nested deeply": (CONFIG, lambda _: b"[" * 500_000, "expected (JSON|at most)"),
    "config of another model": (CONFIG, _json(lambda c: c.update(model="fan-rul")), "model: expected the contract's"),
    "channels in another order": (
        CONFIG,
        _json(lambda c: c["channels"].reverse()),
        "channels: expected the contract's",
    ),
    "a layer of 10¹² units": (CONFIG, _json(lambda c: _member(c).update(hidden=[10**12])), "units a layer"),
    "a window of 10¹² cycles": (CONFIG, _json(lambda c: _member(c).update(window=10**12)), "a window of"),
    "weights NaN": (WEIGHTS, _first_weight(float("nan")), "layers.0.weight: expected finite weights"),
    "weights infinite": (WEIGHTS, _first_weight(float("-inf")), "layers.0.weight: expected finite weights"),
    "a weight of 3e38": (
        WEIGHTS,
        _first_weight(3e38),
        "finite numbers as answers .*network 1 of plain, layer 1",
    ),
    "a scale of 1e-300": (CONFIG, _replaced("2.0", "1e-300"), "expected finite numbers as answers .*the normaliser"),
    "a guard of 1e200": (
        GUARD,
        _json(lambda g: [row.__setitem__(at, 1e200) for at, row in enumerate(g["precision"])]),
        "expected finite numbers as answers .*the guard's disagreement",
    ),
    "wear of 1e300": (GUARD, _json(lambda g: g["wear"].__setitem__(0, 1e300)), "finite numbers .*the guard's wear"),
    "a contract without ends": (
        CONTRACT,
        _json(lambda c: c["sensors"]["flow"].update(minimum=-1e300, maximum=1e300)),
        "expected finite numbers as answers .*the normaliser",
    ),
    "weights of another shape": (
        WEIGHTS,
        _header(lambda h: h[NETWORK + "layers.0.weight"]["shape"].reverse()),
        "layers.0.weight: expected",
    ),
    "weights of another type": (
        WEIGHTS,
        _header(lambda h: h[NETWORK + "feature_mean"].update(dtype="F64")),
        "feature_mean: exp",
    ),
    "weights without one tensor": (
        WEIGHTS,
        _header(lambda h: h.pop(NETWORK + "feature_mean")),
        "expected tensors",
    ),
    "weights with one tensor more": (
        WEIGHTS,
        _header(lambda h: h.update(more={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})),
        "expected tensors",
    ),
    "weights with metadata": (WEIGHTS, _header(lambda h: h.update(__metadata__={"a": "b"})), "expected tensors"),
    "tensors that overlap": (
        WEIGHTS,
        _header(lambda h: h[NETWORK + "feature_std"].update(data_offsets=h[NETWORK + "feature_mean"]["data_offsets"])),
        ": expected",
    ),
    "weights with bytes after them": (WEIGHTS, lambda data: data + b"tail", "bytes, got"),
    "weights with a hole": (
        WEIGHTS,
        lambda data: _joined(_split(data)[0], b"\0" * 4 + _split(data)[1]),
        "bytes, got",
    ),
    "header of 2⁶³ bytes": (WEIGHTS, lambda data: (1 << 63).to_bytes(8, "little") + data[8:], "expected a header"),
    "header with a key twice": (
        WEIGHTS,
        lambda data: _joined(
            b'{"plain.members.0.feature_mean": {}, ' + json.dumps(_split(data)[0]).encode()[1:], _split(data)[1]
        ),
        "a key is given twice",
    ),
}


@pytest.mark.attack(6)
@pytest.mark.parametrize("kind", DECEITS)
def test_wrong_content_that_all_signed(field: Field, kind: str) -> None:
    """Builder, assessor and reviewers sign unknown keys, NaN, weights of 3e38, wrong shapes or trailing bytes."""
    assert 2 == field.accepts()
    name, change, message = DECEITS[kind]
    path = field.bundle / "model" / name
    honest = path.read_bytes()
    path.write_bytes(change(honest))
    assert honest != path.read_bytes()
    deceive(field.bundle, field.keys)
    field.release_3()
    field.refuses(EvidenceError, message)


def test_what_everybody_signed_of_an_honest_model_is_accepted(field: Field) -> None:
    """The deceits above fail for what they are: the same way with an honest model is accepted."""
    path = field.bundle / "model" / WEIGHTS
    path.write_bytes(_first_weight(0.25)(path.read_bytes()))
    deceive(field.bundle, field.keys)
    field.release_3()
    assert 3 == field.pull().model.release.version
    assert field.answers()
