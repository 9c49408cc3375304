"""A plant for minutes: a fleet → gateways that sign → Mosquitto → the twin, each a process; faults while it runs.

    make bench PART=soak SOAK_S=600        # 120 without

Every machine of 1,000 gives a row each half second, by four gateways. Meanwhile: a new release; the broker stopped for
two seconds; the registry gone for five; the twin's disk full for five (a limit on the length of its files stands for
it). Then as many rows as the gateways can sign, and at last a revoked release. The model is a small one that nobody
trained: what is measured is the way, not the network. A clock that jumps is not simulated here: the whole machine has
one clock.

`lost` counts cycles of machines that were given to a gateway and never answered; `answered otherwise` those with two
answers of one release that differ. Latency is from the time in the signed frame to the line on the twin's standard
output. Processor time of the twin does not depend on what else runs on the machine.
"""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bench.table import Row
from tests.twin.service.plant import Gate, Plant, line
from twinseal.trust.ceremonies import ceremony
from twinseal.trust.keys.device_keys import DeviceKey
from twinseal.trust.signing import cose
from twinseal.twin.frames import Frame

SECONDS = float(os.environ.get("SOAK_S") or 120)
UNITS, GATES, EVERY_S = 1_000, 4, 0.5
BURST_CYCLES = 40  # at the end, of every machine
PATIENCE_S, QUIET_S = 120.0, 5.0


@dataclass
class Soak:
    """A run.

    Attributes:
        seconds: How long rows come at their pace.
        units: How many machines.
        said: Lines of the twin, and when each came, seconds since 1970.
        frames: Messages on the broker.
        given: Cycles that were given, by gateway.
        burst: So many cycles come as fast as they are taken, after that.
        figures: Moments, and processor time, by what they are.
        rss_mib: Resident memory of the twin, at an eighth of the time and at the end.
    """

    folder: Path
    seconds: float
    units: int
    burst: int
    said: list[tuple[float, str]] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)
    rss_mib: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    _made: threading.Barrier = field(default_factory=lambda: threading.Barrier(GATES + 1))

    def run(self) -> None:
        """Start all, let it run, end all."""
        names = [f"unit-{number:04d}" for number in range(self.units)]
        fleet: dict[str, Sequence[str]] = {f"gate-{number}": names[number::GATES] for number in range(GATES)}
        plant = Plant(self.folder, fleet)
        twin = plant.twin(lambda text: self.said.append((time.time(), text)))
        gates = {name: plant.gateway(name, "--rows", "250", "--wait", "0.1", "--rate", "1000") for name in fleet}
        try:
            with self._observer(plant):
                self._until(lambda: "Sending SUBACK to twin" in plant.broker.log(), "the twin to subscribe")
                feeders = [
                    threading.Thread(target=self._feed, args=(gates[name], name, units))
                    for name, units in fleet.items()
                ]
                for feeder in feeders:
                    feeder.start()
                self._made.wait()
                began, cpu = time.time(), _cpu_s(twin.process.pid)
                self._faults(plant, twin.process.pid, began)
                for feeder in feeders:
                    feeder.join()
                self._wait_for_all(began, cpu, twin.process.pid)
                self.figures["gates"] = sum(_cpu_s(gate.process.pid) for gate in gates.values())
                for gate in gates.values():
                    gate.finish()
                ceremony.revoke(plant.deployment.home, plant.deployment.roles, "alice", _now())
                plant.deployment.update_mirror()
                self._until(
                    lambda: any('"about": "revoked"' in text for _, text in self.said[-3 * self.units :]), "its alert"
                )
            if twin.end():
                raise RuntimeError("soak: expected the twin to end by itself, got an exit code")
        finally:
            twin.end(9)
            for gate in gates.values():
                gate.process.kill()
            plant.broker.stop()

    def _feed(self, gate: Gate, name: str, units: Sequence[str]) -> None:
        """Rows at their pace, then the burst, which was made before: to make it takes longer than to send it."""
        paced = int(self.seconds / EVERY_S)
        burst = [[line(unit, cycle) for unit in units] for cycle in range(paced + 1, paced + self.burst + 1)]
        self._made.wait()
        began = time.monotonic()
        for cycle in range(1, paced + 1):
            lines = [line(unit, cycle) for unit in units]
            time.sleep(max(0.0, began + cycle * EVERY_S - time.monotonic()))
            gate.give(lines)
        self.figures.setdefault("burst began", time.time())
        for lines in burst:
            gate.give(lines)
        self.given[name] = paced + self.burst

    def _faults(self, plant: Plant, twin: int, began: float) -> None:
        def at(share: float) -> None:
            time.sleep(max(0.0, began + share * self.seconds - time.time()))

        at(0.125)
        self.rss_mib.append(_rss_mib(twin))
        at(0.25)
        self.figures["quiet until"] = time.time()
        plant.deployment.publish(2, seed=1, now=_now())
        at(0.4)
        plant.broker.stop()
        time.sleep(2)
        plant.broker.start()
        at(0.55)
        mirror = plant.deployment.mirror
        mirror.rename(mirror.with_name("away"))
        time.sleep(5)
        mirror.with_name("away").rename(mirror)
        at(0.7)
        most = resource.prlimit(twin, resource.RLIMIT_FSIZE)
        resource.prlimit(twin, resource.RLIMIT_FSIZE, (16, most[1]))
        time.sleep(5)
        resource.prlimit(twin, resource.RLIMIT_FSIZE, most)
        at(1.0)
        self.rss_mib.append(_rss_mib(twin))

    @contextmanager
    def _observer(self, plant: Plant) -> Iterator[None]:
        """Keeps the frames that the broker sends on."""
        client = paho.Client(CallbackAPIVersion.VERSION2, "observer", protocol=paho.MQTTv5)
        client.tls_set_context(plant.broker.context("observer"))
        client.on_connect = lambda *_: client.subscribe("telemetry/#") and None
        client.on_message = lambda _client, _data, message: self.frames.append(bytes(message.payload))
        client.connect("127.0.0.1", plant.broker.port)
        client.loop_start()
        try:
            yield
        finally:
            client.disconnect()
            client.loop_stop()

    def _wait_for_all(self, began: float, cpu: float, twin: int) -> None:
        """Until the twin says nothing more."""
        total = sum(self.given.values()) * self.units // GATES
        while time.time() - self.said[-1][0] < QUIET_S:
            time.sleep(0.1)
        self.figures |= {"total": total, "seconds": self.said[-1][0] - began, "cpu": _cpu_s(twin) - cpu}

    def _until(self, done: Callable[[], bool], what: str) -> None:
        end = time.time() + PATIENCE_S
        while not done():
            if time.time() > end:
                raise RuntimeError(f"soak: expected {what} within {PATIENCE_S:.0f} s, got nothing")
            time.sleep(0.1)

    def rows(self) -> list[Row]:
        """Of the table."""
        signed: dict[tuple[str, int], float] = {}
        keys = {key.fingerprint: key for key in map(DeviceKey.read, (self.folder / "site").glob("gate-*.pub"))}
        for data in self.frames:
            message = cose.parse(data)
            frame = Frame.from_bytes(message.verify(keys[message.fingerprint]))
            names = list(frame.units)
            for unit, cycle in zip(frame.of.tolist(), frame.cycles.tolist(), strict=True):
                signed.setdefault((names[unit], cycle), frame.time_ms / 1000)
        first: dict[tuple[str, int], float] = {}
        words: dict[tuple[str, int, int], Any] = {}
        otherwise, alerts = 0, set()
        for moment, text in self.said:
            item = json.loads(text)
            if "cycle" not in item:
                alerts.add(item["about"])
                continue
            row = item["unit"], item["cycle"]
            first.setdefault(row, moment)
            told = item["rul_cycles"], item["low_cycles"], item["high_cycles"]
            if item["rul_cycles"] is not None:
                otherwise += words.setdefault((*row, item["release"]), told) != told
        missing = {"swapped", "source lost", "registry lost", "failing", "revoked"} - alerts
        if missing:
            raise RuntimeError(f"soak: expected alerts of every fault, got none of {', '.join(sorted(missing))}")
        return self._rows(first, signed, otherwise)

    def _rows(
        self, first: dict[tuple[str, int], float], signed: dict[tuple[str, int], float], otherwise: int
    ) -> list[Row]:
        quiet = self.figures["quiet until"]
        waits = np.array([1000 * (first[row] - at) for row, at in signed.items() if row in first and at < quiet])
        every = np.array([1000 * (first[row] - at) for row, at in signed.items() if row in first])
        paced = int(self.seconds / EVERY_S)
        late = sorted(at for (_, cycle), at in first.items() if cycle > paced)
        burst_s = late[-1] - self.figures["burst began"] if late else float("nan")

        def row(what: str, value: float, unit: str, reach: float | None = None) -> Row:
            return Row("soak", what, (float(value),), unit, reach)

        return [
            row(f"rows of {self.units:,} machines that were lost", self.figures["total"] - len(first), "", 0.0),
            row("rows answered otherwise the second time", otherwise, "", 0.0),
            row("rows given", self.figures["total"], ""),
            row("frames sent", len(self.frames), ""),
            row("from signing to the answer, before the faults, median", np.percentile(waits, 50), "ms"),
            row("from signing to the answer, before the faults, 99 of 100 within", np.percentile(waits, 99), "ms"),
            row("the same with the faults, the longest", every.max(), "ms"),
            row("as fast as it goes: a million rows", 1e6 * burst_s / len(late) if late else float("nan"), "s"),
            row("processor time of the twin, a million rows", 1e6 * self.figures["cpu"] / len(first), "s"),
            row("processor time of the gateways, a million rows", 1e6 * self.figures["gates"] / len(first), "s"),
            row("memory of the twin at an eighth of the time", self.rss_mib[0], "MiB"),
            row("memory of the twin at the end", self.rss_mib[1], "MiB"),
        ]


def measure(folder: Path, repeats: int) -> list[Row]:
    """The rows of `soak`; one run, however many repeats are asked for."""
    del repeats
    soak = Soak(folder, SECONDS, UNITS, BURST_CYCLES)
    soak.run()
    return soak.rows()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024
