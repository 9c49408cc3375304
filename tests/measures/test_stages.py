"""Which stage reports what; signed records read back; the JSON schema. Rewrite the schema: run this file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from twinseal import measures
from twinseal.errors import EvidenceError
from twinseal.evidence import Statement, Subject, provenance, test_result
from twinseal.measures.preparation import PreparationMeasures, SplitMeasures
from twinseal.measures.quantity import read
from twinseal.measures.stages import SCHEMA_ID, STAGES, StageMeasures, of, schema, schema_text
from twinseal.measures.training import TrainingMeasures
from twinseal.measures.validation import ValidationMeasures

SCHEMA = Path(measures.__file__).with_name("measures.schema.json")
BUILT = ("prepare", "train", "compare")
SUBJECT = Subject("x", "0" * 64)
SPLIT = SplitMeasures(windows=40, units=4)
PREPARED = PreparationMeasures(train=SPLIT, validation=SPLIT, test=SPLIT)
VALIDATED = ValidationMeasures(
    drift_psi={},
    rows_total=900,
    units_total=10,
    units_quarantined=1,
    quarantined_share=0.1,
    expectations_total=30,
    expectations_failed=2,
    findings_by_rule={"range": 2},
    drift_compared=0,
    values_filled=0,
)


def statement(stage: str, found: dict[str, Any] | None) -> Statement:
    """A record of `stage` that reports these measures."""
    if stage in BUILT:
        return provenance(
            (SUBJECT,),
            stage=stage,
            builder="https://b",
            materials=(SUBJECT,),
            parameters={"a": 1},
            environment={"b": 1},
            measures=found,
        )
    return test_result((SUBJECT,), result="PASSED", configuration=(), passed=("all",), measures=found)


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def test_the_shipped_schema_is_that_of_the_types() -> None:
    assert SCHEMA.read_text() == schema_text(), "the types changed: python tests/measures/test_stages.py"


def test_the_schema_is_one_and_names_every_stage() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert (SCHEMA_ID, list(STAGES)) == (schema()["$id"], list(schema()["properties"]))
    rmse = schema()["$defs"]["Accuracy"]["properties"]["rmse_cycles"]
    assert ("cycles", "RMSE", "smaller") == (rmse["unit"], rmse["label"], rmse["better"])


BROKEN: dict[str, tuple[tuple[str, ...], Any]] = {
    "an unknown key": (("train", "window"), 1),
    "text": (("train", "windows"), "40"),
    "a truth value": (("train", "windows"), True),
    "a part": (("train", "windows"), 0.5),
    "null": (("train", "windows"), None),
    "a number for a group": (("train",), 3),
}


@pytest.mark.parametrize("defect", sorted(BROKEN))
def test_what_is_not_read_is_not_accepted_by_the_schema_either(defect: str) -> None:
    (*path, last), value = BROKEN[defect]
    broken = copy.deepcopy(PREPARED.to_dict())
    place = broken
    for key in path:
        place = place[key]
    place[last] = value
    assert not validator().is_valid({"prepare": broken})
    with pytest.raises(EvidenceError, match="^prepare: measures: train"):
        read(PreparationMeasures, broken, "prepare")


@pytest.mark.parametrize(
    "change", [{"drift_max_psi": None}, {"findings_by_rule": {"a/b": 1}}, {"findings_by_rule": {"a": 1.5}}]
)
def test_null_and_keys_of_another_form_are_refused_by_both(change: dict[str, Any]) -> None:
    record = VALIDATED.to_dict()
    validator().validate({"validate": record})
    assert not validator().is_valid({"validate": record | change})
    with pytest.raises(EvidenceError, match=f"^validate: measures: {next(iter(change))}"):
        read(ValidationMeasures, record | change, "validate")


def test_an_unknown_stage_is_refused_by_the_schema() -> None:
    assert not validator().is_valid({"assess": {}})


def test_measures_of_a_statement_are_those_of_its_stage() -> None:
    assert PREPARED == of(PreparationMeasures, statement("prepare", PREPARED.to_dict()))
    assert VALIDATED == of(ValidationMeasures, statement("validate", VALIDATED.to_dict()))


def test_a_statement_without_measures_or_with_another_stages_is_refused() -> None:
    with pytest.raises(EvidenceError, match="^prepare: measures: expected PreparationMeasures, got none"):
        of(PreparationMeasures, statement("prepare", None))
    with pytest.raises(EvidenceError, match=r"^train: measures: "):
        of(TrainingMeasures, statement("train", PREPARED.to_dict()))


def test_every_sound_record_is_read_and_stages_without_one_are_absent() -> None:
    found = StageMeasures.read(
        {"prepare": statement("prepare", PREPARED.to_dict()), "validate": statement("validate", VALIDATED.to_dict())}
    )
    assert (PREPARED, VALIDATED, {}) == (found.prepare, found.validate, found.faults)
    assert (None, None, None, None) == (found.train, found.compare, found.evade, found.poison)


def test_a_malformed_record_is_a_fault_and_the_others_stand() -> None:
    broken = VALIDATED.to_dict() | {"units_totl": 3}
    found = StageMeasures.read(
        {
            "prepare": statement("prepare", PREPARED.to_dict()),
            "validate": statement("validate", broken),
            "train": statement("train", None),
        }
    )
    assert PREPARED == found.prepare
    assert (None, None) == (found.validate, found.train)
    assert ["validate", "train"] == list(found.faults)
    assert "unknown key; did you mean 'units_total'?" in found.faults["validate"]
    assert "train: measures: expected TrainingMeasures, got none" == found.faults["train"]


def test_a_record_of_a_stage_that_measures_nothing_is_left_alone() -> None:
    assert StageMeasures() == StageMeasures.read({"ingest": statement("prepare", None)})


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
