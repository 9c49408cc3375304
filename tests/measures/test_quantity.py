"""Typed measures: what is written is read back, and nothing else is read."""

from __future__ import annotations

import copy
import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.measures.groups import all_groups, keys
from twinseal.errors import ConfigError, EvidenceError
from twinseal.measures.common import Accuracy, WorstCase
from twinseal.measures.keys import Epsilon, Name
from twinseal.measures.quantity import Better, Group, Leaf, Quantity, groups_by_key, leaves, quantity, read, resolve
from twinseal.measures.robustness import EvasionMeasures
from twinseal.measures.stages import STAGES

GROUPS = {kind.__name__: kind for kind in all_groups()}


class Part(Group):
    """A group to test with."""

    rmse_cycles: float = quantity("cycles", "RMSE", "smaller")
    units: int = quantity("units", "units")
    share: float | None = quantity("share", "share", "larger", optional=True)


class Whole(Group):
    """Groups in groups and in mappings."""

    single: Part
    by_epsilon: dict[Epsilon, Part]
    deep: dict[Name, dict[Epsilon, Part]]
    numbers_by_name: dict[Name, float] = quantity("cycles", "numbers", "smaller")
    absent: Part | None = None


PART = {"rmse_cycles": 11.5, "units": 3}
WHOLE: dict[str, Any] = {
    "single": {**PART},
    "by_epsilon": {"eps-0.1": {**PART}},
    "deep": {"all-sensors": {"eps-0.1": {**PART}, "eps-0.5": {**PART}}},
    "numbers_by_name": {"s2": 1.0},
}


def test_what_is_sound_is_read() -> None:
    whole = read(Whole, WHOLE, "evade")
    assert 11.5 == whole.deep["all-sensors"]["eps-0.5"].rmse_cycles
    assert (None, None) == (whole.single.share, whole.absent)
    assert WHOLE == whole.to_dict()


DEFECTS: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "unknown": (("single", "rmse_cycle"), 1.0, r"single\.rmse_cycle: unknown key; did you mean 'rmse_cycles'"),
    "unknown and far": (("zzzzzzzzz",), 1.0, "zzzzzzzzz: unknown key$"),
    "text": (("single", "rmse_cycles"), "far", r"single\.rmse_cycles: input should be a valid number"),
    "a number as text": (("single", "rmse_cycles"), "11.5", r"single\.rmse_cycles: input should be a valid number"),
    "a truth value": (("single", "rmse_cycles"), True, r"single\.rmse_cycles: input should be a valid number"),
    "a truth value as a count": (("single", "units"), True, r"single\.units: input should be a valid integer"),
    "a part of a unit": (("single", "units"), 2.5, r"single\.units: input should be a valid integer"),
    "a list": (("single", "rmse_cycles"), [11.5], r"single\.rmse_cycles: input should be a valid number"),
    "a group for a number": (
        ("single", "rmse_cycles"),
        {"a": 1.0},
        r"single\.rmse_cycles: input should be a valid num",
    ),
    "a number for a group": (("single",), 11.5, "single: input should be an object"),
    "a list for a mapping": (("by_epsilon",), [PART], "by_epsilon: input should be an object"),
    "NaN": (("deep", "all-sensors", "eps-0.1", "rmse_cycles"), math.nan, r"deep\.all-sensors\.eps-0\.1\.rmse_cycles:"),
    "infinity": (("numbers_by_name", "s2"), math.inf, r"numbers_by_name\.s2: input should be a finite number"),
    "less than any number": (("single", "rmse_cycles"), -math.inf, r"single\.rmse_cycles: input should be a finite"),
    "beyond a float": (("single", "rmse_cycles"), 10**400, r"single\.rmse_cycles: "),
    "null": (("single", "rmse_cycles"), None, "single/rmse_cycles: expected a value, got null"),
    "null where it may be absent": (("single", "share"), None, "single/share: expected a value, got null"),
    "null for a group": (("absent",), None, "absent: expected a value, got null"),
    "null under a key": (("numbers_by_name", "s2"), None, "numbers_by_name/s2: expected a value, got null"),
    "a key of another form": (("by_epsilon", "epsilon 0.1"), PART, r"by_epsilon\.epsilon 0\.1\.\[key\]: string should"),
    "a key with a slash": (("deep", "a/b"), {}, r"deep\.a/b\.\[key\]: string should match pattern"),
    "a number with two keys": (
        ("by_epsilon", "eps-0.10"),
        PART,
        r"by_epsilon\.eps-0\.10\.\[key\]: string should match",
    ),
}


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_what_a_stage_would_not_write_is_refused_and_named(defect: str) -> None:
    path, value, message = DEFECTS[defect]
    broken = copy.deepcopy(WHOLE)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(EvidenceError, match=f"^evade: measures: {message}"):
        read(Whole, broken, "evade")


@pytest.mark.parametrize(
    "path", [("single",), ("by_epsilon",), ("numbers_by_name",), ("deep", "all-sensors", "eps-0.1", "units")]
)
def test_what_is_missing_is_named(path: tuple[str, ...]) -> None:
    broken = copy.deepcopy(WHOLE)
    place = broken
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    with pytest.raises(EvidenceError, match=f"^evade: measures: {'.'.join(path)}: field required"):
        read(Whole, broken, "evade")


@pytest.mark.parametrize("value", [None, [], [WHOLE], "text", 1.0, True])
def test_what_is_no_group_at_all_is_refused(value: Any) -> None:
    with pytest.raises(EvidenceError, match="^train: measures: "):
        read(Whole, value, "train")


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_every_number_says_its_unit_its_label_and_which_way_is_better(name: str) -> None:
    kind = GROUPS[name]
    for field, info in kind.model_fields.items():
        if not any(number in (int, float) for number in innermost(info.annotation)):
            with pytest.raises(KeyError, match=f"{name}.{field}: no quantity"):
                kind.quantity(field)
            continue
        found = kind.quantity(field)
        assert found.unit and found.label
        assert found.better in get_args(Better)


def innermost(annotation: Any) -> list[Any]:
    """The types at the end of unions and mappings."""
    arguments = get_args(annotation)
    return [end for argument in arguments for end in innermost(argument)] if arguments else [annotation]


def test_the_numbers_of_a_group_are_its_own() -> None:
    whole = read(Whole, WHOLE, "evade")
    assert {} == whole.numbers()
    assert {"rmse_cycles": 11.5, "units": 3} == whole.single.numbers()
    assert {"rmse_cycles": 11.5, "units": 3, "share": None} == whole.single.fields()
    assert Quantity("share", "share", "larger") == Part.quantity("share")


def test_leaves_are_every_measure_in_the_order_of_the_fields() -> None:
    names = [leaf.name for leaf in leaves(Whole)]
    part = ["rmse_cycles", "units", "share"]
    assert names == [
        *(f"single/{field}" for field in part),
        *(f"by_epsilon/*/{field}" for field in part),
        *(f"deep/*/*/{field}" for field in part),
        "numbers_by_name/*",
        *(f"absent/{field}" for field in part),
    ]


def test_a_measure_is_resolved_with_its_unit() -> None:
    leaf = resolve(Whole, "deep/all-sensors/eps-0.25/rmse_cycles", "gate g")
    assert (("deep", "*", "*", "rmse_cycles"), "cycles") == (leaf.path, leaf.quantity.unit)
    assert "smaller" == resolve(Whole, "numbers_by_name/s2", "gate g").quantity.better


ALL_LEAVES = [(stage, leaf) for stage, kind in STAGES.items() for leaf in leaves(kind)]


@settings(max_examples=5, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("stage", STAGES)
def test_every_measure_of_every_stage_is_resolved_by_its_name(stage: str, data: st.DataObject) -> None:
    for leaf in leaves(STAGES[stage]):
        assert leaf == resolve(STAGES[stage], name_of(leaf, data), "gate g")


def name_of(leaf: Leaf, data: st.DataObject) -> str:
    """A name that means the measure: with a key of the right form wherever it has one."""
    patterns = iter(leaf.patterns)
    return "/".join(data.draw(st.from_regex(next(patterns), fullmatch=True)) if p == "*" else p for p in leaf.path)


MISSPELT = {
    "single/rmse_cycle": "single/rmse_cycles",
    "singel/units": "single/units",
    "by_epsilon/eps-0.1/rmse": "by_epsilon/eps-0.1/rmse_cycles",
    "deep/all-sensors/eps-0.25/shares": "deep/all-sensors/eps-0.25/share",
    "by_epsilon/e-0.1/share": "by_epsilon/<key>/share",
    "number_by_name/s2": "numbers_by_name/s2",
}


@pytest.mark.parametrize("name", sorted(MISSPELT))
def test_a_name_that_no_stage_writes_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(Whole, name, "gate g")
    assert f"gate g: no stage writes the measure '{name}'; did you mean '{MISSPELT[name]}'?" == str(error.value)


@pytest.mark.parametrize("name", ["", "/", "single/share/more", "zzzzz"])
def test_more_than_a_measure_or_nothing_is_no_measure(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^gate g: no stage writes the measure '{name}'"):
        resolve(Whole, name, "gate g")


WITHIN = {
    "single": "single/rmse_cycles",
    "by_epsilon": "by_epsilon/<key>/rmse_cycles",
    "by_epsilon/eps-0.1": "by_epsilon/eps-0.1/rmse_cycles",
    "deep/all-sensors": "deep/all-sensors/<key>/rmse_cycles",
}


@pytest.mark.parametrize("name", sorted(WITHIN))
def test_a_group_is_no_measure_and_one_in_it_is_named(name: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(Whole, name, "gate g")
    expected = f"gate g: '{name}' is a group of measures; expected a measure in it, such as '{WITHIN[name]}'"
    assert expected == str(error.value)


def test_groups_by_key_are_the_single_results_with_their_paths() -> None:
    whole = read(Whole, WHOLE, "evade")
    part = whole.single
    assert list(groups_by_key(whole)) == [
        (("by_epsilon", "eps-0.1"), part),
        (("deep", "all-sensors", "eps-0.1"), part),
        (("deep", "all-sensors", "eps-0.5"), part),
    ]
    assert [] == list(groups_by_key(part))


def test_a_group_under_a_key_that_holds_results_of_its_own_is_none() -> None:
    class Outer(Group):
        wholes: dict[Name, Whole]

    outer = Outer(wholes={"one": read(Whole, WHOLE, "evade")})
    paths = [path for path, _ in groups_by_key(outer)]
    assert [("wholes", "one", "by_epsilon", "eps-0.1")] == paths[:1]
    assert 3 == len(paths)


def test_a_group_cannot_be_changed_and_does_not_take_numbers_that_are_none() -> None:
    part = Part(rmse_cycles=11.5, units=3)
    with pytest.raises(ValueError, match="frozen"):
        part.units = 4  # type: ignore[misc]
    with pytest.raises(ValueError, match="finite number"):
        Part(rmse_cycles=math.nan, units=3)


def test_accuracy_is_a_worst_case_with_more_to_it() -> None:
    """What reads a worst case may be given an accuracy; both call the same thing by the same name and unit."""
    assert issubclass(Accuracy, WorstCase)
    for field in WorstCase.model_fields:
        assert WorstCase.quantity(field) == Accuracy.quantity(field)
    assert {"clean/failing_units", "clean/units"} <= {leaf.name for leaf in leaves(EvasionMeasures)}


@settings(max_examples=50, deadline=None)
@given(key=keys(Epsilon))
def test_a_key_of_the_right_form_is_read_as_one(key: str) -> None:
    assert [key] == list(read(Whole, WHOLE | {"by_epsilon": {key: PART}}, "").by_epsilon)
