"""Large weights: mapped instead of read, checked in pieces, and as well behaved as those in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save

from twinseal.errors import EvidenceError
from twinseal.prognostics import weights
from twinseal.prognostics.architecture import Architecture, EnsembleConfig, NetworkConfig
from twinseal.prognostics.ensemble import Networks
from twinseal.prognostics.weights import parse_weights, read_weights

Arrays = dict[str, npt.NDArray[np.float32]]
Reader = Callable[[bytes], Arrays]

LAYER = "plain.members.0.layers.1.weight"


def config(units: int = 300) -> Architecture:
    network = NetworkConfig.for_window(channels=3, window=20, hidden=(units, units), components=2)
    return Architecture(plain=EnsembleConfig(members=(network,)))


def state(units: int = 300) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: tensor.clone() for name, tensor in Networks(config(units)).state_dict().items()}


@pytest.fixture(params=["in memory", "parsed", "mapped"])
def read(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """The three ways in, each over the same bytes."""
    if request.param == "parsed":
        return lambda data: parse_weights(data, config())
    if request.param == "mapped":
        monkeypatch.setattr(weights, "IN_MEMORY_BYTES", 0)

    def from_file(data: bytes) -> Arrays:
        (tmp_path / "w").write_bytes(data)
        return read_weights(tmp_path / "w", config())

    return from_file


def test_each_way_gives_the_tensors_that_were_saved(read: Reader) -> None:
    expected, got = state(), read(save(state()))
    assert set(expected) == set(got)
    for name, tensor in expected.items():
        assert tensor.numpy().tobytes() == got[name].tobytes(), name


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7F800000, 0xFF800000])
@pytest.mark.parametrize("place", [0, (1 << 16) - 1, 1 << 16, 300 * 300 - 1])
def test_value_that_is_no_number_is_found_wherever_it_is(bits: int, place: int, read: Reader) -> None:
    tensors = state()
    tensors[LAYER].view(torch.int32).ravel()[place] = struct.unpack("<i", struct.pack("<I", bits))[0]
    with pytest.raises(EvidenceError, match=r"layers\.1\.weight: expected finite weights, got NaN or an infinity"):
        read(save(tensors))


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0])
def test_scale_that_is_not_above_zero_is_refused(value: float, read: Reader) -> None:
    tensors = state()
    tensors["plain.members.0.feature_std"][3] = value
    with pytest.raises(EvidenceError, match="feature_std: expected values above 0"):
        read(save(tensors))


def test_largest_and_smallest_numbers_are_numbers(read: Reader) -> None:
    tensors = state()
    tensors[LAYER][0, :4] = torch.tensor([3.4028235e38, -3.4028235e38, 1e-45, -0.0])
    assert tensors[LAYER].numpy().tobytes() == read(save(tensors))[LAYER].tobytes()


def test_large_file_with_tensors_at_an_odd_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = save(state())
    length = int.from_bytes(data[:8], "little")
    odd = (length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :]
    (tmp_path / "w").write_bytes(odd)
    assert set(state()) == set(read_weights(tmp_path / "w", config()))  # a small one is copied to an even place
    monkeypatch.setattr(weights, "IN_MEMORY_BYTES", 0)
    with pytest.raises(EvidenceError, match="expected tensors at a multiple of 4 bytes"):
        read_weights(tmp_path / "w", config())


def resident() -> int:
    """Bytes of this process that are in memory, files' pages included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_reading_large_weights_brings_none_of_them_into_memory(tmp_path: Path) -> None:
    large = config(4_200)  # 67 MiB, over the limit as it stands
    (tmp_path / "w").write_bytes(save(state(4_200)))
    assert (tmp_path / "w").stat().st_size > weights.IN_MEMORY_BYTES
    before = resident()
    tensors = read_weights(tmp_path / "w", large)
    assert resident() - before < 8 << 20
    (tmp_path / "w").unlink()  # as when the next release is installed
    assert np.array_equal(state(4_200)[LAYER].numpy(), tensors[LAYER])


def test_mapped_weights_cannot_be_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "IN_MEMORY_BYTES", 0)
    data = save(state())
    (tmp_path / "w").write_bytes(data)
    read_weights(tmp_path / "w", config())[LAYER].fill(0.0)
    assert data == (tmp_path / "w").read_bytes()
