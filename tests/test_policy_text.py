"""An entry is put into a file that people keep, and no other byte of it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinseal.config import read_yaml
from twinseal.errors import ConfigError
from twinseal.policy_text import with_entry, with_item, with_values

ROOT = Path(__file__).parents[1]
POLICY = ROOT / "policy"


def read(text: str, place: Path) -> object:
    place.write_text(text)
    return read_yaml(place)


@pytest.mark.parametrize("name", ["contract.yaml", "threats.yaml", "reference.yaml"])
def test_a_new_entry_adds_lines_and_changes_none(name: str, tmp_path: Path) -> None:
    old = (POLICY / name).read_text()
    new = with_entry(old, "assets", "oven", "x: 1\n")
    lines = iter(new.splitlines())
    assert all(line in lines for line in old.splitlines())  # in order
    value = read(new, tmp_path / name)
    assert {**read_yaml(POLICY / name)["assets"], "oven": {"x": 1}} == value["assets"]  # type: ignore[index]


@pytest.mark.parametrize("asset", ["pump", "turbofan6"])
def test_an_entry_is_replaced_and_its_neighbours_stay(asset: str, tmp_path: Path) -> None:
    old = (POLICY / "contract.yaml").read_text()
    value = read(with_entry(old, "assets", asset, "x: 1\n"), tmp_path / "a.yaml")
    assert {**read_yaml(POLICY / "contract.yaml")["assets"], asset: {"x": 1}} == value["assets"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models: [a] # ours\nb: 1\n", "models: [a, c] # ours\nb: 1\n"),
        ("models:\n  - a # one\nb: 1\n", "models:\n  - a # one\n  - c\nb: 1\n"),
        ("models: [a, c]\n", "models: [a, c]\n"),
    ],
)
def test_a_name_is_added_to_a_list_once(old: str, new: str) -> None:
    assert new == with_item(old, "models", "c")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("d:\n  x: a    # why\n", "d:\n  x: 'No' # why\n"),
        ("d:\n  x: null\n  # more\n", "d:\n  x: 'No'\n  # more\n"),
        ("d:\n  y: 1\ne: 2\n", "d:\n  y: 1\n  x: 'No'\ne: 2\n"),
        ("d:\n  x:\n    old: 1\n    two: 2\n  y: 1\n", "d:\n  x: 'No'\n  y: 1\n"),
    ],
)
def test_a_value_is_set_and_its_comment_stays(old: str, new: str, tmp_path: Path) -> None:
    found = with_values(old, ("d",), {"x": "No"})
    assert read(new, tmp_path / "a.yaml") == read(found, tmp_path / "b.yaml")
    assert [part.count("#") for part in old.splitlines()].count(1) == found.count("#")


@pytest.mark.parametrize("text", ["assets: [1]\n", "other: {}\n", "assets: {a: {b: 1}}\n", "a: [1\n", "- 1\n"])
def test_a_file_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        with_entry(text, "assets", "oven", "x: 1\n")
