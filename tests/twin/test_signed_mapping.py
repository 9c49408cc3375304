"""The mapping of the plant's files, as it rides in the signed record of ingest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinseal.errors import EvidenceError
from twinseal.evidence import Statement, Subject, provenance
from twinseal.telemetry.contract import Contract
from twinseal.telemetry.mapping import MAPPING
from twinseal.twin.signed_mapping import signed_mapping

CONTRACT = Contract.load(Path("policy/contract.yaml"), "pump")
SENSORS = {f"col {name}": name for name in CONTRACT.sensors}
SETTINGS = {f"col {name}": name for name in CONTRACT.settings}
FIRST = next(iter(CONTRACT.sensors))
PLANTS = {"unit": "T", "cycle": "n", "settings": SETTINGS, "sensors": SENSORS, "scale": {f"col {FIRST}": [0.1, 0.0]}}
DATA = {"asset": "pump", "source": "table", "path": "export", "table": {"measured_in": {f"col {FIRST}": "degF"}}}


def record(parameters: Any) -> Statement:
    raw = Subject("raw.parquet", "0" * 64)
    return provenance((raw,), stage="ingest", materials=(), builder="b", parameters=parameters, environment={})


def without(name: str) -> dict[str, str]:
    return {column: channel for column, channel in SENSORS.items() if channel != name}


def test_the_mapping_of_the_signed_record_is_the_twins() -> None:
    found = signed_mapping(record({MAPPING: PLANTS, "data": DATA}), CONTRACT)
    assert found is not None and found.channels == {**SETTINGS, **SENSORS}
    assert {f"col {FIRST}": (0.1, 0.0)} == found.scale


def test_a_channel_that_events_or_machines_give_needs_no_column() -> None:
    first = next(iter(CONTRACT.settings), "")
    events: dict[str, Any] = {"counts": {FIRST: {"path": "errors.csv", "unit": "u", "time": "t"}}}
    if first:
        events["machines"] = {"path": "machines.csv", "unit": "u", "settings": {"age": first}}
    data = DATA | {"table": {"events": events}}
    settings = {column: channel for column, channel in SETTINGS.items() if channel != first}
    given = PLANTS | {"sensors": without(FIRST), "settings": settings, "scale": {}, "sums": [FIRST]}
    found = signed_mapping(record({MAPPING: given, "data": data}), CONTRACT)
    assert found is not None and FIRST not in found.channels.values()


@pytest.mark.parametrize("statement", [None, record({}), record({"data": {}}), record({MAPPING: None})])
def test_a_model_of_another_source_has_none(statement: Statement | None) -> None:
    assert signed_mapping(statement, CONTRACT) is None


@pytest.mark.parametrize(
    "given",
    [{}, [], "x", 1, {"unit": "T"}, {**PLANTS, "run": "rm"}, {**PLANTS, "scale": {f"col {FIRST}": [float("nan"), 0]}}],
)
def test_a_mapping_that_means_nothing_is_refused(given: Any) -> None:
    with pytest.raises(EvidenceError, match="evidence: ingest: mapping"):
        signed_mapping(record({MAPPING: given, "data": DATA}), CONTRACT)


@pytest.mark.attack(6)
@pytest.mark.parametrize(
    ("mapping", "data", "got"),
    [
        ({"sensors": without(FIRST), "scale": {}}, {}, rf"missing \['{FIRST}'\]"),
        ({"sensors": SENSORS | {"x": "extra"}}, {}, r"unknown \['extra'\]"),
        ({"sensors": SENSORS | {"x": FIRST}}, {}, "each channel mapped once"),
        ({"settings": SETTINGS | SENSORS, "sensors": {}}, {}, "missing|unknown"),
        ({"sums": ["extra"]}, {}, r"sums: expected channels of the contract, got \['extra'\]"),
        ({}, {"table": {"events": {"counts": {FIRST: {}}}}}, "expected the sensors of the contract"),
        ({}, {"table": {"events": {"counts": {"extra": {}}}}}, r"got \['extra'\]"),
        ({}, {"asset": "turbofan"}, "expected one for the asset pump, got one for turbofan"),
        ({"scale": {}}, {}, rf"got none for \['col {FIRST}'\]"),
        ({}, {"source": "other"}, "data.other"),
        ({}, {"table": None}, "data.table"),
    ],
)
def test_a_signed_mapping_leaves_a_channel_to_a_column_of_its_name(mapping: Any, data: Any, got: str) -> None:
    """A builder signs a mapping that misses a channel, in other units perhaps: the twin refuses the release."""
    assert signed_mapping(record({MAPPING: PLANTS, "data": DATA}), CONTRACT)
    with pytest.raises(EvidenceError, match=got):
        signed_mapping(record({MAPPING: PLANTS | mapping, "data": DATA | data}), CONTRACT)
