from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.attacks.field import Field, prepare


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """Where battles are fought: in memory where there is such a place. A battle writes to the disk fifty times over."""
    memory = "/dev/shm"  # Linux; elsewhere the disk will do
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None, prefix="twinseal-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def prepared(ground: Path) -> Path:
    prepare(ground / "prepared")
    return ground / "prepared"


@pytest.fixture
def field(prepared: Path, ground: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    """A field of one's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(ground))
    shutil.copytree(prepared, ground / "field")
    yield Field(ground / "field")
    shutil.rmtree(ground / "field")
