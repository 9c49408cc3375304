"""The section `sources` of the twin's settings, as a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.twin.inputs.driving import Told
from twinseal.config import load
from twinseal.errors import ConfigError
from twinseal.twin.inputs.replay import Columns
from twinseal.twin.inputs.settings import InputSettings, sources_of

ALL = """
sources:
  plant:
    kind: mqtt
    broker: {host: broker.plant.example, client_id: twin-1, ca: ca.pem, certificate: twin.pem, key: twin.key}
    topics:
      - {filter: telemetry/+/frames, carries: frames}
      - {filter: telemetry/+/rows, carries: rows}
  line-7:
    kind: sparkplug
    broker: {host: broker.plant.example, client_id: twin-2, ca: ca.pem, certificate: twin-2.pem, key: twin-2.key}
    group: plant-7
    carries: rows
    channels: {Motor/Vibration: vibration}
    cycle: {of: Motor/Starts}
  plc:
    kind: opcua
    url: opc.tcp://plc.plant.example:4840
    certificate: twin.pem
    key: twin.key
    server_certificate: plc.pem
    carries: rows
    units:
      pump-1: {cycle: "ns=2;s=Starts", channels: {vibration: "ns=2;s=Vibration"}}
  pipe: {kind: lines, carries: rows}
  last-year: {kind: replay, path: telemetry.csv, rows_a_second: 10}
"""


def read(folder: Path, text: str) -> InputSettings:
    (folder / "twin.yaml").write_text(text)
    return load(InputSettings, folder / "twin.yaml")


def test_a_source_of_each_entry(tmp_path: Path) -> None:
    found = sources_of(read(tmp_path, ALL), Told(), Columns(("vibration",)))
    assert ["plant", "line-7", "plc", "pipe", "last-year"] == [source.name for source in found]
    kinds = ["MqttSource", "SparkplugSource", "OpcuaSource", "LinesSource", "ReplaySource"]
    assert kinds == [type(source).__name__ for source in found]


def test_the_example_of_the_documents(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/sources.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    assert ["plant", "line-7", "plc", "pipe", "last-year"] == list(read(tmp_path, example).sources)


WRONG = {
    "no kind": ("  plant: {carries: rows}", "sources.plant.kind: expected one, got 'none'"),
    "another kind": (
        "  plant: {kind: mqt}",
        "kind: expected 'mqtt', 'sparkplug', 'opcua', 'lines', 'replay', got 'mqt'",
    ),
    "another key": ("  pipe: {kind: lines, carry: rows}", "carry: unknown key; did you mean 'carries'?"),
    "another value": ("  pipe: {kind: lines, carries: both}", "'frames' or 'rows'"),
    "no name": ("  '': {kind: lines, carries: rows}", "expected names of 1 to 60"),
    "two of the standard input": (
        "  a: {kind: lines, carries: rows}\n  b: {kind: lines, carries: rows}",
        "expected one of the kind lines",
    ),
    "one client twice": (
        "".join(
            f"  {name}: {{kind: mqtt, broker: {{host: localhost, client_id: x, plain_on_loopback: true}}, "
            f"topics: [{{filter: {name}, carries: rows}}]}}\n"
            for name in "ab"
        ),
        "expected a client_id of its own",
    ),
    "text for a number": (
        "  a: {kind: replay, path: x, rows_a_second: fast}",
        "rows_a_second: input should be a valid number",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_entry_that_is_refused(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f"sources:\n{text}\n")
    assert message in str(refused.value)


def test_none_and_too_many(tmp_path: Path) -> None:
    for text in ("sources: {}", "sources:\n" + "".join(f"  s{n}: {{kind: replay, path: x}}\n" for n in range(21))):
        with pytest.raises(ConfigError, match="expected 1 to 20"):
            read(tmp_path, text)


def test_settings_are_read_without_the_packages_of_the_sources() -> None:
    """Also without pandas and pyarrow, which a twin need not have."""
    without = ("aiomqtt", "paho", "asyncua", "google.protobuf", "pandas", "pyarrow", "torch")
    program = f"""
import sys
for name in {without!r}:
    sys.modules[name] = None
import twinseal.twin.inputs.settings
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
