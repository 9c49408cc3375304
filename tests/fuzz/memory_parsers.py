"""The parsers of what a twin that runs keeps on its disk: rows since the last image, and the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.harness import Parser, holds
from tests.twin.deployment import CHANNELS, write_tiny_model
from twinseal.prognostics.checkpoint import Model, parse_model
from twinseal.trust.life_acts import Act
from twinseal.twin.delivered import Delivered, FrameMark
from twinseal.twin.row_journal import RowJournal, read_journal
from twinseal.twin.rows import ReadRows
from twinseal.twin.runtime import UnverifiedRuntime
from twinseal.twin.units_image import UnitsImage

OWNER = bytes(range(32))
ACTS = {"a": (Act("new machine", 0, 0), Act("overhaul", 2, 0))}


def memory_parsers(folder: Path) -> list[Parser]:
    """The journal as a file and record by record, the image of units with what goes on from it."""
    model = _model(folder / "memory-model")
    runtime = UnverifiedRuntime(model, acts=ACTS, keep_rows=True)
    runtime.add_rows(_rows())
    inputs = model.contract.inputs
    delivered = Delivered.of(ReadRows.of(_rows(), inputs), inputs, (FrameMark("0" * 64, 3, {"a": 2}),))
    file = folder / "rows"

    def journal(data: bytes) -> None:
        file.write_bytes(data)
        found = list(read_journal(file, OWNER))
        ends = [end for _, end in found]
        holds(ends == sorted(set(ends)) and ends[-1] <= len(data), "journal: records beyond its end")
        again = folder / "again"
        with RowJournal.begin(again, OWNER) as made:
            made.append(*(payload for payload, _ in found[1:]))
        holds(again.read_bytes() == data[: ends[-1]], "journal: records that were never appended")

    def record(data: bytes) -> None:
        value = Delivered.from_bytes(data)
        again = Delivered.from_bytes(value.to_bytes())
        holds(again.to_bytes() == value.to_bytes(), "journal: a delivery does not go back in")
        for item in UnverifiedRuntime(model).predict_read(value.rows(inputs).part(0, 50)):
            holds(0 <= item.low_cycles <= item.rul_cycles <= item.high_cycles <= 100, "journal: no honest answer")

    def image(data: bytes) -> None:
        value = UnitsImage.from_bytes(data)
        again = UnverifiedRuntime(model, acts=ACTS, keep_rows=True)
        again.restore(value)
        holds(UnitsImage.from_bytes(again.image().to_bytes()).texts == again.image().texts, "image: texts of another")
        list(again.predictions())
        again.predict_rows(_rows())

    with RowJournal.begin(file, OWNER) as opened:
        opened.append(b"first", delivered.to_bytes(), b"last")
    return [
        Parser("journal", (file.read_bytes(), OWNER), journal),
        Parser("delivered", (delivered.to_bytes(), Delivered.of(ReadRows.of([], inputs), inputs).to_bytes()), record),
        Parser("units_image", (runtime.image().to_bytes(),), image),
    ]


def _model(folder: Path) -> Model:
    write_tiny_model(folder, 1)
    return parse_model({path.name: path.read_bytes() for path in folder.iterdir()})


def _rows() -> list[dict[str, Any]]:
    values = 5.0 + 0.1 * np.random.default_rng(0).normal(size=(6, len(CHANNELS))).clip(-1, 1)
    values[3, 2] = np.nan
    units = ("a", "b", 7, "a", "b", None)
    return [
        {"unit": unit, "cycle": 1 + place // 3, **dict(zip(CHANNELS, row.tolist(), strict=True))}
        for place, (unit, row) in enumerate(zip(units, values, strict=True))
    ]
