"""Fixtures around one candidate whose evidence is in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from assurance.candidate import MODEL, POLICY, build, estimates, history, lives, subject

from twinseal.assurance.case import Case
from twinseal.assurance.gates import Gates, judge
from twinseal.config import load
from twinseal.evidence import Statement

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

    def make(statements: dict[str, Statement] | None = None, **changes: Any) -> Case:
        known = build() if statements is None else statements
        case = Case(
            model_name="pump-rul",
            asset="pump",
            verdict=judge(policy, known, asset="pump", family="robust", model=MODEL, policy=POLICY),
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
