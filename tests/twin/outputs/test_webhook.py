"""Webhooks: signed alerts, kept on the disk until a receiver has them; real HTTP and HTTPS on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.server.receivers import Receiver, is_signed, new_secret, receiving
from tests.twin.outputs.messages import NOW, Told, alert, answer
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.twin.outputs.alert import Alert
from twinseal.twin.outputs.output import OutputError
from twinseal.twin.outputs.settings import WebhookSettings
from twinseal.twin.outputs.webhook import WebhookOutput


def settings(path: Path, url: str, **more: Any) -> WebhookSettings:
    values = {"kind": "webhook", "url": url, "secret_file": str(path / "secret"), **more}
    return parse(WebhookSettings, values, "twin.yaml")


def output(path: Path, url: str, **more: Any) -> WebhookOutput:
    return WebhookOutput("oncall", settings(path, url, **more), path / "outbox", delays_s=(0.01,), now=lambda: NOW)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def waiting(path: Path) -> int:
    return len(list((path / "outbox").iterdir()))


def ids(receiver: Receiver) -> list[str]:
    return [item["alert"] for item in receiver.taken()]


ABC = [alert(detail=letter) for letter in "abc"]


def test_alerts_are_sent_in_order_and_signed_and_answers_are_not(tmp_path: Path) -> None:
    key = new_secret(tmp_path / "secret")

    async def scene(hook: Receiver) -> None:
        made, told = output(tmp_path, hook.url()), Told()
        await made.open(told)
        assert [False, True] == [made.takes(answer()), made.takes(alert())]
        await made.publish(ABC)
        await until(lambda: len(hook.got) == 3)
        await made.close()
        assert [] == told.events

    with receiving() as hook:
        asyncio.run(scene(hook))
    assert [item.id for item in ABC] == ids(hook) == [item.headers["webhook-id"] for item in hook.got]
    assert ABC == [Alert.from_dict(item.value) for item in hook.got]
    assert all(is_signed(item, key) for item in hook.got)
    assert not is_signed(hook.got[0], b"x" * 32)
    assert 0 == waiting(tmp_path)


def test_a_receiver_that_fails_is_asked_again_and_has_everything_once_it_answers(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")

    async def scene(hook: Receiver) -> None:
        made, told = output(tmp_path, hook.url()), Told()
        hook.statuses = [500, 503, 302]
        await made.open(told)
        await made.publish(ABC)
        await until(lambda: len(ids(hook)) == 3)
        await made.close()
        assert ["failing", "working"] == told.kinds
        assert f"http://127.0.0.1:{hook.port}: expected 2xx, got 500" == told.events[0].message

    with receiving() as hook:
        asyncio.run(scene(hook))
    assert [500, 503, 302, 204, 204, 204] == [item.answered for item in hook.got]
    assert {"/hook"} == {item.path for item in hook.got}, "a redirect was followed"


async def leave(path: Path) -> None:
    """Leave alerts in the outbox, as a twin does whose receiver is away."""
    made = output(path, "http://127.0.0.1:1/hook")
    await made.open(Told())
    await made.publish(ABC)
    await made.close()


def test_an_alert_that_a_receiver_refuses_holds_no_other_up(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")

    async def scene(hook: Receiver) -> None:
        await leave(tmp_path)
        made = output(tmp_path, hook.url())
        hook.statuses = [400]
        await made.open(Told())
        await until(lambda: len(ids(hook)) == 3)
        await made.close()

    with receiving() as hook:
        asyncio.run(scene(hook))
    assert [ABC[1].id, ABC[2].id, ABC[0].id] == ids(hook)


def test_what_is_being_sent_at_the_end_is_not_sent_twice(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")

    async def scene(hook: Receiver) -> None:
        made = output(tmp_path, hook.url())
        hook.delay_s = 0.2
        await made.open(Told())
        await made.publish(ABC[:1])
        await asyncio.sleep(0.1)
        await made.close()

    with receiving() as hook:
        asyncio.run(scene(hook))
    assert ([ABC[0].id], 0) == (ids(hook), waiting(tmp_path))


DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.twin.outputs.messages import Told
from tests.twin.outputs.test_webhook import ABC, output
async def scene():
    made = output(Path(sys.argv[1]), sys.argv[2])
    await made.open(Told())
    await made.publish(ABC)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(scene())
"""


@pytest.mark.proof
def test_alerts_survive_a_kill(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")

    async def scene(hook: Receiver) -> None:
        made = output(tmp_path, hook.url())
        await made.open(Told())
        await until(lambda: len(ids(hook)) == 3)
        await made.close()

    with receiving() as hook:
        died = subprocess.run(
            [sys.executable, "-c", DIES, str(tmp_path), f"http://127.0.0.1:{1}/hook"], check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])},
        )  # fmt: skip
        assert -signal.SIGKILL == died.returncode
        assert 3 == waiting(tmp_path)
        (tmp_path / "outbox" / ".half.json").write_bytes(b"{")  # what a kill leaves of a file that was being written
        asyncio.run(scene(hook))
    assert [item.id for item in ABC] == ids(hook)
    assert 0 == waiting(tmp_path)


def test_what_waits_at_the_end_is_tried_once_more_and_kept(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")

    async def scene() -> None:
        made = output(tmp_path, "http://127.0.0.1:1/hook")
        await made.open(Told())
        await made.publish(ABC)
        await made.publish(ABC)
        await made.close()

    asyncio.run(scene())
    assert 3 == waiting(tmp_path)


def test_when_too_many_wait_the_least_grave_are_given_up_and_said(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")
    told = Told()

    async def scene() -> None:
        made = output(tmp_path, "http://127.0.0.1:1/hook", waiting=3)
        await made.open(told)
        await made.publish([alert(severity="note"), *ABC, alert(severity="warning")])
        await made.close()

    asyncio.run(scene())
    assert 3 == waiting(tmp_path)
    dropped = [event for event in told.events if event.kind == "dropped"]
    assert (2, 1) == (sum(event.number for event in dropped), len(dropped))
    assert "2 given up: more than 3 wait" in dropped[0].message
    assert {"2"} == {path.name[13] for path in (tmp_path / "outbox").iterdir()}


def test_an_alert_that_is_too_old_is_given_up_and_said(tmp_path: Path) -> None:
    new_secret(tmp_path / "secret")
    told, times = Told(), [NOW]

    async def scene() -> None:
        made = WebhookOutput(
            "oncall", settings(tmp_path, "http://127.0.0.1:1/x", keep_hours=1.0), tmp_path / "outbox",
            delays_s=(0.01,), now=lambda: times[-1],
        )  # fmt: skip
        await made.open(told)
        await made.publish(ABC[:1])
        await until(lambda: told.kinds == ["failing"])
        times.append(NOW + timedelta(hours=1))
        await until(lambda: told.kinds == ["failing", "dropped", "working"])
        await made.close()

    asyncio.run(scene())
    assert "1 given up: not taken in 1 hours" in told.events[1].message
    assert 0 == waiting(tmp_path)


def test_what_is_no_alert_is_said_and_not_sent(tmp_path: Path) -> None:
    """Somebody puts other files into the outbox of alerts: changed ones, links, other names."""
    new_secret(tmp_path / "secret")
    told, box = Told(), tmp_path / "outbox"

    async def scene(hook: Receiver) -> None:
        await leave(tmp_path)
        first, second, _ = sorted(box.iterdir())
        first.write_bytes(first.read_bytes().replace(b"expected a broker", b"Expected a broker").replace(b"a", b"e"))
        second.unlink()
        second.symlink_to(tmp_path / "secret")
        (box / "note.txt").write_bytes(b"")
        made = output(tmp_path, hook.url())
        await made.open(told)
        await until(lambda: hook.got)
        await made.close()

    with receiving() as hook:
        asyncio.run(scene(hook))
    assert [ABC[2].id] == ids(hook)
    assert ["dropped"] * 3 == told.kinds
    assert all("is no alert" in event.message for event in told.events)


def test_a_full_disk_is_said_and_the_alert_is_offered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_secret(tmp_path / "secret")

    async def scene() -> None:
        made = output(tmp_path, "http://127.0.0.1:1/hook")
        await made.open(Told())
        (tmp_path / "outbox").rename(tmp_path / "away")
        (tmp_path / "outbox").write_bytes(b"")  # no folder: nothing can be written there, whoever writes
        with pytest.raises(OutputError, match="expected room for an alert, got"):
            await made.publish(ABC)
        (tmp_path / "outbox").unlink()
        (tmp_path / "away").rename(tmp_path / "outbox")
        await made.publish(ABC)
        await made.close()

    asyncio.run(scene())
    assert 3 == waiting(tmp_path)


def test_over_https_only_a_receiver_with_the_right_certificate_gets_alerts(tmp_path: Path) -> None:
    """A webhook's receiver has a certificate that nobody trusts, or another host's."""
    new_secret(tmp_path / "secret")
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def scene(hook: Receiver, arrives: bool) -> None:
        made, told = output(tmp_path, f"https://localhost:{hook.port}/hook", ca=str(tmp_path / "ca.pem")), Told()
        await made.open(told)
        await made.publish([alert()])
        await until(lambda: hook.got if arrives else told.events)
        await made.close()
        assert arrives or "expected an answer of the receiver, got none" in told.events[0].message

    for certificate, arrives in (
        (other.issue_cert("localhost"), False),
        (authority.issue_cert("elsewhere.test"), False),
        (authority.issue_cert("localhost"), True),
    ):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
        with receiving(tls=tls) as hook:
            asyncio.run(scene(hook, arrives))
        assert ([alert().id] if arrives else []) == ids(hook)


def test_the_least_severity_holds_for_beginnings_alone(tmp_path: Path) -> None:
    made = output(tmp_path, "https://a.test/x", severity="critical")
    found = [alert(severity="warning"), alert(), alert(severity="warning").over(NOW)]
    assert [False, True, True] == [made.takes(item) for item in found]


@pytest.mark.parametrize("url", ["http://a.test/x", "https://u:p@a.test/x", "ftp://a.test", "https://a.test/ä", "x"])
def test_an_address_that_must_not_be_sent_to_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="url: expected"):
        settings(tmp_path, url)


def test_a_secret_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    async def scene() -> None:
        await output(tmp_path, "https://a.test/x").open(Told())

    with pytest.raises(ConfigError, match="secret_file: expected a file with one line, got"):
        asyncio.run(scene())
    (tmp_path / "secret").write_text("whsec_short")
    with pytest.raises(ConfigError, match="expected whsec_ and 24 to 64 bytes"):
        asyncio.run(scene())
