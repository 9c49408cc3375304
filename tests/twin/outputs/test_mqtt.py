"""MQTT 5 over TLS 1.3, by a real broker that demands certificates: topics, retained estimates, last will, losses."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mosquitto import needs_mosquitto
from tests.twin.outputs.broker import Broker, broker
from tests.twin.outputs.messages import Told, alert, answer
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.outputs.fan_out import Outputs
from twinseal.twin.outputs.mqtt import MqttOutput, level
from twinseal.twin.outputs.output import OutputError
from twinseal.twin.outputs.settings import MqttSettings

pytestmark = needs_mosquitto
RUL = "twinseal/pump-rul/{}/rul"
STATUS = "twinseal/pump-rul/status"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path) as made:
        yield made


def output(there: Broker, model: str = "pump-rul", **more: object) -> MqttOutput:
    return MqttOutput("broker", there.output(**more), model, Backoff(0.05))  # type: ignore[arg-type]


def test_estimates_alerts_and_status_arrive_and_the_newest_estimate_is_retained(there: Broker) -> None:
    async def scene() -> None:
        made = output(there)
        async with there.listening() as heard:
            await made.open(Told())
            machine = alert("maintain now", kind="machine", unit="pump/1")
            await made.publish([*(answer("pump/1", cycle=n) for n in range(1, 251)), answer(7), alert(), machine])
            found = await heard.until(RUL.format("pump%2F1"), 250)
            assert list(range(1, 251)) == [json.loads(payload)["cycle"] for payload in found]
            assert [answer(7).to_json().rstrip("\n").encode()] == await heard.until(RUL.format("7"))
            assert alert().id == json.loads((await heard.until("twinseal/pump-rul/alerts"))[0])["alert"]
            assert machine.id == json.loads((await heard.until("twinseal/pump-rul/pump%2F1/alerts"))[0])["alert"]
            assert [b"online"] == heard.on(STATUS)
            await made.close()
            assert [b"online", b"offline"] == await heard.until(STATUS, 2)
        async with there.listening() as late:
            assert [b"offline"] == await late.until(STATUS)
            assert [250] == [json.loads(item)["cycle"] for item in await late.until(RUL.format("pump%2F1"))]
            (kept,) = (item for item in late.messages if str(item.topic) == RUL.format("pump%2F1"))
            assert kept.retain
            assert kept.properties is not None
            assert 3500 <= kept.properties.MessageExpiryInterval <= 3600  # type: ignore[attr-defined]
            assert [] == late.on("twinseal/pump-rul/alerts"), "one alert would stand there for all"

    asyncio.run(scene())


def test_a_twin_that_is_killed_is_said_to_be_offline_by_its_last_will(there: Broker) -> None:
    async def scene() -> None:
        made = output(there)
        async with there.listening() as heard:
            await made.open(Told())
            await made.publish([answer()])
            client = made._client
            assert client is not None
            socket = client._client.socket()
            assert socket is not None
            socket.shutdown(2)  # as the kernel does for a process that was killed: no DISCONNECT
            assert [b"online", b"offline", b"online"] == await heard.until(STATUS, 3)
            await made.close()

    asyncio.run(scene())


def test_what_is_published_while_the_broker_is_killed_arrives_after_it_is_back(there: Broker) -> None:
    async def scene() -> None:
        made, told = output(there), Told()
        outputs = Outputs([made], told, wait_s=0.05)
        await outputs.open()
        await outputs.publish([answer(cycle=1)])
        await outputs.settled()
        there.stop(signal.SIGKILL)
        await outputs.publish([answer(cycle=number) for number in range(2, 40)])
        while told.kinds != ["failing"]:
            await asyncio.sleep(0.01)
        there.start()
        async with asyncio.timeout(20):
            while told.kinds != ["failing", "working"] or outputs.waiting["broker"]:
                await asyncio.sleep(0.01)
        async with there.listening() as heard:  # all were acknowledged; the newest is there for whoever comes late
            assert 39 == json.loads((await heard.until(RUL.format("pump-001")))[-1])["cycle"]
        await outputs.close(5)
        assert ["failing", "working"] == told.kinds
        assert {"broker": 0} == outputs.dropped

    asyncio.run(scene())


def test_what_the_broker_does_not_allow_is_an_error_and_not_lost_silently(there: Broker) -> None:
    """aiomqtt takes every acknowledgement for success, also one that says "not authorized"."""

    async def scene() -> None:
        made = output(there, prefix="other")
        await made.open(Told())
        async with asyncio.timeout(5):
            while made._reason == "not connected yet":
                await asyncio.sleep(0.01)
        assert "Not authorized" in made._reason
        await made.close()
        stranger = output(there, who="stranger")
        await stranger.open(Told())
        async with asyncio.timeout(5):
            while stranger._reason == "not connected yet":
                await asyncio.sleep(0.01)
        assert "Not authorized" in stranger._reason
        await stranger.close()

    asyncio.run(scene())


def test_without_a_broker_it_says_so_and_does_not_wait_for_it_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinseal.twin.outputs.mqtt.TIMEOUT_S", 0.2)

    async def scene() -> None:
        made = output(Broker(tmp_path))
        await made.open(Told())
        with pytest.raises(OutputError, match=r"broker: expected a connection with the broker at 127.0.0.1:\d+, got"):
            await made.publish([answer()])
        await made.close()

    asyncio.run(scene())


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_another_broker_gets_nothing(there: Broker, tmp_path: Path) -> None:
    """The broker is another one: a certificate that nobody trusts, another host's, or TLS 1.2."""

    async def refused(made: MqttOutput) -> str:
        await made.open(Told())
        async with asyncio.timeout(5):
            while made._reason == "not connected yet":
                await asyncio.sleep(0.01)
        assert made._client is None
        await made.close()
        return made._reason

    async def refused_by_old() -> str:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(tmp_path / "twinseal/broker.pem", tmp_path / "twinseal/broker.key")
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        old = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
        async with old:
            return await refused(output(there, port=old.sockets[0].getsockname()[1]))

    (tmp_path / "other").mkdir()
    other = Broker(tmp_path / "other")
    assert "CERTIFICATE_VERIFY_FAILED" in asyncio.run(refused(output(there, ca=str(other.folder / "twinseal/ca.pem"))))
    assert "Hostname mismatch" in asyncio.run(refused(output(there, host="localhost")))
    assert "PROTOCOL" in asyncio.run(refused_by_old()).upper()


@pytest.mark.attack("T")
@settings(max_examples=100)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_name_is_one_level_of_a_topic_and_no_other_names(one: str, other: str) -> None:
    """A unit is named so that its topic would be another's: separators, wildcards, other alphabets."""
    found = level(one)
    assert found
    assert not set("/+#$\0") & set(found)
    assert found.isascii()
    assert (one == other) == (found == level(other))


WRONG = {
    "plain_on_loopback: expected this machine": {"plain_on_loopback": True},
    "expected both certificate and key": {"certificate": "x"},
    "expected both username and password_file": {"username": "x"},
    "prefix: expected the beginning of a topic": {"prefix": "a/+"},
    "certificates and a key in PEM": {"ca": "absent.pem"},
}


@pytest.mark.parametrize("message", WRONG)
def test_settings_that_cannot_be_safe_are_refused(message: str) -> None:
    values = {"kind": "mqtt", "host": "broker.test", **WRONG[message]}
    with pytest.raises(ConfigError, match=message):
        parse(MqttSettings, values, "twin.yaml").tls()
