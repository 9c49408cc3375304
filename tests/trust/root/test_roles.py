from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trust.scenes import NOW, POLICY
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.trust.root.roles import Roles


def changed(path: str, value: Any) -> dict[str, Any]:
    plain = yaml.safe_load(POLICY.read_text())
    *parents, last = path.split(".")
    place = plain
    for name in parents:
        place = place[name]
    place[last] = value
    return plain


def test_the_policy_of_this_repository_says_who_does_what() -> None:
    roles = Roles.load(POLICY)
    assert roles.models == ("pump-rul", "turbofan-rul", "turbofan-fd002-rul", "turbofan-fd003-rul")
    assert (roles["reviewer"].threshold, len(roles["reviewer"].holders)) == (2, 3)
    assert NOW + timedelta(days=14) == roles.expiry("registrar", NOW)
    assert len(roles.holders) == len(set(roles.holders)) == 12


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("roles.assessor.holders", ["builder"], "assessor: expected holders who are no builder, got 'builder' in both"),
        ("roles.reviewer.holders", ["alice", "builder"], "reviewer: expected holders who are no builder"),
        ("roles.reviewer.holders", ["alice", "assessor"], "reviewer: expected holders who are no assessor"),
        ("roles.commissioner.holders", ["builder"], "commissioner: expected holders who are no builder"),
        ("roles.commissioner.holders", ["assessor"], "commissioner: expected holders who are no assessor"),
        ("roles.commissioner.holders", ["emil", "alice"], "commissioner: expected holders who are no reviewer"),
        ("roles.reviewer.threshold", 4, "threshold: expected 1 to 3"),
        ("roles.reviewer.threshold", 0, "threshold: expected 1 to 3"),
        ("roles.reviewer.holders", ["alice", "alice"], "holders: expected each once"),
        ("roles.reviewer.holders", ["../alice"], "holders: expected names of a-z"),
        ("roles.reviewer.holders", ["аlice"], "holders: expected names of a-z"),  # a Cyrillic а
        ("roles.reviewer.holders", [], "threshold: expected 1 to 0"),
        ("roles.builder", {"holders": ["b", "c"], "threshold": 2, "expires_days": 9}, "a machine signs alone"),
        ("roles.registrar.expires_days", 0, "expires_days: expected 1 to 3650"),
        ("models", [], "models: expected at least one"),
        ("models", ["pump-rul", "pump-rul"], "models: expected at least one, each once"),
        ("models", ["targets"], "none of TUF's own, got 'targets'"),
        ("models", ["../pump"], "models: expected names"),
        ("roles.reviewer.treshold", 2, "unknown key; did you mean 'threshold'"),
        ("roles.auditor", {"holders": ["x"], "threshold": 1, "expires_days": 9}, "unknown key"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Roles, changed(path, value), "roles.yaml")


def test_an_absent_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a settings file, got none"):
        Roles.load(tmp_path / "roles.yaml")
