from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from twinseal.errors import EvidenceError
from twinseal.prognostics import tensors
from twinseal.prognostics.tensors import are_finite, pieces, read_tensors, write_tensors

ARRAYS = {
    "b.rows": np.arange(12, dtype=np.float32).reshape(4, 3),
    "a.rows": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "ends": np.arange(3, dtype=np.int64),
    "none": np.zeros((0, 3), dtype=np.float32),
}


def written(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    write_tensors(stream, arrays)
    return stream.getvalue()


@pytest.mark.parametrize("piece", [1, 40, 1 << 20])
def test_the_bytes_are_those_of_safetensors(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "PIECE_BYTES", piece)
    assert save({name: np.ascontiguousarray(values) for name, values in ARRAYS.items()}) == written(ARRAYS)


@given(st.dictionaries(st.text(min_size=1, max_size=9), st.sampled_from(list(ARRAYS.values())), min_size=1))
def test_law_of_any_names_too(arrays: dict[str, np.ndarray]) -> None:
    if "__metadata__" not in arrays:
        assert save({name: np.ascontiguousarray(values) for name, values in arrays.items()}) == written(arrays)


@pytest.mark.parametrize("in_memory", [0, 1 << 20], ids=["mapped", "in memory"])
def test_arrays_come_back_as_they_were(in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "IN_MEMORY_BYTES", in_memory)
    path = tmp_path / "a.safetensors"
    path.write_bytes(written(ARRAYS))
    with path.open("rb") as stream:
        found = read_tensors(stream, 1 << 20)
    assert set(ARRAYS) == set(found)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(values, found[name], strict=True)
    found["ends"][0] = 9  # torch wants arrays that can be written to; nobody else sees it
    assert written(ARRAYS) == path.read_bytes()


@pytest.mark.parametrize("in_memory", [0, 1 << 20], ids=["mapped", "in memory"])
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda data: data + b"x", "bytes, got"),
        (lambda data: data[:-1], "none|expected"),
        (lambda data: data[:7], "expected a header"),
        (lambda data: b"\xff" * 8 + data[8:], "expected a header"),
        (lambda data: data.replace(b'"F32"', b'"F16"'), "expected type, shape and place"),
        (
            lambda data: data.replace(b'"shape":[4,3]', b'"shape":[3,4]').replace(b"[72,120]", b"[71,120]"),
            "expected it",
        ),
        (lambda data: data.replace(b'"shape":[4,3]', b'"shape":[9,3]'), "expected it at"),
        (lambda data: data.replace(b'"shape":[4,3]', b'"shape":[-4]'.ljust(13)), "expected type, shape and place"),
        (lambda data: data.replace(b'"none":{"dtype"', b'"none":{"dtypf"'), "expected type, shape and place"),
        (lambda data: data.replace(b'{"ends"', b'["ends"', 1), "JSON"),
    ],
)
def test_a_file_that_is_none_is_refused(
    damage: object, complaint: str, in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "IN_MEMORY_BYTES", in_memory)
    path, honest = tmp_path / "a.safetensors", written(ARRAYS)
    path.write_bytes(damage(honest))  # type: ignore[operator]
    assert honest != path.read_bytes()
    with pytest.raises((ValueError, EvidenceError), match=complaint), path.open("rb") as stream:
        read_tensors(stream, 1 << 20)


def test_a_file_that_is_too_long_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(written(ARRAYS))
    with pytest.raises(ValueError, match="expected at most 9 bytes"), path.open("rb") as stream:
        read_tensors(stream, 9)


def test_values_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "PIECE_BYTES", 24)
    rows = np.zeros((5, 3), dtype=np.float32)
    assert [2, 2, 1] == [len(piece) for piece in pieces(rows)]
    assert are_finite(rows)
    rows[4, 2] = np.nan
    assert not are_finite(rows)
