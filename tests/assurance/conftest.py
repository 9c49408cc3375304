"""Fixtures around one candidate whose evidence is in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.assurance.candidate import (
    MODEL,
    POLICY,
    Kind,
    build,
    config,
    estimates,
    family_of,
    history,
    lives,
    subject,
)
from twinseal.assurance.case import Case
from twinseal.assurance.gates import Gates, judge
from twinseal.assurance.report import model_card, page
from twinseal.assurance.report.section import build_all
from twinseal.config import load
from twinseal.evidence import Statement
from twinseal.measures.stages import StageMeasures

GATES = Path(__file__).parents[2] / "policy" / "gates.yaml"


@pytest.fixture
def statements() -> dict[str, Statement]:
    return build()


@pytest.fixture(scope="session")
def policy() -> Gates:
    return load(Gates, GATES)


@pytest.fixture(scope="session")
def case_of(policy: Gates) -> Callable[..., Case]:
    """A case around any statements; keyword arguments replace what they name."""

    def make(statements: dict[str, Statement] | None = None, *, kind: Kind = "robust", **changes: Any) -> Case:
        known = build(kind) if statements is None else statements
        judged = judge(policy, known, asset="pump", family=family_of(kind), model=MODEL, policy=POLICY)
        case = Case(
            model_name="pump-rul",
            asset="pump",
            verdict=judged,
            config=config(kind),
            measures=StageMeasures.read(known),
            statements=known,
            model=MODEL,
            policy=subject("policy"),
            inputs=tuple(subject(f"reports/evidence/{stage}.dsse.json") for stage in known),
            time_verified="2026-01-02T03:04:05Z",
            estimates=estimates(),
            history=history(),
            lives=lives(),
            findings=("pump-003, cycles 11-14, flow: range, observed 99.0, bound 40.0",),
            unsigned=("reports/train/predictions.csv", "reports/train/history.csv"),
        )
        return replace(case, **changes)

    return make


def rendered(case: Case) -> str:
    """The report."""
    return page.render(case, build_all(case))


def card(case: Case) -> str:
    """The model card."""
    return model_card.render(case, build_all(case))
