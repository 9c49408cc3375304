"""The settings of outputs: by name, each place once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from twinseal.config import Settings, parse
from twinseal.errors import ConfigError
from twinseal.twin.outputs.make import make_outputs
from twinseal.twin.outputs.settings import OutputSettings, check_outputs

WEBHOOK = {"kind": "webhook", "url": "https://a.test/x", "secret_file": "x"}


class Service(Settings):
    """As the service's own settings have it."""

    outputs: dict[str, OutputSettings]

    def model_post_init(self, _context: Any, /) -> None:
        check_outputs(self.outputs)


def read(**outputs: dict[str, Any]) -> Service:
    return parse(Service, {"outputs": outputs}, "twin.yaml")


def test_each_name_is_an_output(tmp_path: Path) -> None:
    found = read(
        journal={"kind": "lines", "path": "-"}, broker={"kind": "mqtt", "host": "b.test"}, oncall=WEBHOOK
    ).outputs  # fmt: skip

    async def scene() -> list[str]:
        return [output.name for output in make_outputs(found, "pump-rul", tmp_path)]

    assert ["journal", "broker", "oncall"] == asyncio.run(scene())


WRONG: dict[str, dict[str, Any]] = {
    "names of small letters": {"../x": WEBHOOK},
    "expected each place once, got the same for a and b": {"a": WEBHOOK, "b": WEBHOOK},
    "kind: expected 'lines', 'mqtt', 'webhook', got 'mail'": {"a": {"kind": "mail"}},
    "unknown key; did you mean 'keep_hours'": {"a": {**WEBHOOK, "keep_hour": 1}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_is_refused(message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**WRONG[message])


def test_what_is_not_installed_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    monkeypatch.delitem(sys.modules, "twinseal.twin.outputs.mqtt", raising=False)
    assert [] == make_outputs({}, "pump-rul", tmp_path)
    with pytest.raises(ConfigError, match="broker: expected the package aiomqtt, got none") as refused:
        make_outputs(read(broker={"kind": "mqtt", "host": "b.test"}).outputs, "pump-rul", tmp_path)
    assert "twinseal[service]" in refused.value.remedy
