"""The operator's guide says what there is: its settings can be read, and it knows every alert and every limit."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

from twinseal.config import parse, parse_yaml
from twinseal.twin.outputs.alert import ABOUT
from twinseal.twin.service.settings import LimitSettings, TwinSettings

PAGE = (Path(__file__).parents[3] / "docs/twin.md").read_text()
(YAML,) = re.findall(r"^   ```yaml\n(.*?)^   ```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_settings_are_settings_and_their_defaults_those_it_states() -> None:
    found = parse(TwinSettings, parse_yaml(dedent(YAML).encode(), "twin.md"), "twin.md")
    assert set(parse_yaml(dedent(YAML).encode(), "")["limits"]) == set(LimitSettings.model_fields)
    assert set(parse_yaml(dedent(YAML).encode(), "")) == set(TwinSettings.model_fields)
    assert found.limits.model_copy(update={"silent_after_s": 0.0}) == LimitSettings()
    for name in ("verify_every_h", "drain_s"):
        assert getattr(found, name) == TwinSettings.model_fields[name].default


def test_it_says_who_acts_on_every_alert() -> None:
    rows = set(re.findall(r"^\| (machine|telemetry|trust|model|output) \| ([a-z ]+) \| \S", PAGE, re.MULTILINE))
    assert rows == {(kind, about) for kind, abouts in ABOUT.items() for about in abouts}
