"""Sparkplug B: what edge nodes say, message by message; and by a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mosquitto import Mosquitto, broker, needs_mosquitto
from tests.twin.inputs.driving import Told, collect, publishing, reasons, rows
from twinseal.config import parse
from twinseal.errors import ConfigError, EvidenceError
from twinseal.twin.inputs.backoff import Backoff
from twinseal.twin.inputs.source import Item, SignedFrame, Unreadable
from twinseal.twin.inputs.sparkplug import REBIRTH, SparkplugSettings, SparkplugSource
from twinseal.twin.inputs.sparkplug_nodes import Nodes
from twinseal.twin.inputs.sparkplug_payload import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    INT64,
    UINT64,
    Metric,
    Payload,
    decode,
    encode,
    typed,
)

SECTION = {
    "kind": "sparkplug",
    "broker": {"host": "localhost", "client_id": "twin", "plain_on_loopback": True},
    "carries": "rows",
    "channels": {"Motor/Vibration": "vibration", "Motor/Temperature": "temperature"},
    "cycle": {"of": "Starts"},
}
NODE, DEVICE = "spBv1.0/plant/{}/edge-1", "spBv1.0/plant/{}/edge-1/pump-1"


def settings(**more: object) -> SparkplugSettings:
    return parse(SparkplugSettings, {key: value for key, value in (SECTION | more).items() if value is not None}, "t")


class Edge:
    """An edge node that speaks to `Nodes`, with the right sequence."""

    def __init__(self, nodes: Nodes | None = None, name: str = "edge-1") -> None:
        self.nodes, self.seq, self.name = nodes or Nodes(settings().reading), -1, name

    def message(
        self, kind: str, *metrics: Metric, time_ms: int | None = 1_000, device: str = "pump-1"
    ) -> tuple[str, bytes]:
        topic = f"spBv1.0/plant/{kind}/{self.name}" + (f"/{device}" if kind.startswith("D") else "")
        if kind == "NDEATH":
            return topic, encode(Payload(time_ms, None, metrics))
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        return topic, encode(Payload(time_ms, self.seq, metrics))

    def send(self, kind: str, *metrics: Metric, time_ms: int | None = 1_000, device: str = "pump-1") -> list[Item]:
        return self.nodes.take(*self.message(kind, *metrics, time_ms=time_ms, device=device))

    def bear(self, device: str = "pump-1", first: int = 1) -> list[Item]:
        self.send("NBIRTH", Metric("bdSeq", None, UINT64, 3))
        return self.send("DBIRTH", *birth(first), device=device)


def birth(first: int = 1) -> tuple[Metric, ...]:
    return (
        Metric("Motor/Vibration", first, DOUBLE, 0.5),
        Metric("Motor/Temperature", first + 1, 3, 60),
        Metric("Starts", first + 2, INT64, 10),
        Metric("Serial", first + 3, 12, "A-17"),
    )


def alias(number: int, value: float | str | bytes | bool | None, datatype: int = 0) -> Metric:
    return Metric("", number, datatype, value)


def test_the_readings_that_did_not_change_stay_and_a_new_cycle_gives_a_row() -> None:
    edge = Edge()
    first = {"unit": "pump-1", "cycle": 10, "vibration": 0.5, "temperature": 60.0}
    assert [first] == rows(edge.bear())
    assert [] == edge.send("DDATA", alias(1, 0.75))
    assert [first | {"cycle": 11, "vibration": 0.75}] == rows(edge.send("DDATA", alias(3, 11)))
    assert [first | {"cycle": 12, "vibration": 1.0}] == rows(edge.send("DDATA", alias(3, 12), alias(1, 1.0)))
    assert [] == edge.send("DDATA", Metric("Motor/Temperature", None, 3, 61))
    assert [] == edge.send("DDATA", alias(3, 12))  # the same cycle again
    assert [61.0] == [row["temperature"] for row in rows(edge.send("DDATA", alias(3, 13)))]


def test_after_a_rebirth_of_the_same_cycle_there_is_one_row_of_it() -> None:
    edge = Edge()
    edge.bear()
    assert [10] == [row["cycle"] for row in rows(edge.bear())]  # a twin takes a row that comes again for no news


def test_whole_numbers_have_their_sign() -> None:
    edge = Edge()
    edge.bear()
    edge.send("DDATA", Metric("", 2, 0, (1 << 32) - 5))
    assert [-5.0] == [row["temperature"] for row in rows(edge.send("DDATA", alias(3, 11)))]


TYPED = [
    (0x80, 1, -128), (0x7F, 1, 127), (0xFFFFFFFF, 1, -1), (0x100, 1, None), (0x8000, 2, -32768),
    (1 << 31, 3, -(1 << 31)), ((1 << 64) - 1, INT64, -1), (255, 5, 255), (256, 5, None),
    ((1 << 64) - 1, UINT64, (1 << 64) - 1), (1, DOUBLE, None), (1.5, DOUBLE, 1.5), (1.5, 3, None),
    (True, BOOLEAN, True), (True, 3, None), ("x", 12, "x"), ("x", DOUBLE, None), (b"x", BYTES, b"x"), (b"x", 12, None),
    (5, 99, None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "datatype", "expected"), TYPED)
def test_a_value_is_what_its_datatype_says_or_nothing(value: object, datatype: int, expected: object) -> None:
    assert expected == typed(value, datatype)


FAULTS = {
    "null": (alias(1, None), "null"),
    "not a number": (alias(1, float("nan")), "not a number"),
    "infinite": (alias(1, float("-inf")), "not a number"),
    "another datatype": (alias(1, "high"), "wrong datatype"),
    "another datatype that is said": (alias(1, 5, 3), "wrong datatype"),
    "a truth": (alias(2, True), "wrong datatype"),
    "an unknown alias": (alias(77, 1.0), "unknown metric"),
    "an unknown name": (Metric("Motor/Speed", None, DOUBLE, 1.0), "unknown metric"),
    "measured before": (replace(alias(1, 0.1), historical=True), "historical"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_metric_that_cannot_be_read_is_named_and_the_rest_is_used(case: str) -> None:
    edge = Edge()
    edge.bear()
    metric, reason = FAULTS[case]
    found = edge.send("DDATA", metric, alias(3, 11))
    assert [reason] == reasons(found)
    assert "expected" in found[0].message
    (row,) = rows(found)
    held = case.startswith(("an unknown", "a truth", "measured"))
    assert held == ("vibration" in row)  # what is null now was not 0.5 all the same
    assert ("temperature" in row) == (case != "a truth")


@pytest.mark.parametrize("count", [0, -1, None, 1.5])
def test_a_count_that_is_no_cycle_gives_no_row(count: int | float | None) -> None:
    edge = Edge()
    edge.send("NBIRTH")
    starts = Metric("Starts", 3, DOUBLE, 1.0)
    edge.send("DBIRTH", birth()[0], starts)
    found = edge.send("DDATA", alias(3, float(count) if count is not None else None))
    assert [] == rows(found)
    assert ["null" if count is None else "no cycle"] == reasons(found)


def test_a_number_that_is_passed_over_is_lost_and_the_birth_is_asked_for() -> None:
    edge = Edge()
    edge.bear()
    edge.seq += 3
    found = edge.send("DDATA", alias(3, 11))
    assert ["lost", 11] == [*reasons(found), rows(found)[0]["cycle"]]
    assert 3 == found[0].number
    assert [("plant", "edge-1")] == edge.nodes.rebirths()
    assert [] == edge.nodes.rebirths()


def test_after_very_many_are_lost_the_birth_is_asked_for_and_all_goes_on() -> None:
    """Two hundred that are lost look like one of before."""
    edge = Edge()
    edge.bear()
    edge.seq += 200
    assert ["late"] == reasons(edge.send("DDATA", alias(3, 11)))
    assert [("plant", "edge-1")] == edge.nodes.rebirths()
    edge.bear()
    assert [12] == [row["cycle"] for row in rows(edge.send("DDATA", alias(3, 12)))]


def test_the_sequence_goes_around() -> None:
    edge = Edge()
    edge.bear()
    for cycle in range(11, 600):
        assert [cycle] == [row["cycle"] for row in rows(edge.send("DDATA", alias(3, cycle)))]


@pytest.mark.attack("T")
def test_a_message_that_is_played_again_at_once_is_refused() -> None:
    """Somebody plays a message of an edge node again at once"""
    edge = Edge()
    edge.bear()
    message = edge.message("DDATA", alias(3, 11))
    assert [11] == [row["cycle"] for row in rows(edge.nodes.take(*message))]
    assert ["late"] == reasons(edge.nodes.take(*message))
    assert [12] == [row["cycle"] for row in rows(edge.send("DDATA", alias(3, 12)))]


def test_data_before_a_birth_is_named_and_the_birth_is_asked_for() -> None:
    edge = Edge()
    assert ["no birth"] == reasons(edge.send("DDATA", alias(3, 11)))
    edge.send("NBIRTH")
    assert ["no birth"] == reasons(edge.send("DDATA", alias(3, 11)))
    assert [("plant", "edge-1")] == edge.nodes.rebirths()


def test_after_a_death_nothing_is_held() -> None:
    for death in ("NDEATH", "DDEATH"):
        edge = Edge()
        edge.bear()
        edge.send(death, *([Metric("bdSeq", None, UINT64, 3)] if death == "NDEATH" else []))
        assert ["no birth"] == reasons(edge.send("DDATA", alias(3, 11))), death


def test_a_death_of_a_life_before_is_none() -> None:
    edge = Edge()
    edge.bear()
    edge.send("NDEATH", Metric("bdSeq", None, UINT64, 2))
    assert [11] == [row["cycle"] for row in rows(edge.send("DDATA", alias(3, 11)))]


def test_a_frame_beside_is_a_frame_and_the_metrics_beside_it_are_no_rows_too() -> None:
    edge = Edge()
    edge.send("NBIRTH")
    frame = Metric("twinseal/frame", 9, BYTES, b"\xd2\x84")
    topic = DEVICE.format("DBIRTH")
    assert [SignedFrame(b"\xd2\x84", topic)] == edge.send("DBIRTH", *birth(), frame)
    assert [SignedFrame(b"\xd2", topic.replace("DBIRTH", "DDATA"))] == edge.send(
        "DDATA", alias(9, b"\xd2"), alias(3, 11)
    )
    assert ["wrong datatype"] == reasons(edge.send("DDATA", alias(9, "text")))


def test_a_frame_of_the_whole_edge_node() -> None:
    edge = Edge()
    edge.send("NBIRTH", Metric("twinseal/frame", 9, BYTES, b"\xd2"))
    assert [] == edge.send("DBIRTH", *birth())
    assert [SignedFrame(b"\xd2\x01", NODE.format("NDATA"))] == edge.send("NDATA", alias(9, b"\xd2\x01"))


def test_frames_alone() -> None:
    edge = Edge(Nodes(settings(carries="frames", channels=None, cycle=None).reading))
    assert [] == edge.bear()
    assert [] == edge.send("DDATA", alias(3, 11))


@pytest.mark.attack("T")
def test_an_edge_node_cannot_deliver_another_ones_unit() -> None:
    """An edge node bears a device of another edge node's name"""
    one = Edge()
    one.bear()
    other = Edge(one.nodes, "edge-2")
    other.send("NBIRTH")
    assert ["another node's unit"] == reasons(other.send("DBIRTH", *birth()))
    assert ["no birth"] == reasons(other.send("DDATA", alias(3, 99)))
    assert [11] == [row["cycle"] for row in rows(one.send("DDATA", alias(3, 11)))]
    one.send("DDEATH")
    assert [10] == [row["cycle"] for row in rows(other.send("DBIRTH", *birth()))]


def test_the_settings_may_name_units() -> None:
    edge = Edge(Nodes(settings(units={"plant/edge-1/pump-1": "T 4"}).reading))
    assert ["T 4"] == [row["unit"] for row in rows(edge.bear())]


def test_cycles_by_the_clock_give_a_row_when_the_next_one_begins() -> None:
    hour = 3_600_000
    cycle = {"length_s": 3600, "since": {"pump-1": "1970-01-01T00:00:00Z"}}
    edge = Edge(Nodes(settings(cycle=cycle).reading))
    edge.send("NBIRTH")
    assert [] == edge.send("DBIRTH", *birth(), time_ms=5 * hour + 1)
    assert [] == edge.send("DDATA", alias(1, 0.6), time_ms=6 * hour - 1)
    expected = {"unit": "pump-1", "cycle": 6, "vibration": 0.6, "temperature": 60.0}
    assert [expected] == rows(edge.send("DDATA", alias(1, 0.7), time_ms=6 * hour))
    assert [expected | {"cycle": 7, "vibration": 0.7}] == rows(edge.send("DDATA", alias(1, 0.8), time_ms=9 * hour))
    assert ["no cycle"] == reasons(edge.send("DDATA", alias(1, 0.8), time_ms=None))


ODD = {
    "nothing": b"",
    "no protobuf": b"\xff\xff\xff",
    "two values": b"\x12\x0f\x0a\x01a\x50\x01\x69\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00",
    "no name": b"\x12\x02\x50\x01\x18\x00",
    "a name that is no text": b"\x12\x03\x0a\x01\xff\x18\x00",
    "a sequence of 256": b"\x18\x80\x02",
    "very many metrics": b"\x12\x02\x10\x01" * 10_001 + b"\x18\x00",
    "a long name": encode(Payload(1, 0, (Metric("x" * 201, None, DOUBLE, 1.0),))),
}


@pytest.mark.parametrize("case", ODD)
def test_a_payload_that_is_none_is_malformed(case: str) -> None:
    edge = Edge()
    edge.bear()
    found = edge.nodes.take(DEVICE.format("DDATA"), ODD[case])
    assert ["malformed"] == reasons(found)
    assert DEVICE.format("DDATA") in found[0].message
    assert [11] == [row["cycle"] for row in rows(edge.send("DDATA", alias(3, 11)))]


@pytest.mark.parametrize(
    "topic", ["", "spBv1.0", "spBv1.0/plant/DDATA/edge-1", "spBv1.0/plant/NDATA/e/d", "spBv1.0//NDATA/e", "x/p/NDATA/e"]
)
def test_a_topic_that_is_none(topic: str) -> None:
    assert ["another topic"] == reasons(Nodes(settings().reading).take(topic, encode(Payload(1, 0, ()))))


def test_births_that_are_not_plain() -> None:
    for metrics in (
        [Metric("", 1, DOUBLE, 1.0)],
        [Metric("a", 1, DOUBLE, 1.0), Metric("a", 2, DOUBLE, 1.0)],
        [Metric("a", 1, DOUBLE, 1.0), Metric("b", 1, DOUBLE, 1.0)],
    ):
        edge = Edge()
        edge.send("NBIRTH")
        assert ["malformed"] == reasons(edge.send("DBIRTH", *metrics))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with suppress(EvidenceError):
        decode(data, "topic")
    nodes = Nodes(settings().reading)
    for kind in ("NBIRTH", "NDATA", "NDEATH"):
        assert all(isinstance(item, Unreadable) for item in nodes.take(NODE.format(kind), data))


_VALUES = st.one_of(
    st.tuples(st.just(DOUBLE), st.floats(allow_nan=False)),
    st.tuples(st.just(UINT64), st.integers(0, (1 << 64) - 1)),
    st.tuples(st.just(12), st.text(max_size=20)),
    st.tuples(st.just(BYTES), st.binary(max_size=20)),
    st.tuples(st.just(BOOLEAN), st.booleans()),
    st.tuples(st.just(DOUBLE), st.none()),
)
_METRICS = st.builds(
    lambda name, number, value, old: Metric(name, number, value[0], value[1], old),
    st.text(min_size=1, max_size=20), st.none() | st.integers(0, 99), _VALUES, st.booleans(),
)  # fmt: skip


@hypothesis.settings(max_examples=30)
@given(
    st.builds(
        Payload, st.none() | st.integers(0, 1 << 62), st.none() | st.integers(0, 255), st.lists(_METRICS).map(tuple)
    )
)
def test_what_is_encoded_is_decoded(payload: Payload) -> None:
    assert payload == decode(encode(payload), "")


WRONG = {
    "rows without channels": ({"channels": None}, "expected channels and cycle for carries: rows"),
    "frames with channels": ({"carries": "frames"}, "none of them for carries: frames"),
    "a channel twice": ({"channels": {"a": "x", "b": "x"}}, "each channel once"),
    "a channel called cycle": ({"channels": {"a": "cycle"}}, "none called unit or cycle"),
    "a cycle that is a channel": ({"cycle": {"of": "Motor/Vibration"}}, "that is no channel"),
    "two kinds of cycle": ({"cycle": {"of": "a", "length_s": 3}}, "one of both"),
    "no time": ({"cycle": {"length_s": 3, "since": {"a": "yesterday"}}}, "expected a time such as"),
    "a time without an offset": ({"cycle": {"length_s": 3, "since": {"a": "2026-01-01T00:00:00"}}}, "with its offset"),
    "a unit twice": ({"units": {"a/b/c": "u", "a/b/d": "u"}}, "each unit once"),
    "no place": ({"units": {"a": "u"}}, "group/node/device"),
    "a group with a wildcard": ({"group": "a#"}, "as a whole level"),
    "another key": ({"chanels": {}}, "did you mean 'channels'?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_are_refused(case: str) -> None:
    more, message = WRONG[case]
    with pytest.raises(ConfigError) as refused:
        settings(**more)
    assert message in str(refused.value)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Mosquitto]:
    with broker(tmp_path / "m") as one:
        yield one


@needs_mosquitto
def test_after_a_loss_of_the_broker_births_are_asked_for(running: Mosquitto) -> None:
    """Between, the node was born again with other aliases: the old ones would give another channel's readings."""

    async def run() -> list[Item]:
        told, edge = Told(), Edge()
        one = SparkplugSource("plant", settings(broker=running.settings()), told, Backoff(first_s=0.05, most_s=0.2))
        collecting = asyncio.create_task(collect(one, 3))
        await told.until("connected")
        async with publishing(running, "edge-1") as client:
            await client.publish(*edge.message("NBIRTH"))
            await client.publish(*edge.message("DBIRTH", *birth()))
            await client.publish("telemetry/edge-1/end", b"", qos=1)
        await asyncio.sleep(0.1)
        running.stop()
        await told.until("lost")
        edge.message("NBIRTH")
        edge.message("DBIRTH", *birth(11))
        running.start()
        await told.until("connected", 2)
        async with publishing(running, "edge-1") as client:
            await client.subscribe("spBv1.0/plant/NCMD/edge-1")
            await client.publish(*edge.message("DDATA", alias(1, 99.0), alias(3, 98)))
            await asyncio.wait_for(anext(aiter(client.messages)), 5)
            await client.publish(*edge.message("NBIRTH"))
            await client.publish(*edge.message("DBIRTH", *birth(11)))
        return await collecting

    items = asyncio.run(run())
    assert (["no birth"], [10, 10]) == (reasons(items), [row["cycle"] for row in rows(items)])


@needs_mosquitto
def test_a_twin_that_starts_later_asks_for_the_births(running: Mosquitto) -> None:
    """By a real broker, with its access list: the node is at work before the twin, and its aliases are read."""

    async def run() -> tuple[list[Item], str]:
        told = Told()
        one = SparkplugSource("plant", settings(broker=running.settings()), told)
        edge = Edge()
        collecting = asyncio.create_task(collect(one, 3))
        await told.until("connected")
        async with publishing(running, "edge-1") as client:
            await client.subscribe("spBv1.0/plant/NCMD/edge-1")
            await client.publish(*edge.message("DDATA", alias(3, 11)))
            command = await asyncio.wait_for(anext(aiter(client.messages)), 5)
            for message in (
                edge.message("NBIRTH", Metric("bdSeq", None, UINT64, 1)),
                edge.message("DBIRTH", *birth()),
                edge.message("DDATA", alias(3, 12)),
            ):
                await client.publish(*message)
        (metric,) = decode(bytes(command.payload), "").metrics
        assert (REBIRTH, True) == (metric.name, metric.value)
        return await collecting, str(command.topic)

    items, topic = asyncio.run(run())
    assert (["no birth"], [10, 12]) == (reasons(items), [row["cycle"] for row in rows(items)])
    assert "spBv1.0/plant/NCMD/edge-1" == topic
