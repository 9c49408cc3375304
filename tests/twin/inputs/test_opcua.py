"""OPC UA, against asyncua's own server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import gethostname

import pytest
from asyncua import Server, ua
from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.mlflow_server import free_port
from tests.twin.inputs.driving import Told, collect, reasons, rows
from twinseal.config import parse
from twinseal.errors import ConfigError
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.opcua import Change, OpcuaSettings, OpcuaSource, Place
from twinseal.twin.inputs.source import Item, SignedFrame

PUMP = {"cycle": "ns=2;s=Starts", "channels": {"vibration": "ns=2;s=Vibration", "temperature": "ns=2;s=Temperature"}}
PLAIN = {"kind": "opcua", "url": "opc.tcp://127.0.0.1:1", "plain_on_loopback": True, "carries": "rows"}
SECURE = "Basic256Sha256_SignAndEncrypt"


def settings(**more: object) -> OpcuaSettings:
    value = PLAIN | {"units": {"pump-1": PUMP}, "publish_ms": 20} | more
    return parse(OpcuaSettings, {key: item for key, item in value.items() if item is not None}, "twin.yaml")


def source(told: Told, **more: object) -> OpcuaSource:
    return OpcuaSource("plc", settings(**more), told, Backoff(first_s=0.05, most_s=0.2))


class Plc:
    """A server with the nodes of a pump."""

    def __init__(self, port: int, secure: tuple[Path, Path] | None = None) -> None:
        self.url, self._secure, self._server = f"opc.tcp://127.0.0.1:{port}", secure, Server()

    async def start(self) -> None:
        server = self._server
        await server.init()
        server.set_endpoint(self.url)
        if self._secure:
            certificate, key = self._secure
            await server.load_certificate(str(certificate))
            await server.load_private_key(str(key))
            server.set_security_policy([ua.SecurityPolicyType[SECURE]])
        else:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        assert 2 == await server.register_namespace("urn:plant")
        first = {"Vibration": 0.5, "Temperature": 60, "Starts": 10, "Frame": b"\xd2\x84", "Serial": "A-17"}
        self.nodes = {}
        for name, value in first.items():
            node = await server.nodes.objects.add_variable(ua.NodeId(name, 2), name, value)
            self.nodes[name] = node
        await server.start()

    async def write(self, **values: object) -> None:
        for name, value in values.items():
            if isinstance(value, ua.DataValue):
                await self._server.write_attribute_value(self.nodes[name].nodeid, value)
            else:
                await self.nodes[name].write_value(value)

    async def stop(self) -> None:
        await self._server.stop()


@asynccontextmanager
async def serving(secure: tuple[Path, Path] | None = None, port: int = 0) -> AsyncIterator[Plc]:
    plc = Plc(port or free_port(), secure)
    await plc.start()
    try:
        yield plc
    finally:
        await plc.stop()


def certificate(folder: Path, name: str, uri: str) -> tuple[Path, Path]:
    """A certificate that its own key has signed, as OPC UA's programs make them, and the key."""
    key = generate_private_key()
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName(gethostname())]
    made = generate_self_signed_app_certificate(key, uri, {"commonName": name}, names, extended=[])
    files = folder / f"{name}.pem", folder / f"{name}-key.pem"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(dump_private_key_as_pem(key))
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("certificates")
    uris = {"twin": "urn:twinseal:twin", "plc": "urn:freeopcua:python:server", "other": "urn:other"}
    return {name: certificate(folder, name, uri) for name, uri in uris.items()}


def secured(files: dict[str, tuple[Path, Path]], server: str = "plc") -> dict[str, object]:
    own, key = files["twin"]
    pinned, _ = files[server]
    return {"certificate": str(own), "key": str(key), "server_certificate": str(pinned), "plain_on_loopback": None}


FIRST = {"unit": "pump-1", "cycle": 10, "vibration": 0.5, "temperature": 60.0}


@pytest.mark.proof  # a server of asyncua takes three seconds to start
def test_a_row_comes_when_the_cycle_changes(files: dict[str, tuple[Path, Path]]) -> None:
    """Signed and encrypted, both sides with their certificates."""

    async def run() -> list[Item]:
        async with serving(files["plc"]) as plc:
            told = Told()
            collecting = asyncio.create_task(collect(source(told, url=plc.url, **secured(files)), 3))
            await told.until("connected")
            await asyncio.sleep(0.1)
            await plc.write(Vibration=0.75, Starts=11)
            await plc.write(Temperature=61, Starts=12)
            return await collecting

    expected = [FIRST, FIRST | {"cycle": 11, "vibration": 0.75}]
    expected += [expected[1] | {"cycle": 12, "temperature": 61.0}]
    assert expected == rows(asyncio.run(run()))


@pytest.mark.proof
@pytest.mark.attack("T")
def test_another_server_than_the_pinned_one_is_refused(files: dict[str, tuple[Path, Path]]) -> None:
    """A server with another key answers in place of the one that is pinned"""
    told = Told()

    async def run() -> None:
        async with serving(files["plc"]) as plc:
            one = source(told, url=plc.url, **secured(files, "other"))
            asking = asyncio.create_task(collect(one, 1))
            await told.until("lost")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(run())
    assert ["lost"] == told.kinds()
    assert "expected a connection with the server at opc.tcp" in told.events[0].message


@pytest.mark.proof
@pytest.mark.attack("T")
def test_a_server_that_speaks_without_security_is_refused(files: dict[str, tuple[Path, Path]]) -> None:
    """A server without security answers in place of one with"""
    told = Told()

    async def run() -> None:
        async with serving() as plc:
            asking = asyncio.create_task(collect(source(told, url=plc.url, **secured(files)), 1))
            await told.until("lost")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(run())
    assert ["lost"] == told.kinds()


@pytest.mark.proof
def test_frames_come_as_they_are() -> None:
    units = {"pump-1": {"frame": "nsu=urn:plant;s=Frame"}}

    async def run() -> list[Item]:
        async with serving() as plc:
            told = Told()
            collecting = asyncio.create_task(collect(source(told, url=plc.url, carries="frames", units=units), 3))
            await told.until("connected")
            await asyncio.sleep(0.1)
            await plc.write(Frame=b"\xd2\x01")
            await plc.write(Frame=b"\xd2\x02")
            return await collecting

    frames = asyncio.run(run())
    assert [b"\xd2\x84", b"\xd2\x01", b"\xd2\x02"] == [item.message for item in frames if isinstance(item, SignedFrame)]


@pytest.mark.proof
def test_values_that_are_no_readings_are_named_and_no_old_ones_stand_for_them() -> None:
    bad = ua.DataValue(
        ua.Variant(0.9, ua.VariantType.Double), StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure)
    )

    async def run() -> list[Item]:
        async with serving() as plc:
            told = Told()
            collecting = asyncio.create_task(collect(source(told, url=plc.url), 5))
            await told.until("connected")
            await asyncio.sleep(0.1)
            await plc.write(Vibration=float("nan"), Starts=11)
            await asyncio.sleep(0.1)
            await plc.write(Vibration=bad, Starts=12)
            return await collecting

    items = asyncio.run(run())
    assert ["not a number", "bad quality"] == reasons(items)
    unknown = {"unit": "pump-1", "temperature": 60.0}
    assert [FIRST, unknown | {"cycle": 11}, unknown | {"cycle": 12}] == rows(items)


@pytest.mark.proof
def test_a_node_that_is_not_there_is_named_and_the_others_are_read() -> None:
    units = {"pump-1": PUMP, "pump-2": {"frame": "ns=2;s=Absent"}}

    async def run() -> list[Item]:
        async with serving() as plc:
            return await collect(source(Told(), url=plc.url, units=units), 2)

    found = asyncio.run(run())
    assert (["no node"], [FIRST]) == (reasons(found), rows(found))
    assert "ns=2;s=Absent" in found[0].message


@pytest.mark.proof
def test_a_server_that_restarts_is_found_again() -> None:
    told, port = Told(), free_port()

    async def run() -> list[Item]:
        async with serving(port=port):
            collecting = asyncio.create_task(collect(source(told, url=f"opc.tcp://127.0.0.1:{port}"), 2))
            await told.until("connected")
            await asyncio.sleep(0.1)
        await told.until("lost")
        async with serving(port=port) as plc:
            await told.until("connected", 2)
            await plc.write(Starts=11)
            return await collecting

    assert [10, 11] == [row["cycle"] for row in rows(asyncio.run(run()))]  # 10 once


@pytest.mark.proof
def test_a_slow_twin_is_given_all_that_the_server_keeps() -> None:
    """The server is asked for more when the last was answered; it keeps `queue` values of each node."""

    async def run() -> list[Item]:
        async with serving() as plc:
            told, items = Told(), list[Item]()
            deliveries = source(told, url=plc.url).deliveries()
            items += await anext(deliveries)
            for cycle in range(11, 71):
                await plc.write(Vibration=cycle / 100, Starts=cycle)
            await asyncio.sleep(0.3)
            while rows(items)[-1]["cycle"] != 70:
                items += await asyncio.wait_for(anext(deliveries), 10)
                await asyncio.sleep(0.02)
            await deliveries.aclose()
            return items

    found = rows(asyncio.run(run()))
    assert [(cycle, cycle / 100) for cycle in range(11, 71)] == [(row["cycle"], row["vibration"]) for row in found[1:]]


def test_within_a_publication_time_stamps_count_and_a_count_comes_last() -> None:
    """A server may publish all values of one node, and then all of another."""
    one = source(Told())
    places = {place.channel or place.kind: place for place in settings().places}

    def change(name: str, value: object, time_us: int | None, status: int = 0) -> Change:
        return Change(places[name], value, status, time_us)

    changes = [
        change("cycle", 1, 20),
        change("cycle", 2, 40),
        change("vibration", 0.1, 20),
        change("vibration", 0.2, 30),
    ]
    assert [(1, 0.1), (2, 0.2)] == [(row["cycle"], row["vibration"]) for row in rows(one.items(changes))]
    full = one.items([change("vibration", 0.3, 50, 0x480)])
    assert ["dropped"] == reasons(full)
    assert ["wrong datatype"] == reasons(one.items([change("vibration", [0.1], 60)]))
    assert ["wrong datatype"] == reasons(one.items([change("vibration", True, 60)]))
    assert ["no cycle"] == reasons(one.items([change("cycle", "eleven", 60)]))
    (null, row) = one.items([change("vibration", None, 60), change("cycle", 3, 60)])
    assert ("null", {"unit": "pump-1", "cycle": 3}) == (*reasons([null]), *rows([row]))


def test_a_frame_that_is_none() -> None:
    one = source(Told(), units={"pump-1": {"frame": "ns=2;s=Frame"}})
    place = Place("ns=2;s=Frame", "pump-1", "", "frame")
    found = [
        one.items([Change(place, value, status, 1)])[0]
        for value, status in (("x", 0), (b"x", 0x80000000), (b"x" * ((1 << 20) + 1), 0))
    ]
    assert ["wrong datatype", "wrong datatype", "too long"] == reasons(found)


WRONG = {
    "no security to another machine": ({"url": "opc.tcp://plc.test"}, "expected 127.0.0.1"),
    "no certificate": ({"url": "opc.tcp://plc.test", "plain_on_loopback": None}, "server_certificate, got none"),
    "another address": ({"url": "http://localhost"}, "expected one such as opc.tcp://host:4840"),
    "a password in it": ({"url": "opc.tcp://a:b@localhost"}, "expected one such as opc.tcp://host:4840"),
    "no unit": ({"units": {}}, "expected 1 to 10000"),
    "no node": ({"units": {"a": {"frame": "Pump1"}}}, "expected a node such as"),
    "no cycle": ({"units": {"a": {"channels": {"x": "ns=2;s=a"}}}}, "the node of its cycle, or a clock"),
    "a node twice": ({"units": {"a": {"cycle": "i=1", "channels": {"x": "i=1"}}}}, "each node once"),
    "channels where frames are carried": ({"carries": "frames"}, "got channels"),
    "another key": ({"publish": 3}, "did you mean 'publish_ms'?"),
    "a time": ({"publish_ms": 1}, "expected 10 to 60000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_are_refused(case: str) -> None:
    more, message = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        settings(**more)
    assert message in str(refused.value)


def test_files_that_cannot_be_used_are_named(files: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    (tmp_path / "nonsense.pem").write_text("nonsense")
    for name in ("certificate", "key", "server_certificate"):
        for file in ("absent.pem", "nonsense.pem"):
            more = secured(files) | {name: str(tmp_path / file)}
            with pytest.raises(ConfigError) as refused:
                asyncio.run(collect(source(Told(), **more), 1))
            assert str(tmp_path / file) in str(refused.value)
            assert refused.value.remedy
