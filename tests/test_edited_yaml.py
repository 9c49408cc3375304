"""A program changes one line of a file that people wrote, and nothing else in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinseal.config import read_yaml
from twinseal.edited_yaml import bytes_of, on_one_line, quoted, tree_of
from twinseal.errors import ConfigError

POLICY = Path(__file__).parents[1] / "policy"


@pytest.mark.parametrize("path", sorted(POLICY.glob("*.yaml")), ids=lambda path: path.name)
def test_a_file_that_was_read_and_written_is_the_same_or_says_the_same(path: Path, tmp_path: Path) -> None:
    again = tmp_path / path.name
    again.write_bytes(bytes_of(tree_of(path.read_bytes(), path.name)))
    assert read_yaml(path) == read_yaml(again)
    if path.name in ("contract.yaml", "gates.yaml", "threats.yaml"):  # the files that programs change
        assert path.read_bytes() == again.read_bytes()


def test_what_is_added_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    path, text = tmp_path / "gates.yaml", 'a # comment: "with" {signs} · é'
    tree = tree_of(b"pump: {at_most: 9}  # seen: 5.5\n", path.name)
    tree["fan"] = on_one_line({"at_most": 12.5, "proposed": quoted(text)})
    path.write_bytes(bytes_of(tree))
    assert path.read_bytes().startswith(b"pump: {at_most: 9}  # seen: 5.5\nfan: {at_most: 12.5, ")
    assert {"at_most": 12.5, "proposed": text} == read_yaml(path)["fan"]


def test_what_is_no_yaml_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"gates\.yaml: expected YAML, got something else"):
        tree_of(b"a: [1\n", "gates.yaml")
    with pytest.raises(ConfigError, match=r"gates\.yaml: expected YAML, got something else"):
        tree_of(b"\xff\xfe", "gates.yaml")
