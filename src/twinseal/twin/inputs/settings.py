"""The twin's sources in its settings, and a source of each entry. Each kind of source has its settings beside its code.

sources:
  plant: {kind: mqtt, …}          # mqtt.py
  line-7: {kind: sparkplug, …}    # sparkplug.py
  plc: {kind: opcua, …}           # opcua.py
  pipe: {kind: lines, …}          # lines.py
  last-year: {kind: replay, …}    # replay.py
"""

from __future__ import annotations

from typing import Annotated, Any

from twinseal.config import Field, Settings
from twinseal.twin.inputs.lines import LinesSettings, LinesSource
from twinseal.twin.inputs.mqtt import MqttSettings, MqttSource
from twinseal.twin.inputs.opcua import OpcuaSettings, OpcuaSource
from twinseal.twin.inputs.plant_rows import PlantRows
from twinseal.twin.inputs.replay import Columns, ReplaySettings, ReplaySource
from twinseal.twin.inputs.source import Source, Tell
from twinseal.twin.inputs.sparkplug import SparkplugSettings, SparkplugSource

MAX_SOURCES, MAX_NAME = 20, 60

SourceSettings = Annotated[
    MqttSettings | SparkplugSettings | OpcuaSettings | LinesSettings | ReplaySettings, Field(discriminator="kind")
]


class InputSettings(Settings):
    """Where the twin's telemetry comes from.

    Attributes:
        sources: Name → what it is.

    Raises:
        ValueError: There is none, there are too many, or a name is none; two read the standard input, or would be one
            client of one broker.
    """

    sources: dict[str, SourceSettings]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse sources that would be in each other's way."""
        if not 1 <= len(self.sources) <= MAX_SOURCES:
            raise ValueError(f"sources: expected 1 to {MAX_SOURCES}, got {len(self.sources)}")
        if odd := [name for name in self.sources if not name.isprintable() or not 1 <= len(name) <= MAX_NAME]:
            raise ValueError(f"sources: expected names of 1 to {MAX_NAME} printable letters, got {odd[0]!r:.60}")
        if sum(isinstance(one, LinesSettings) for one in self.sources.values()) > 1:
            raise ValueError("sources: expected one of the kind lines, which reads the standard input, got more")
        brokers = [one.broker for one in self.sources.values() if isinstance(one, MqttSettings | SparkplugSettings)]
        clients = [(broker.host, broker.port, broker.client_id) for broker in brokers]
        if len(set(clients)) != len(clients):
            raise ValueError("sources: expected a client_id of its own for each source of a broker, got one twice")


def source_of(name: str, settings: SourceSettings, tell: Tell, columns: Columns) -> Source:
    """The source of an entry. Nothing is opened before its deliveries are asked for.

    Args:
        name: Of the entry.
        settings: Of the entry.
        tell: Told of connections, losses and ends.
        columns: What the model reads; for files, and for rows with the plant's own columns.

    Raises:
        ConfigError: The mapping of the model cannot read rows that come one by one, and the entry says that it is to.
    """
    if isinstance(settings, MqttSettings | LinesSettings):
        source: Source
        if isinstance(settings, MqttSettings):
            source = MqttSource(name, settings, tell)
        else:
            source = LinesSource(name, settings, tell)
        return PlantRows(source, columns.mapping, columns.channels) if settings.plant_columns else source
    if isinstance(settings, SparkplugSettings):
        return SparkplugSource(name, settings, tell)
    if isinstance(settings, OpcuaSettings):
        return OpcuaSource(name, settings, tell)
    return ReplaySource(name, settings, tell, columns)


def sources_of(settings: InputSettings, tell: Tell, columns: Columns) -> list[Source]:
    """A source of each entry; arguments and errors as of `source_of`."""
    return [source_of(name, one, tell, columns) for name, one in settings.sources.items()]
