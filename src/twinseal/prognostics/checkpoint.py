"""The checkpoint: a model as three files, written with deterministic bytes and read as if an enemy had written them.

    model.safetensors   the weights; no metadata, every tensor float32
    config.json         architecture, channels, normaliser, and which asset and model this is
    contract.json       the contract whose telemetry the network was trained on

Reading is step 6 of the twin's admission: the bytes are already signed, and are still not trusted to be well formed.
Nothing is executed, nothing is allocated beyond the limits below, and what is not exactly expected is refused. The
tensors are `twinseal.prognostics.weights`'s: large ones are mapped, not read.

Laws: `write_model(d, …)` twice gives the same bytes; `read_model(d)` predicts what the written network predicted.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from twinseal.config import Settings, parse
from twinseal.digests import parse_json
from twinseal.errors import ConfigError, DataError, EvidenceError
from twinseal.files import write_whole
from twinseal.prognostics.network import NetworkConfig, RulNetwork
from twinseal.prognostics.normaliser import Normaliser, pad
from twinseal.prognostics.weights import MAX_WEIGHTS_BYTES, REMEDY, WEIGHTS, parse_weights, read_weights
from twinseal.prognostics.windows import Prepared
from twinseal.telemetry.contract import Contract

CONFIG, CONTRACT = "config.json", "contract.json"
MAX_BYTES = {WEIGHTS: MAX_WEIGHTS_BYTES, CONFIG: 1 << 20, CONTRACT: 1 << 20}


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
            raise EvidenceError(f"{directory}: expected {', '.join(sorted(MAX_BYTES))}, got {names[:9]}", remedy=REMEDY)
        for name, limit in MAX_BYTES.items():
            _check_file(directory / name, limit)
        config, contract = ((directory / name).read_bytes() for name in (CONFIG, CONTRACT))
        return _parse(config, contract, lambda architecture: read_weights(directory / WEIGHTS, architecture))
    except OSError as error:
        raise EvidenceError(f"{directory}: expected a model, got none ({error.strerror})", remedy=REMEDY) from error


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
        raise EvidenceError(f"model: expected {', '.join(sorted(MAX_BYTES))}, got {sorted(files)[:9]}", remedy=REMEDY)
    return _parse(files[CONFIG], files[CONTRACT], lambda architecture: parse_weights(files[WEIGHTS], architecture))


def _parse(config_json: bytes, contract_json: bytes, weights: Callable[[NetworkConfig], dict[str, Tensor]]) -> Model:
    try:
        config = parse(ModelConfig, parse_json(config_json, CONFIG, limit=MAX_BYTES[CONFIG]), CONFIG)  # 1
        contract = Contract.from_dict(parse_json(contract_json, CONTRACT, limit=MAX_BYTES[CONTRACT]), CONTRACT)  # 2
        for name in ("asset", "model", "channels"):
            if getattr(config, name) != getattr(contract, name):
                got, expected = str(getattr(config, name))[:80], str(getattr(contract, name))[:80]
                raise EvidenceError(f"{CONFIG}: {name}: expected the contract's {expected}, got {got}", remedy=REMEDY)
        tensors = weights(config.architecture)  # 3, 4
        with torch.device("meta"):  # takes the tensors as they are: no memory for values that would be replaced
            network = RulNetwork(config.architecture)
        network.load_state_dict(tensors, assign=True)
        normaliser = Normaliser(np.array(config.mean), np.array(config.std))
        return Model(network.eval().requires_grad_(False), contract, normaliser)
    except EvidenceError as error:
        error.remedy = error.remedy or REMEDY
        raise
    except (ConfigError, ValueError) as error:
        raise EvidenceError(f"model: {error}", remedy=REMEDY) from error


def _json(value: Any) -> bytes:
    """JSON for people and programs, keys as they come: sorted, a contract's channels would be hard to read."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _check_file(path: Path, limit: int) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        raise EvidenceError(
            f"{path.name}: expected a regular file of at most {limit} bytes, got {found.st_size}", remedy=REMEDY
        )
