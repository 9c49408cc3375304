"""The checkpoint: a model as three files, written with deterministic bytes and read as if an enemy had written them.

    model.safetensors   the weights; no metadata, every tensor float32
    config.json         architecture, channels, normaliser, and which asset and model this is
    contract.json       the contract whose telemetry the network was trained on

Reading is step 6 of the twin's admission: the bytes are already signed, and are still not trusted to be well formed.
Nothing is executed, nothing is allocated beyond the limits below, and what is not exactly expected is refused.

Laws: `write_model(d, …)` twice gives the same bytes; `read_model(d)` predicts what the written network predicted.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from twinseal.config import Settings, parse
from twinseal.digests import parse_json
from twinseal.errors import ConfigError, DataError, EvidenceError
from twinseal.files import write_whole
from twinseal.prognostics.network import NetworkConfig, RulNetwork
from twinseal.prognostics.normaliser import Normaliser, pad
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract

WEIGHTS, CONFIG, CONTRACT = "model.safetensors", "config.json", "contract.json"
MAX_BYTES = {WEIGHTS: 64 << 20, CONFIG: 1 << 20, CONTRACT: 1 << 20}
MAX_HEADER_BYTES = 1 << 20
_REMEDY = "The model is not what twinseal writes: ask whoever signed it, or train again."


class ModelConfig(Settings):
    """What config.json holds; unknown keys are refused.

    Attributes:
        format: Version of the three files.
        asset: Kind of asset, as in the contract.
        model: Name of the model, as in the contract.
        channels: Names of the channels, as in the contract, in order.
        mean: Of each channel over the training units, in its unit.
        std: Likewise, above 0.
        architecture: Of the network.
    """

    format: Literal["twinseal-model/1"] = "twinseal-model/1"
    asset: str
    model: str
    channels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    architecture: NetworkConfig


@dataclass(frozen=True, eq=False)
class Model:
    """A network with all that it needs to read raw telemetry.

    Attributes:
        network: In evaluation mode.
        contract: What telemetry must be before the network sees it.
        normaliser: Raw units → σ of the training units.

    Raises:
        ValueError: The three disagree about the channels or the cap.
    """

    network: RulNetwork
    contract: Contract
    normaliser: Normaliser

    def __post_init__(self) -> None:
        counts = {len(self.channels), self.network.config.channels, self.normaliser.mean.size}
        if len(counts) != 1:
            raise ValueError(f"model: expected as many channels in contract, network and normaliser, got {counts}")
        if self.network.config.rul_cap_cycles != self.contract.rul_cap_cycles:
            raise ValueError(
                f"model: expected the contract's cap of {self.contract.rul_cap_cycles:g} cycles, "
                f"got {self.network.config.rul_cap_cycles:g}"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the C channels that `predict` wants, in order."""
        return self.contract.channels

    @property
    def window(self) -> int:
        """L, the rows that the network looks back; more are ignored."""
        return self.network.config.window

    @property
    def rul_cap_cycles(self) -> float:
        """The longest remaining life that is ever stated."""
        return self.network.config.rul_cap_cycles

    def inputs(self, rows: npt.NDArray[np.floating]) -> Tensor:
        """The normalised window (1, L, C) float32 that the network sees of raw `rows`, as in `predict`.

        Raises:
            DataError, ValueError: As `predict`.
        """
        values = np.asarray(rows)
        if values.ndim != 2 or not len(values):
            raise ValueError(f"rows: expected (L, {len(self.channels)}) with a row at least, got {values.shape}")
        known = self.normaliser.apply(values)
        return torch.from_numpy(np.ascontiguousarray(pad(known, self.window)[-self.window :]))[None]

    def predict(self, rows: npt.NDArray[np.floating]) -> float:
        """The remaining useful life after the last of `rows`.

        Args:
            rows: (L, C) readings of one unit, oldest first, each channel in its unit, NaN where one is missing. Fewer
                than the window are padded by the first, as in training.

        Returns:
            Cycles, from 0 to the cap.

        Raises:
            DataError: A reading is infinite, or so large that no estimate comes out.
            ValueError: The rows are none, or have another number of channels.
        """
        with torch.inference_mode():
            estimate = float(self.network(self.inputs(rows))[0])
        if not np.isfinite(estimate):
            raise DataError("rows: expected readings that an estimate can be made from, got values too large")
        return min(max(estimate, 0.0), self.rul_cap_cycles)


def write_model(directory: Path, network: RulNetwork, contract: Contract, prepared: Prepared) -> None:
    """Write a model's three files; nothing else may be in `directory`.

    Raises:
        ValueError: Network, contract and windows are not of one another.
        EvidenceError: What would be written could not be read back: a weight is not finite, say.
        OSError: A file cannot be written.
    """
    if prepared.channels != contract.channels:
        raise ValueError(f"model: expected the contract's channels {contract.channels}, got {prepared.channels}")
    model = Model(network, contract, prepared.normaliser)
    config = ModelConfig(
        asset=contract.asset,
        model=contract.model,
        channels=model.channels,
        mean=tuple(model.normaliser.mean.tolist()),
        std=tuple(model.normaliser.std.tolist()),
        architecture=network.config,
    )
    # No metadata: safetensors writes it in the order of a randomly seeded hash.
    weights = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    files = {
        WEIGHTS: weights,
        CONFIG: _json(config.model_dump(mode="json")),
        CONTRACT: _json(contract.to_dict()),
    }
    if parse_model(files).channels != prepared.channels:  # what cannot be read back is not written
        raise ValueError(f"model: expected channels {prepared.channels} to be read back, got another order")
    for name, data in files.items():
        write_whole(directory / name, data)


def read_model(directory: Path) -> Model:
    """The model in `directory`.

    Raises:
        EvidenceError: Not exactly the three files, each a regular one of honest size; or as `parse_model`.
    """
    try:
        names = sorted(path.name for path in directory.iterdir())
        if names != sorted(MAX_BYTES):
            raise EvidenceError(
                f"{directory}: expected {', '.join(sorted(MAX_BYTES))}, got {names[:9]}", remedy=_REMEDY
            )
        return parse_model({name: _read(directory / name, limit) for name, limit in MAX_BYTES.items()})
    except OSError as error:
        raise EvidenceError(f"{directory}: expected a model, got none ({error.strerror})", remedy=_REMEDY) from error


def parse_model(files: Mapping[str, bytes]) -> Model:
    """The model that untrusted bytes stand for.

    1. config.json: known keys only, sizes within limits.
    2. contract.json: a contract, of the same asset, model, channels and cap.
    3. the header of model.safetensors: short, and exactly the tensors that the architecture has.
    4. the tensors: finite, scales above 0.

    Args:
        files: The bytes of model.safetensors, config.json and contract.json, by name.

    Raises:
        EvidenceError: Anything else.
    """
    if set(files) != set(MAX_BYTES):
        raise EvidenceError(f"model: expected {', '.join(sorted(MAX_BYTES))}, got {sorted(files)[:9]}", remedy=_REMEDY)
    try:
        config = parse(ModelConfig, parse_json(files[CONFIG], CONFIG, limit=MAX_BYTES[CONFIG]), CONFIG)  # 1
        contract = Contract.from_dict(parse_json(files[CONTRACT], CONTRACT, limit=MAX_BYTES[CONTRACT]), CONTRACT)  # 2
        for name in ("asset", "model", "channels"):
            if getattr(config, name) != getattr(contract, name):
                got, expected = str(getattr(config, name))[:80], str(getattr(contract, name))[:80]
                raise EvidenceError(f"{CONFIG}: {name}: expected the contract's {expected}, got {got}", remedy=_REMEDY)
        weights = _weights_of(files[WEIGHTS], config.architecture)  # 3, 4
        network = RulNetwork(config.architecture)
        network.load_state_dict(weights)
        normaliser = Normaliser(np.array(config.mean), np.array(config.std))
        return Model(network.eval().requires_grad_(False), contract, normaliser)
    except EvidenceError as error:
        error.remedy = error.remedy or _REMEDY
        raise
    except (ConfigError, ValueError) as error:
        raise EvidenceError(f"model: {error}", remedy=_REMEDY) from error


def _json(value: Any) -> bytes:
    """JSON for people and programs, keys as they come: sorted, a contract's channels would be hard to read."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read(path: Path, limit: int) -> bytes:
    mode, size = path.lstat().st_mode, path.lstat().st_size
    if not stat.S_ISREG(mode) or size > limit:
        raise EvidenceError(
            f"{path.name}: expected a regular file of at most {limit} bytes, got {size}", remedy=_REMEDY
        )
    return path.read_bytes()


def _weights_of(data: bytes, config: NetworkConfig) -> dict[str, Tensor]:
    """The tensors of a safetensors file that has exactly those of the architecture, finite, scales above 0."""
    _check_header(data, shapes(config))
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise EvidenceError(f"{WEIGHTS}: expected safetensors, got something else ({error})", remedy=_REMEDY) from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise EvidenceError(f"{WEIGHTS}: {name}: expected finite weights, got NaN or an infinity", remedy=_REMEDY)
    if not bool((tensors["feature_std"] > 0).all()):
        raise EvidenceError(f"{WEIGHTS}: feature_std: expected values above 0, got others", remedy=_REMEDY)
    return tensors


def _check_header(data: bytes, expected: dict[str, tuple[int, ...]]) -> None:
    """Refuse all but: 8 bytes of header length, the header, then exactly the tensors' bytes without gap or overlap."""
    length = int.from_bytes(data[:8], "little")
    if len(data) > MAX_BYTES[WEIGHTS] or len(data) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise EvidenceError(
            f"{WEIGHTS}: expected a header of 2 to {MAX_HEADER_BYTES} bytes within the file, got {length}",
            remedy=_REMEDY,
        )
    header = parse_json(data[8 : 8 + length], f"{WEIGHTS} header", limit=MAX_HEADER_BYTES)
    if not isinstance(header, dict) or set(header) != set(expected):
        raise EvidenceError(f"{WEIGHTS}: expected tensors {sorted(expected)}, got {str(header)[:80]}", remedy=_REMEDY)
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _start(item[1])):
        size = 4 * int(np.prod(expected[name]))
        wanted = {"dtype": "F32", "shape": list(expected[name]), "data_offsets": [end, end + size]}
        if entry != wanted:
            raise EvidenceError(f"{WEIGHTS}: {name}: expected {wanted}, got {str(entry)[:120]}", remedy=_REMEDY)
        end += size
    if len(data) != 8 + length + end:
        raise EvidenceError(f"{WEIGHTS}: expected {8 + length + end} bytes, got {len(data)}", remedy=_REMEDY)


def _start(entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    honest = isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)
    return (offsets[0], offsets[1]) if honest and offsets else (-1, -1)


def shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint of a network, with its shape; worked out before anything is allocated."""
    width = (len(config.means) + len(config.slopes)) * config.channels
    found: dict[str, tuple[int, ...]] = {"feature_mean": (width,), "feature_std": (width,)}
    for index, units in enumerate((*config.hidden, 1)):
        found |= {f"layers.{index}.weight": (units, width), f"layers.{index}.bias": (units,)}
        width = units
    return found
