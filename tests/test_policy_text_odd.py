"""Policy as people may write it: a command changes the entry that it must, and every other byte is as it was."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinseal.assurance.gates import Bound
from twinseal.assurance.proposed_bounds import ProposedBound
from twinseal.assurance.written_bounds import with_proposals
from twinseal.config import parse_yaml
from twinseal.errors import ConfigError
from twinseal.policy_acceptance import accept, offered_bounds, offered_entries
from twinseal.policy_text import with_entry, with_item, with_key, with_values

TODAY = date(2026, 11, 26)
LIFTED = 'accepted: "gerda, 2026-11-26"'
SCALARS = (
    *("1.0_0", "6e-05", "0x10", "1_000", "007", "+1", ".5", "1.", "1E5", "No", "~", "null", "2026-01-01", "1:30"),
    *("'quoted  '", '"a \\u00e9 \\"b\\""', "& 1", "!!str 5", "[1.0_0,  2 ,]", "{ x : 1.0_0 ,y: 2}", "é · 😀", "a#b"),
    *(
        "|\n        one\n          two\n",
        ">-\n        folded\n\n        text",
        "|+\n        kept\n\n",
        "on two\n        lines",
    ),
    *('"on two\n        lines"', "  far   # comment", ""),
)
COMMENTS = ("", "", "\n", "   \n", "# at the left\n", "      #   deep:  {x\n")
MARKS = (
    *(
        "proposed: plain",
        "proposed:   'single'  ",
        'proposed: "a # b"',
        "proposed : spaced",
        '"proposed": x',
        "proposed: &mark x",
    ),
    *(
        "proposed: |\n        one\n        two",
        "proposed: >-\n        one\n\n        two",
        "proposed: on\n        two lines",
    ),
    *("'proposed': !!str 5", 'proposed: "on\n        two"', "proposed: |+\n        one"),
)
NOISE = st.lists(st.tuples(st.sampled_from(SCALARS), st.sampled_from(COMMENTS)), max_size=4)


def lines_of(noise: list[tuple[str, str]], name: str) -> str:
    """Keys with odd values, six spaces deep."""
    return "".join(
        f"{comment}      {name}{at}: {scalar.replace('&', f'&{name}{at}')}" + ("" if scalar.endswith("\n") else "\n")
        for at, (scalar, comment) in enumerate(noise)
    )


@given(
    before=NOISE,
    mark=st.sampled_from(MARKS),
    comment=st.sampled_from(["", "  # why"]),
    after=NOISE,
    windows=st.booleans(),
)
def test_accepting_changes_the_mark_and_no_other_byte(
    before: list[tuple[str, str]], mark: str, comment: str, after: list[tuple[str, str]], windows: bool
) -> None:
    comment = "" if "|" in mark or ">" in mark else comment
    head = f"x: 1.0_0\nassets:\n    pump:\n{lines_of(before, 'a')}      "
    tail = f"{comment}\n{lines_of(after, 'b')}    fan: {{x: 0x10,  y: 1_000}}   # end"
    if windows:
        head, mark, tail = (text.replace("\n", "\r\n") for text in (head, mark, tail))
    stripped = mark.rstrip()
    tail = mark[len(stripped) :] + tail
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "contract.yaml").write_bytes(f"{head}{stripped}{tail}".encode())
        (folder / "threats.yaml").write_text("assets: {}\n")
        accept(offered_entries(folder, "pump"), "gerda", TODAY)
        assert f"{head}{LIFTED}{tail}" == (folder / "contract.yaml").read_bytes().decode()


@pytest.mark.parametrize("odd", ["1.0_0", "6e-05", "0x10", "1_000", "007", "'9'", "9.50"])
def test_accepting_a_bound_leaves_the_numbers_as_people_wrote_them(tmp_path: Path, odd: str) -> None:
    text = (
        f"gates:\n- {{name: one, at_most: {odd}}}\n-   name: two\n"
        f"    assets: {{fan: {{at_most: {odd},proposed: x , z: ''}} }}"
        "   # seen: 5.50\n    unit:   cycles\n"
    )
    (tmp_path / "gates.yaml").write_text(text)
    accept(offered_bounds(tmp_path, "fan", ["two"]), "gerda", TODAY)
    assert text.replace("proposed: x", LIFTED) == (tmp_path / "gates.yaml").read_text()


BOUND = ProposedBound("two", "cycles", 8.3, Bound(at_most=9.6, proposed="1.15 × 8.3"), "15 %", "")
LINE = 'fan: {at_most: 9.6, proposed: "1.15 × 8.3"}'
HEAD = "x: 1.0_0\ngates:\n  - {name: one, at_most: 6e-05}   # 007\n  - name: two\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    # c\n    unit: a\n", f"    # c\n    assets:\n      {LINE}  # seen: 8.3\n    unit: a\n"),
        ("    assets:\n    unit: a\n", f"    assets:\n      {LINE}  # seen: 8.3\n    unit: a\n"),
        ("    assets: {} # none\n    unit: a", f"    assets: # none\n      {LINE}  # seen: 8.3\n    unit: a"),
        ("    assets: null\n    unit: a", f"    assets:\n      {LINE}  # seen: 8.3\n    unit: a"),
        ("    unit: a\n    assets:  # c\n", f"    unit: a\n    assets:  # c\n      {LINE}  # seen: 8.3\n"),
        (
            "    assets:\n        pump:  {at_most: 1_0 }   # é\n\n    #\n    unit: a\n",
            f"    assets:\n        pump:  {{at_most: 1_0 }}   # é\n        {LINE}  # seen: 8.3\n\n    #\n    unit: a\n",
        ),
        (
            "    assets:\n      fan: {at_most: 8, proposed: x}   # s\n      pump: {at_most: 1.0_0}\n    unit: a\n",
            f"    assets:\n      {LINE}   # seen: 8.3\n      pump: {{at_most: 1.0_0}}\n    unit: a\n",
        ),
        (
            "    assets:\n      fan:\n        at_most: 8\n        proposed: |\n          x\n"
            "\n      pump: {at_most: 1.0_0}\n    unit: a\n",
            f"    assets:\n      {LINE}  # seen: 8.3\n\n      pump: {{at_most: 1.0_0}}\n    unit: a\n",
        ),
        (
            "    assets: {pump: {at_most: 007}} # c\n    unit: a",
            f"    assets: {{pump: {{at_most: 007}}, {LINE}}} # c\n    unit: a",
        ),
        ("    assets: {fan: {at_most: 007}, p: 1} # c\n    unit: a", f"    assets: {{{LINE}, p: 1}} # c\n    unit: a"),
    ],
)
def test_a_proposed_bound_is_one_more_line(old: str, new: str) -> None:
    assert HEAD + new == with_proposals((HEAD + old).encode(), "fan", [BOUND]).decode()


def test_a_gate_in_braces_gets_its_bound_there() -> None:
    old = "gates: [{name: two, unit: 0x10 , z: 1.0_0}] # c\n"
    assert old.replace("unit", f"assets: {{{LINE}}}, unit") == with_proposals(old.encode(), "fan", [BOUND]).decode()


def test_a_name_that_looks_like_something_else_is_quoted() -> None:
    written = with_proposals((HEAD + "    unit: a\n").encode(), "007", [BOUND])
    assert ["007"] == list(parse_yaml(written, "gates.yaml")["gates"][1]["assets"])


@pytest.mark.parametrize("layout", ["? proposed\n        : x", "? proposed # : c\n        : x"])
def test_a_layout_that_nobody_foresaw_is_refused_and_nothing_is_written(tmp_path: Path, layout: str) -> None:
    text = f"assets:\n    pump:\n        {layout}\n        a: 1.0_0\n"
    (tmp_path / "contract.yaml").write_text(text)
    (tmp_path / "threats.yaml").write_text("assets: {}\n")
    with pytest.raises(ConfigError, match="expected"):
        accept(offered_entries(tmp_path, "pump"), "gerda", TODAY)
    assert text == (tmp_path / "contract.yaml").read_text()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (with_values("d:\n  x:\n  y: 1\n", ("d",), {"x": 2}), "d:\n  x: 2\n  y: 1\n"),
        (with_values("d:\n  y: 1\n  x:   # c\n", ("d",), {"x": 2}), "d:\n  y: 1\n  x: 2 # c\n"),
        (with_values("d:\n  x: |\n    one\n  y: 1\n", ("d",), {"x": 2}), "d:\n  x: 2\n  y: 1\n"),
        (with_values("d:\n  x: 1\n  y:\ne: 1\n", ("d",), {"z": 2}), "d:\n  x: 1\n  y:\n  z: 2\ne: 1\n"),
        (with_values("d:\n  y: |\n    one", ("d",), {"z": 2}), "d:\n  y: |\n    one\n  z: 2"),
        (with_entry("a:\n  x:\n  y: 1\n", "a", "x", "k: 2\n"), "a:\n  x:\n    k: 2\n  y: 1\n"),
        (with_entry("a:\n  y: |\n    one", "a", "x", "k: 2\n"), "a:\n  y: |\n    one\n  x:\n    k: 2\n"),
        (with_entry("a:\n  y:\n# c\nb: 1.0_0\n", "a", "x", "k: 2\n"), "a:\n  y:\n  x:\n    k: 2\n# c\nb: 1.0_0\n"),
        (with_item("m:\n  - a\n\nb: 007\n", "m", "c"), "m:\n  - a\n  - c\n\nb: 007\n"),
        (with_key("a: {p: x ,b: 1_0}", ("a",), "p", "q", "y"), 'a: {q: "y" ,b: 1_0}'),
    ],
)
def test_values_that_are_left_out_or_end_with_the_file_stand_where_they_stand(made: str, expected: str) -> None:
    assert expected == made
