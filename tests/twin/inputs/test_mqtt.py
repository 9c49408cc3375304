"""MQTT against Debian's mosquitto, with the configuration that ships."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiomqtt
import pytest

import twinseal.twin.inputs
from tests.mosquitto import Mosquitto, broker, needs_mosquitto
from tests.twin.inputs.driving import Told, collect, publish_all, publishing, reasons, rows
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.broker import BrokerSettings, Message
from twinseal.twin.inputs.mqtt import MqttSettings, MqttSource, readable
from twinseal.twin.inputs.source import SignedFrame, Unreadable, UnsignedRow

pytestmark = needs_mosquitto
ROWS, FRAMES = "telemetry/gate-1/rows", "telemetry/gate-1/frames"
TOPICS = [{"filter": "telemetry/+/rows", "carries": "rows"}, {"filter": "telemetry/+/frames", "carries": "frames"}]
# paho leaves a socket whose handshake failed to the garbage collector.
_LEFT = "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"


def settings(section: dict[str, object], topics: object = None) -> MqttSettings:
    return parse(MqttSettings, {"kind": "mqtt", "broker": section, "topics": topics or TOPICS}, "twin.yaml")


def source(running: Mosquitto, told: Told, name: str = "twin", topics: object = None, **more: object) -> MqttSource:
    return MqttSource(
        "plant", settings(running.settings(name, **more), topics), told, Backoff(first_s=0.05, most_s=0.2)
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with broker(tmp_path_factory.mktemp("broker") / "m") as one:
        yield one


async def forget_session(running: Mosquitto) -> None:
    """End the twin's session at the broker, with its subscriptions."""
    async with aiomqtt.Client(
        "127.0.0.1",
        running.port,
        identifier="twin",
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=running.context("twin"),
        clean_start=True,
    ):
        pass


@pytest.fixture(autouse=True)
def _new_session(request: pytest.FixtureRequest) -> None:
    if "running" in request.fixturenames:
        asyncio.run(forget_session(request.getfixturevalue("running")))


async def heard(running: Mosquitto, messages: list[tuple[str, bytes]], number: int, **more: object) -> list[object]:
    """What the twin is delivered when gate-1 publishes these."""
    told = Told()
    collecting = asyncio.create_task(collect(source(running, told, **more), number))
    await told.until("connected")
    await publish_all(running, messages)
    return list(await collecting)


def test_frames_and_rows_come_by_their_topics(running: Mosquitto) -> None:
    lines = b'{"unit": "a", "cycle": 1}\n{"unit": "b", "cycle": 1}'
    got = asyncio.run(heard(running, [(FRAMES, b"\xd2\x00\xff"), (ROWS, lines), (ROWS, b'{"unit":\n "c"}')], 4))
    assert [
        SignedFrame(b"\xd2\x00\xff", FRAMES),
        UnsignedRow({"unit": "a", "cycle": 1}, f"{ROWS}, line 1"),
        UnsignedRow({"unit": "b", "cycle": 1}, f"{ROWS}, line 2"),
        UnsignedRow({"unit": "c"}, ROWS),
    ] == got


MALFORMED = {
    "nothing": (b"", "malformed"),
    "half of a row": (b'{"unit": "a"', "malformed"),
    "no object": (b"[1]", "malformed"),
    "NaN": (b'{"unit": "a", "cycle": NaN}', "malformed"),
    "a key twice": (b'{"unit": "a", "unit": "b"}', "malformed"),
    "no UTF-8": (b'{"unit": "\xff"}', "malformed"),
    "half of a letter": (b'{"unit": "\\ud800"}', "malformed"),
    "a tower": (b"[" * 900, "malformed"),
    "zeros": (bytes(4000), "malformed"),
    "a long row": (b'{"unit": "' + b"a" * (70 << 10) + b'"}', "too long"),
    "a long message": (b"x" * ((1 << 20) + 1), "too long"),
}


def test_a_message_that_is_no_row_is_named_and_the_next_one_is_read(running: Mosquitto) -> None:
    messages = [(ROWS, data) for data, _ in MALFORMED.values()]
    got = asyncio.run(heard(running, [*messages, (ROWS, b'{"unit": "a"}')], len(messages) + 1))
    assert dict(zip(MALFORMED, (reason for _, reason in MALFORMED.values()), strict=True)) == dict(
        zip(MALFORMED, reasons(got), strict=True)
    )
    assert UnsignedRow({"unit": "a"}, ROWS) == got[-1]
    assert all("expected" in item.message and ROWS in item.message for item in got[:-1])


def test_a_message_of_very_many_rows_is_read_up_to_a_limit(running: Mosquitto) -> None:
    (*found, last) = asyncio.run(heard(running, [(ROWS, b"{}\n" * 9000)], 8193))
    assert (8192, "too long", 9000 - 8192) == (len(rows(found)), last.reason, last.number)


def test_a_frame_of_one_mebibyte_comes_whole(running: Mosquitto) -> None:
    frames = [bytes([number]) * (1 << 20) for number in range(8)]
    got = asyncio.run(heard(running, [(FRAMES, frame) for frame in frames], 8))
    assert frames == [frame.message for frame in got]


def test_wildcards(running: Mosquitto) -> None:
    topics = [{"filter": "telemetry/#", "carries": "rows"}]
    messages = [
        (f"telemetry/gate-1{rest}", b'{"cycle": 1}') for rest in ("", "/a", "/a/b/c", "/", "/+x".replace("+", "é"))
    ]
    got = asyncio.run(heard(running, messages, 5, topics=topics))
    assert [topic for topic, _ in messages] == [item.origin for item in got]


def test_a_topic_that_was_subscribed_to_before_the_settings_changed_is_said(running: Mosquitto) -> None:
    """The broker keeps the subscription with the session."""

    async def run() -> list[object]:
        await heard(running, [(ROWS, b"{}")], 1, topics=[{"filter": "telemetry/gate-1/#", "carries": "rows"}])
        return await heard(running, [("telemetry/gate-1/more", b"{}"), (ROWS, b'{"cycle": 2}')], 2)

    odd, *found = asyncio.run(run())
    assert isinstance(odd, Unreadable)
    assert "another topic" == odd.reason
    assert "client_id" in odd.message
    assert [UnsignedRow({"cycle": 2}, ROWS)] * 2 == found  # by both subscriptions


def test_what_the_broker_retained_is_not_taken_for_now(running: Mosquitto) -> None:
    """A retained row was measured before, and would be delivered at each start."""
    before = "telemetry/gate-1/before"
    topics = [{"filter": "telemetry/+/before", "carries": "rows"}, *TOPICS]

    async def run() -> list[object]:
        await publish_all(running, [(before, b'{"cycle": 1}')], retain=True)
        return await heard(running, [(ROWS, b'{"cycle": 2}')], 1, topics=topics)

    assert [UnsignedRow({"cycle": 2}, ROWS)] == asyncio.run(run())


def test_a_retained_message_that_comes_all_the_same_is_not_read(running: Mosquitto) -> None:
    found = readable(Message(ROWS, b"{}", 2, retained=True), "plant", settings(running.settings()).broker)
    assert isinstance(found, Unreadable)
    assert ("retained", ROWS) == (found.reason, found.origin)


@pytest.mark.attack("T")
def test_a_device_cannot_write_on_another_devices_topic(running: Mosquitto) -> None:
    """A device publishes rows on another device's topic"""

    async def run() -> list[object]:
        told = Told()
        collecting = asyncio.create_task(collect(source(running, told), 1))
        await told.until("connected")
        with suppress(aiomqtt.MqttError):
            async with publishing(running) as client:
                await client.publish("telemetry/gate-2/rows", b'{"unit": "stolen"}', qos=1)
        await publish_all(running, [(ROWS, b'{"unit": "own"}')])
        return list(await collecting)

    assert [UnsignedRow({"unit": "own"}, ROWS)] == asyncio.run(run())
    assert "Denied PUBLISH from gate-1" in running.log()


@pytest.mark.attack("T")
def test_a_device_cannot_read_what_others_write(running: Mosquitto) -> None:
    """A device subscribes to what others publish; Mosquitto lets it, and gives it nothing"""

    async def run() -> list[object]:
        told = Told()
        spying = asyncio.create_task(collect(source(running, told, "gate-2"), 1))
        await told.until("connected")
        got = await heard(running, [(ROWS, b'{"unit": "own"}')], 1)
        assert not spying.done()
        spying.cancel()
        return got

    assert [UnsignedRow({"unit": "own"}, ROWS)] == asyncio.run(run())


@pytest.mark.attack("T")
def test_no_device_takes_over_the_twins_session(running: Mosquitto) -> None:
    """A device connects under the twin's client_id, to take its session and the messages in it"""

    async def run() -> list[object]:
        told = Told()
        collecting = asyncio.create_task(collect(source(running, told), 1))
        await told.until("connected")
        async with aiomqtt.Client(
            "127.0.0.1",
            running.port,
            identifier="twin",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=running.context("gate-2"),
            clean_start=True,
        ):
            await publish_all(running, [(ROWS, b'{"cycle": 1}')])
        got = await collecting
        assert ["connected"] == told.kinds()
        return list(got)

    assert [UnsignedRow({"cycle": 1}, ROWS)] == asyncio.run(run())


def _refused(running: Mosquitto, context: ssl.SSLContext) -> str:
    async def run() -> None:
        async with aiomqtt.Client(
            "127.0.0.1",
            running.port,
            identifier="x",
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=context,
            timeout=1,
        ):
            pass

    with pytest.raises(aiomqtt.MqttError) as refused:
        asyncio.run(run())
    return str(refused.value)


@pytest.mark.attack("T")
@pytest.mark.filterwarnings(_LEFT)
def test_the_broker_refuses_tls_1_2_and_a_client_without_a_certificate(running: Mosquitto) -> None:
    """Somebody connects to the broker with TLS 1.2, or without a certificate"""
    old = running.context("gate-1")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "version" in _refused(running, old).lower()
    files = running.certificate("gate-1")
    assert _refused(running, ssl.create_default_context(cafile=files.ca))
    assert "certificate" in running.log()


@pytest.mark.attack("T")
@pytest.mark.filterwarnings(_LEFT)
@pytest.mark.parametrize("fault", ["another authority", "another host", "TLS 1.2"])
def test_the_twin_refuses_a_broker_that_it_cannot_be_sure_of(fault: str, running: Mosquitto, tmp_path: Path) -> None:
    """Somebody answers in the broker's place: with another certificate, or with TLS 1.2"""
    expected = {"another authority": "self-signed certificate", "another host": "Hostname mismatch", "TLS 1.2": "SSL"}
    told, more = Told(), {}
    if fault == "another authority":
        more = {"ca": Mosquitto(tmp_path / "m").certificate("twin").ca}
    elif fault == "another host":
        more = {"host": "localhost"}

    async def run(port: int) -> None:
        one = source(running, told, **{"port": port} | more)
        task = asyncio.create_task(collect(one, 1))
        await told.until("lost")
        task.cancel()

    if fault != "TLS 1.2":
        asyncio.run(run(running.port))
    else:

        async def old() -> None:
            files = running.certificate("broker")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(files.certificate, files.key)
            server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
            async with server:
                await run(server.sockets[0].getsockname()[1])

        asyncio.run(old())
    assert expected[fault] in told.events[0].message
    assert "lost" == told.events[0].kind


def test_files_that_cannot_be_used_are_named(running: Mosquitto, tmp_path: Path) -> None:
    good = running.settings()
    for name in ("ca", "certificate", "key"):
        for content in (None, b"nonsense"):
            path = tmp_path / f"{name}-{content}"
            if content:
                path.write_bytes(content)
            bad = MqttSource("plant", settings(good | {name: str(path)}), Told())
            with pytest.raises(
                ConfigError, match=f"expected .*{'authority' if name == 'ca' else 'PEM'}|got none"
            ) as refused:
                asyncio.run(collect(bad, 1))
            assert str(path) in str(refused.value)
            assert "openssl" in refused.value.remedy


WRONG = {
    "no TLS to another machine": (
        {"host": "broker.test", "client_id": "x", "plain_on_loopback": True},
        None,
        "as host",
    ),
    "no certificate": ({"host": "broker.test", "client_id": "x"}, None, "expected ca, certificate and key"),
    "a part of the certificate": ({"host": "b.test", "client_id": "x", "ca": "ca.pem"}, None, "got ['ca']"),
    "another key": ({"host": "localhost", "client": "x"}, None, "did you mean 'client_id'?"),
    "no topic": ({}, [], "expected 1 to 100, got 0"),
    "no filter": ({}, [{"filter": "a/#/b", "carries": "rows"}], "# as the last one"),
    "a shared filter": ({}, [{"filter": "$share/a/b", "carries": "rows"}], "no $share here"),
    "overlap": ({}, [{"filter": "a/+", "carries": "rows"}, {"filter": "a/#", "carries": "frames"}], "do not overlap"),
    "another form": ({}, [{"filter": "a", "carries": "xml"}], "'frames' or 'rows'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_are_refused(case: str) -> None:
    section, topics, message = WRONG[case]
    value = {"kind": "mqtt", "broker": section or {"host": "localhost", "client_id": "x", "plain_on_loopback": True}}
    with pytest.raises(ConfigError) as refused:
        parse(MqttSettings, value | {"topics": TOPICS if topics is None else topics}, "twin.yaml")
    assert message in str(refused.value)


def test_a_broker_that_is_not_there_is_told_and_tried_again(tmp_path: Path) -> None:
    told = Told()
    absent = Mosquitto(tmp_path / "m", plain=True)

    async def run() -> list[object]:
        collecting = asyncio.create_task(collect(source(absent, told), 1))
        await told.until("lost", 2)
        absent.start()
        try:
            await told.until("connected")
            await publish_all(absent, [(ROWS, b"{}")])
            return list(await collecting)
        finally:
            absent.stop()

    assert [UnsignedRow({}, ROWS)] == asyncio.run(run())
    assert "expected a connection with the broker at 127.0.0.1" in told.events[0].message


def test_what_needs_aiomqtt_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    monkeypatch.delitem(sys.modules, "twinseal.twin.inputs.broker_session", raising=False)
    monkeypatch.delattr(twinseal.twin.inputs, "broker_session", raising=False)
    plain = BrokerSettings(host="localhost", client_id="x", plain_on_loopback=True)
    one = MqttSource("plant", settings(plain.model_dump()), Told())
    with pytest.raises(ConfigError, match="expected the package aiomqtt, got none") as refused:
        asyncio.run(collect(one, 1))
    assert "twinseal[service]" in refused.value.remedy
