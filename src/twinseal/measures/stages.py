"""Which stage reports which measures, how a signed record is read, and the schema that others may validate with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_args, get_type_hints

from twinseal.errors import EvidenceError
from twinseal.evidence import Statement, measures
from twinseal.measures.comparison import ComparisonMeasures
from twinseal.measures.poisoning import PoisoningMeasures
from twinseal.measures.preparation import PreparationMeasures
from twinseal.measures.quantity import Group, read
from twinseal.measures.robustness import RobustnessMeasures
from twinseal.measures.training import TrainingMeasures
from twinseal.measures.validation import ValidationMeasures

SCHEMA_ID = "https://twinseal.dev/measures/v1"

G = TypeVar("G", bound=Group)


@dataclass(frozen=True)
class StageMeasures:
    """The measures of every stage that has a sound record. A new stage is a new field here.

    Attributes:
        validate, prepare, train, compare, evade, poison: None where there is no record, or a malformed one.
        faults: Why a record's measures could not be read, by stage.
    """

    validate: ValidationMeasures | None = None
    prepare: PreparationMeasures | None = None
    train: TrainingMeasures | None = None
    compare: ComparisonMeasures | None = None
    evade: RobustnessMeasures | None = None
    poison: PoisoningMeasures | None = None
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, statements: Mapping[str, Statement]) -> StageMeasures:
        """From verified statements, by stage. A malformed one is a fault, not an error: the verdict will say so."""
        found: dict[str, Any] = {}
        faults: dict[str, str] = {}
        for stage, kind in STAGES.items():
            if isinstance(statements.get(stage), Statement):
                try:
                    found[stage] = of(kind, statements[stage])
                except EvidenceError as error:
                    faults[stage] = str(error)
        return cls(**found, faults=faults)


STAGES: dict[str, type[Group]] = {
    item.name: get_args(get_type_hints(StageMeasures)[item.name])[0]
    for item in fields(StageMeasures)
    if item.name != "faults"
}
"""What each stage reports: the fields of `StageMeasures`."""


def of(kind: type[G], statement: Statement) -> G:
    """The measures of `kind` in a statement.

    Raises:
        EvidenceError: They are none, or not exactly of that kind: it names what is unknown, missing or no number.
    """
    stage = next(name for name, reported in STAGES.items() if reported is kind)
    found = measures(statement)
    if not found:
        raise EvidenceError(f"{stage}: measures: expected {kind.__name__}, got none")
    return read(kind, found, stage)


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of every stage's measures; units, labels and directions stand beside each number.

    Law: what it accepts is what `read` accepts.
    """
    definitions: dict[str, Any] = {}
    properties = {}
    for stage, kind in STAGES.items():
        whole = kind.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= whole.pop("$defs", {})
        definitions[kind.__name__] = whole
        properties[stage] = {"$ref": f"#/$defs/{kind.__name__}"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "What the stages of twinseal measure",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {name: _as_read(definition) for name, definition in sorted(definitions.items())},
    }


def _as_read(node: Any) -> Any:
    """A part of pydantic's schema, as strict as `read`: what is absent is not null, and every key has its form."""
    if isinstance(node, list):
        return [_as_read(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {name: _as_read(item) for name, item in node.items() if not (name == "default" and item is None)}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    (only,) = [option for option in kept.pop("anyOf", [{}]) if option != {"type": "null"}]
    return kept | only


def schema_text() -> str:
    """The schema as the file measures.schema.json has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
