"""A plant on this machine: gateways that sign, a broker with the configuration that ships, a twin that runs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.mosquitto import Mosquitto
from tests.twin.deployment import CHANNELS, MODEL, Deployment
from tests.twin.service.running import PATIENCE_S, Running, end, program
from tests.twin_cli import pulled_today
from twinseal.files import write_json
from twinseal.trust.device_record import Device
from twinseal.trust.keys import device_keys
from twinseal.trust.keys.key import NamedSigner
from twinseal.twin import record_enroller
from twinseal.twin.devices import DEVICES

TWIN = "twin"  # as deploy/mosquitto/twinseal.acl names it


def line(unit: str, cycle: int) -> str:
    """A row of a machine, as JSON: the same each time."""
    chance = random.Random(f"{unit} {cycle}")
    values = {name: round(5.0 + 0.4 * (chance.random() - 0.5), 6) for name in CHANNELS}
    return json.dumps({"unit": unit, "cycle": cycle} | values) + "\n"


class Plant:
    """Of some gateways, each with its machines; nothing runs yet but the broker.

    Args:
        folder: For all of it.
        fleet: By gateway, the names of its machines.
        more: Lines of the broker's configuration.
        also: By name, further outputs of the twin.
    """

    def __init__(
        self, folder: Path, fleet: dict[str, Sequence[str]], more: str = "", also: dict[str, object] | None = None
    ) -> None:
        self.site = folder / "site"
        shutil.copytree(pulled_today(), self.site)
        self.deployment = Deployment(self.site / "deployment")
        self.broker = Mosquitto(folder / "broker", more)
        with (folder / "broker/twinseal/twinseal.acl").open("a") as access:
            access.write("\nuser observer\ntopic read telemetry/#\ntopic read twinseal/#\n")
        self.broker.start()
        for name, units in fleet.items():
            key = device_keys.generate(self.site / f"{name}.pem", passphrase=None)
            self._enroll(Device(name, key, tuple(units), tuple(sorted(CHANNELS)), frames_per_second=1000))
            write_json(self.site / f"{name}.json", self.broker.settings(name))
        topics = [{"filter": "telemetry/+/frames", "carries": "frames"}]
        self.settings: dict[str, object] = {
            "model": MODEL,
            "anchor": "anchor",
            "state": "twin",
            "registry": {"source": "deployment/mirror", "every_s": 1},
            "drain_s": 3,
            "sources": {"plant": {"kind": "mqtt", "broker": self.broker.settings(TWIN), "topics": topics}},
            "outputs": {"journal": {"kind": "lines", "path": "-"}} | (also or {}),
        }
        write_json(self.site / "twin.yaml", self.settings)  # JSON is YAML

    def _enroll(self, device: Device) -> None:
        who = NamedSigner("emil", self.deployment.home.signer("emil"))
        record_enroller.enroll(
            DEVICES,
            self.site / "twin",
            self.deployment.anchor,
            MODEL,
            lambda record: record.with_device(device),
            who,
            now=datetime.now(UTC).replace(microsecond=0),
        )

    def twin(self, note: Callable[[str], None] | None = None) -> Running:
        """Start the twin."""
        return Running(self.site, note)

    def gateway(self, name: str, *words: str) -> Gate:
        """Start a gateway that sends to the broker what it is given."""
        key = ("--device", name, "--model", MODEL, "--key", f"{name}.pem")
        return Gate(program(self.site, "gateway", "-", *key, "--to", f"{name}.json", *words))


class Gate:
    """A gateway that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def give(self, lines: Iterable[str]) -> None:
        """Rows; it waits where the gateway reads no more."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(lines))
        self.process.stdin.flush()

    def finish(self) -> str:
        """No more rows come: wait until all were sent; what it said."""
        assert self.process.stderr is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        said = self.process.stderr.read()
        assert 0 == self.process.wait(PATIENCE_S), said
        end(self.process)
        return said
