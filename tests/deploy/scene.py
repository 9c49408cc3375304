"""What a twin does, in a process of its own: pull, answer, publish by all outputs, serve metrics."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from tests.mosquitto import PROGRAM
from tests.server.receivers import new_secret, receiving
from tests.simulator import Registry
from tests.twin.outputs.broker import broker
from tests.twin.outputs.messages import alert
from twinseal.config import parse
from twinseal.trust.root.home import Home
from twinseal.twin import runtime
from twinseal.twin.answers import Answer
from twinseal.twin.byte_sources import RestSource
from twinseal.twin.metrics import Metrics
from twinseal.twin.notify import Notifier
from twinseal.twin.outputs.fan_out import Outputs
from twinseal.twin.outputs.lines import LinesOutput
from twinseal.twin.outputs.mqtt import MqttOutput
from twinseal.twin.outputs.output import Output
from twinseal.twin.outputs.settings import LinesSettings, MqttSettings, WebhookSettings
from twinseal.twin.outputs.webhook import WebhookOutput
from twinseal.twin.pull import pull

MODEL = "pump-rul"


def run_scene(folder: Path, *under: str) -> None:
    """Run it below `folder`, by a program that starts it, with a registry, a receiver, and a broker if there is one."""
    from tests.twin.deployment import Deployment  # with torch: not in the scene itself

    now = datetime.now(UTC)
    deployment = Deployment(folder / "deployment", now=now)
    deployment.publish(1, now=now)
    (folder / "work").mkdir(mode=0o700)
    new_secret(folder / "work/secret")
    (folder / "broker").mkdir()
    with Registry(deployment.mirror) as registry, receiving() as hook:
        words = [str(deployment.home.path), registry.url, str(folder / "work"), hook.url()]
        if PROGRAM is None:
            _run(under, [*words, "", ""])
        else:
            with broker(folder / "broker") as there:
                there.certificate("twin-out")
                _run(under, [*words, str(there.port), str(there.folder / "twinseal")])
        assert 1 == len(hook.taken())
    assert 17 == len((folder / "work/answers.jsonl").read_text().splitlines())


def _run(under: tuple[str, ...], words: list[str]) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        [*under, sys.executable, "-m", "tests.deploy.scene", *words],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout[-2000:] + done.stderr[-2000:]


def main(home: str, url: str, work: Path, hook: str, port: str, files: str) -> None:
    """The scene."""
    anchor, now = Home(Path(home)).anchor(), datetime.now(UTC)
    with RestSource(url, MODEL) as source:
        pull(source, anchor, MODEL, work / "twin", now)
    verified = runtime.current_model(work / "twin", anchor, MODEL)
    readings = dict.fromkeys(verified.model.contract.inputs, 5.0)
    rows = [{"unit": unit, "cycle": cycle, **readings} for cycle in range(1, 9) for unit in ("a", "b")]
    answers = [Answer.of(item, MODEL, 1, "valid", now) for item in runtime.run(verified, rows)]
    metrics = Metrics(lambda: 0.0)
    with metrics.served("127.0.0.1", 0) as at:
        urllib.request.urlopen(f"http://127.0.0.1:{at}/metrics").read()
        asyncio.run(_publish(answers, work, hook, port, files))
    Notifier.from_environment().ready()


async def _publish(answers: list[Answer], work: Path, hook: str, port: str, files: str) -> None:
    lines = {"kind": "lines", "path": str(work / "answers.jsonl"), "sync": True}
    webhook = {"kind": "webhook", "url": hook, "secret_file": str(work / "secret")}
    found: list[Output] = [
        LinesOutput("lines", parse(LinesSettings, lines, "")),
        WebhookOutput("webhook", parse(WebhookSettings, webhook, ""), work / "outbox"),
    ]
    if port:
        tls = {"ca": f"{files}/ca.pem", "certificate": f"{files}/twin-out.pem", "key": f"{files}/twin-out.key"}
        settings = {"kind": "mqtt", "host": "127.0.0.1", "port": int(port), **tls}
        found.append(MqttOutput("mqtt", parse(MqttSettings, settings, ""), MODEL))
    faults: list[object] = []
    outputs = Outputs(found, faults.append)
    await outputs.open()
    await outputs.publish([*answers, alert()])
    await outputs.settled()
    await outputs.close(5)
    if faults:
        raise RuntimeError(str(faults))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
