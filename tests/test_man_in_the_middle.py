"""The demo's man in the middle: what he does to bytes, and what a twin says of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from demo.man_in_the_middle import LENGTH, Plan, flipped, meddle, messages, numbers
from tests.test_cli_devices import FRAMES, answers, enroll, sign
from tests.twin_cli import Cli, cli_of_a_twin, rows


def stream(count: int) -> bytes:
    bodies = (bytes([number]) * 5 for number in range(1, count + 1))
    return b"".join(len(body).to_bytes(LENGTH) + body for body in bodies)


def after(plan: Plan, count: int = 6) -> tuple[list[int], list[str]]:
    """The numbers of the messages that come, a changed one as 0; and what was told."""
    told: list[str] = []
    came = meddle(messages(io.BytesIO(stream(count))), plan, told.append)
    return [message[-1] if len(set(message[LENGTH:])) == 1 else 0 for message in came], told


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(), [1, 2, 3, 4, 5, 6]),
        (Plan(change={2}), [1, 0, 3, 4, 5, 6]),
        (Plan(replay={2}), [1, 2, 3, 2, 4, 5, 6]),
        (Plan(drop={2, 3, 6}), [1, 4, 5]),
        (Plan(delay={2}), [1, 3, 2, 4, 5, 6]),
        (Plan(replay={6}, delay={5}), [1, 2, 3, 4, 6, 5, 6]),
        (Plan(delay={6}), [1, 2, 3, 4, 5, 6]),
        (Plan(change={1}, replay={2}, drop={4}, delay={5}), [0, 2, 3, 2, 6, 5]),
    ],
)
def test_he_does_what_he_plans_and_nothing_else(plan: Plan, expected: list[int]) -> None:
    assert expected == after(plan)[0]


def test_he_says_each_thing_once() -> None:
    told = after(Plan(change={1}, replay={2}, drop={3, 4, 6}, delay={5}))[1]
    assert ["frame 1: one bit", "frame 2: kept, a", "frames 3 to 4: d", "frame 5: held ba", "frame 6: dropped"] == [
        line[:16] for line in told
    ]


def test_one_bit_is_changed_and_not_of_the_length() -> None:
    message = stream(1)
    false = flipped(message)
    assert [1] == [(a ^ b).bit_count() for a, b in zip(message, false, strict=True) if a != b]
    assert message[:LENGTH] == false[:LENGTH]


def test_numbers_are_ranges_or_nothing() -> None:
    assert {3, 7, 8} == numbers("3,7-8")
    for text in ("", "x", "1-", "2,,3"):
        with pytest.raises(ValueError, match="invalid literal"):
            numbers(text.replace("1-", "1-x"))


@pytest.mark.attack("T")
def test_a_twin_names_what_a_man_in_the_middle_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames are changed, played again, dropped and delayed between gateway and twin; the others are answered."""
    cli: Cli = cli_of_a_twin(tmp_path, monkeypatch, capsys)
    enroll(cli)
    assert (0, "", "") == sign(cli, rows("pump-1", *range(1, 11)), "rows.frames", "--rows", "1")
    plan = Plan(change={2}, replay={4}, drop={6}, delay={8})
    signed = io.BytesIO(Path("rows.frames").read_bytes())
    Path("rows.frames").write_bytes(b"".join(meddle(messages(signed), plan, lambda _: None)))
    code, printed, errors = cli(*FRAMES)
    assert (3, [1, 3, 4, 5, 7, 9, 10]) == (code, [item["cycle"] for item in answers(printed)])
    assert "forged  frame of gate-1" in errors
    assert "played again  frame 4 of gate-1: expected a number after 5, got one again" in errors
    assert "lost  gate-1, frame 7: 1 frames before it did not come" in errors
    assert "late  frame 8 of gate-1: expected a number after 9, got one that was passed over" in errors
    assert "taken 7, rows 7, lost frames 3, lost rows 3, forged 1, late 1, played again 1" in errors
