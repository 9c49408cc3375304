"""Where parts of a YAML file stand, and what is written anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinseal.config import parse_yaml
from twinseal.edited_yaml import node_of, quoted, text_of
from twinseal.errors import ConfigError


def test_what_is_written_is_read_back_as_it_was_meant() -> None:
    value = {"fan": {"at_most": 12.5, "proposed": quoted('a # comment: "with" {signs} · é 😀')}, "No": {"007": "6e-05"}}
    text = text_of(value, {("fan",): "seen: 5"}, on_one_line_from=1)
    assert text.startswith("fan: {at_most: 12.5, ") and text.splitlines()[0].endswith("# seen: 5")
    assert value == parse_yaml(text.encode(), "gates.yaml")


@pytest.mark.parametrize("path", sorted(Path("policy").glob("*.yaml")), ids=lambda path: path.name)
def test_parts_stand_where_it_says(path: Path) -> None:
    text = path.read_text()
    for name, _ in node_of(text).value:
        assert name.value == text[name.start_mark.index : name.end_mark.index].strip("\"'")


def test_what_is_no_yaml_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="expected YAML, got something else"):
        node_of("a: [1\n")
