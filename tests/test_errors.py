"""The tree in errors.py is the tree that exists, and no error of a vendor is named in a place where it could leak."""

from __future__ import annotations

import re

import pytest

from twinseal import errors


def _tree(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*map(_tree, kind.__subclasses__()))


def test_the_drawing_shows_every_error_and_no_other() -> None:
    drawn = set(re.findall(r"(?:─ |^    )(\w+Error)", errors.__doc__ or "", re.M))
    ours = {kind.__name__ for kind in _tree(errors.TwinsealError) if kind.__module__.startswith("twinseal.")}
    assert ours == drawn


@pytest.mark.parametrize("kind", sorted(_tree(errors.TwinsealError), key=lambda k: k.__name__))
def test_every_error_carries_a_remedy(kind: type[errors.TwinsealError]) -> None:
    error = kind("version: expected >= 7, got 5", remedy="ask the registrar")
    assert ("version: expected >= 7, got 5", "ask the registrar") == (str(error), error.remedy)
