"""Every key that an experimenter may set is in docs/robustness/method.md, with the reason why it passes no gate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from twinseal.prognostics.processes import WorkersParams
from twinseal.prognostics.training import TrainParams
from twinseal.prognostics.windows import PrepareParams
from twinseal.sources.data_params import DataParams
from twinseal.telemetry.engines import ValidationParams

ROOT = Path(__file__).parents[1]
METHOD = (ROOT / "docs/robustness/method.md").read_text()
SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataParams,
    "prepare": PrepareParams,
    "train": TrainParams,
    "validation": ValidationParams,
    "workers": WorkersParams,
}


def listed() -> list[str]:
    """The keys of the table, with * for any key below."""
    table = METHOD[METHOD.index("<!-- levers: begin -->") : METHOD.index("<!-- levers: end -->")]
    return [
        key
        for row in table.splitlines()
        if row.startswith("| `")
        for key in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]


def settings(kind: type[BaseModel], path: str) -> Iterator[str]:
    """Every key that a section can have, also those that params.yaml leaves at their defaults."""
    for name, field in kind.model_fields.items():
        inner = [item for item in (field.annotation, *get_args(field.annotation)) if _is_settings(item)]
        if inner:
            yield from settings(inner[0], f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def _is_settings(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def written(value: Any, path: str) -> Iterator[str]:
    """Every key in params.yaml."""
    if not isinstance(value, dict):
        yield path
        return
    for name, item in value.items():
        yield from written(item, f"{path}.{name}" if path else name)


def test_every_key_of_params_has_its_reason() -> None:
    keys = {key for name, kind in SECTIONS.items() for key in settings(kind, name)}
    keys |= set(written(yaml.safe_load((ROOT / "params.yaml").read_text()), ""))
    assert len(keys) > 60
    assert [] == sorted(key for key in keys if not any(fnmatchcase(key, pattern) for pattern in listed()))
    assert [] == [pattern for pattern in listed() if not any(fnmatchcase(key, pattern) for key in keys)]


@pytest.mark.parametrize("key", ["seed", "cuts_per_unit", "test_share", "validation_share"])
def test_nothing_in_params_chooses_the_test(key: str) -> None:
    inside = {key for name, kind in SECTIONS.items() if name != "data" for key in settings(kind, name)}
    assert not any(name.endswith(f".{key}") for name in inside)
