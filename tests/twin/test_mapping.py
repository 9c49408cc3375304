"""The mapping of the plant's files, as it rides in the signed record of ingest."""

from __future__ import annotations

from typing import Any

import pytest

from twinseal.errors import EvidenceError
from twinseal.evidence import Statement, Subject, provenance
from twinseal.telemetry.mapping import MAPPING, ColumnMapping
from twinseal.twin.admit import _mapping

PLANTS = ColumnMapping(unit="T", cycle="n", settings={}, sensors={"Öl": "oil"}, scale={"Öl": (0.1, 0.0)})


def record(parameters: Any) -> Statement:
    raw = Subject("raw.parquet", "0" * 64)
    return provenance((raw,), stage="ingest", materials=(), builder="b", parameters=parameters, environment={})


def test_the_mapping_of_the_signed_record_is_the_twins() -> None:
    assert PLANTS == _mapping(record({MAPPING: PLANTS.model_dump(mode="json"), "data": {}}))


@pytest.mark.parametrize("statement", [None, record({}), record({"data": {}}), record({MAPPING: None})])
def test_a_model_of_another_source_has_none(statement: Statement | None) -> None:
    assert _mapping(statement) is None


@pytest.mark.parametrize(
    "given",
    [{}, [], "x", 1, {"unit": "T"}, {**PLANTS.model_dump(mode="json"), "run": "rm"},
     {**PLANTS.model_dump(mode="json"), "scale": {"Öl": [float("nan"), 0]}}],
)  # fmt: skip
def test_a_mapping_that_means_nothing_is_refused(given: Any) -> None:
    with pytest.raises(EvidenceError, match="evidence: ingest: mapping"):
        _mapping(record({MAPPING: given}))
