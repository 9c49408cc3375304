"""Card and report of every family: the sentences that differ say what is so of this model, and nothing of another."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.assurance.candidate import KINDS, Kind, config
from tests.assurance.conftest import card, rendered
from twinseal.assurance.case import Case
from twinseal.assurance.report.candidate_words import sentences

CaseOf = Callable[..., Case]
Written = dict[str, tuple[Case, str, str]]

HARDENED = "trained with interval bound propagation against changes of up to"
FACTS = {  # of every kind: what card and report must say
    "accurate": (
        "The family `accurate` is built for the smallest error without an attack, and has no defence.",
        "The estimate is the mean of 5 networks.",
        "The networks for any unit were trained without a defence against changed readings.",
        "No network reads the signed baseline",
    ),
    "robust": (
        "The family `robust` is hardened against small changes of every reading.",
        "The estimate is the mean of 3 networks.",
        f"The networks for any unit were {HARDENED} 0.1 σ of every reading.",
        f"The networks that read the signed baseline were {HARDENED} 0.1 σ of every reading.",
        "A second ensemble, of 3 networks, answers for units with a signed baseline",
    ),
    "certified-sensors": (
        "The family `certified` is a median of networks. Controlling few of them moves it little.",
        "The estimate is the median of 5 networks.",
        "No two of them read a common sensor",
        "The networks for any unit were trained without a defence against changed readings.",
        "No network reads the signed baseline",
    ),
    "certified-units": (
        "The family `certified` is a median of networks. Controlling few of them moves it little.",
        "The estimate is the median of 10 networks.",
        "No two of them learned from a common training unit",
        f"The networks for any unit were {HARDENED} 0.05 σ of every reading.",
        "No network reads the signed baseline",
    ),
}


@pytest.fixture(scope="module")
def written(case_of: CaseOf) -> Written:
    """By kind: the case, the words of its report, its card."""
    cases = {kind: case_of(kind=kind) for kind in KINDS}
    return {kind: (case, words(rendered(case)), card(case)) for kind, case in cases.items()}


def words(page: str) -> str:
    """The text of a page: no tags, code in backquotes."""
    marked = page.replace("<code>", "`").replace("</code>", "`")
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", marked)).split())


@pytest.mark.parametrize("kind", KINDS)
def test_card_and_report_say_what_is_so_of_this_family(written: Written, kind: Kind) -> None:
    _, report, text = written[kind]
    for fact in FACTS[kind]:
        assert fact in report
        assert fact in text


@pytest.mark.parametrize("kind", KINDS)
def test_card_and_report_say_nothing_that_is_so_only_of_another_family(written: Written, kind: Kind) -> None:
    _, report, text = written[kind]
    others = {fact for other in KINDS for fact in FACTS[other]} - set(FACTS[kind])
    for fact in others:
        assert fact not in report
        assert fact not in text


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_under_attack_differs_by_family(written: Written, kind: Kind) -> None:
    case, report, text = written[kind]
    for page in (report, text):
        assert ("with signed baseline, certified" in page) == (kind == "robust")
        assert ("anything at all, certified: groups of sensors" in page) == (kind == "certified-sensors")
        assert ("certified: parts of the training units" in page) == (kind == "certified-units")
    assert ("hidden by one sensor under the attacker's control" in report) == (kind != "certified-sensors")
    assert ("no bound stands behind them" in report) == (kind != "certified-sensors")
    assert f"family {case.config.family} ·" in report


def test_without_a_sound_record_of_the_training_the_card_claims_no_defence(case_of: CaseOf) -> None:
    known = config("robust")
    plain, commissioned = (replace(facts, epsilon_sigma=None, epochs=None) for facts in known.ensembles)
    text = card(case_of(config=replace(known, plain=plain, commissioned=commissioned)))
    assert HARDENED not in text
    assert "The networks for any unit: no sound record says how they were trained." in text


def test_one_network_is_no_mean_of_networks() -> None:
    known = config("accurate")
    alone = replace(known.plain, members=1)
    assert sentences(replace(known, plain=alone))[1].startswith("The estimate is that of one network.")
