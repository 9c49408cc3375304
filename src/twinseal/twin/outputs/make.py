"""The outputs that settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twinseal.errors import ConfigError
from twinseal.twin.outputs.lines import LinesOutput
from twinseal.twin.outputs.output import Output
from twinseal.twin.outputs.settings import LinesSettings, MqttSettings, OutputSettings
from twinseal.twin.outputs.webhook import WebhookOutput

_INSTALL = "Install what the twin's service needs: python -m pip install 'twinseal[service]'"


def make_outputs(settings: Mapping[str, OutputSettings], model: str, state_dir: Path) -> list[Output]:
    """One output for each name. In a running event loop: outputs wait on it.

    Args:
        settings: By name; `settings.check_outputs` has passed them.
        model: Name of the twin's model.
        state_dir: The twin's own directory; what must survive a restart is below it.

    Raises:
        ConfigError: What an output needs is not installed.
    """
    return [_make(name, item, model, state_dir) for name, item in settings.items()]


def _make(name: str, item: OutputSettings, model: str, state_dir: Path) -> Output:
    if isinstance(item, LinesSettings):
        return LinesOutput(name, item)
    if isinstance(item, MqttSettings):
        try:
            from twinseal.twin.outputs.mqtt import MqttOutput  # noqa: PLC0415  # with aiomqtt, which few twins need
        except ModuleNotFoundError as error:
            raise ConfigError(f"{name}: expected the package {error.name}, got none", remedy=_INSTALL) from error
        return MqttOutput(name, item, model)
    return WebhookOutput(name, item, state_dir / "outbox" / name)
