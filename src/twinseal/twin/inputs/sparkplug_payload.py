"""Payloads of Sparkplug B (specification 3.0.0, 6.4), read by protobuf: the parts of them that telemetry needs.

The fields are declared here, by the numbers of the specification. What may nest (data sets, templates, properties,
metadata) is left as bytes, and so is text: it is decoded, and refused, here.

>>> payload = encode(Payload(1_700_000_000_000, 0, (Metric("a/b", 7, DOUBLE, 1.5),)))
>>> decode(payload, "topic").metrics[0].value
1.5
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from twinseal.errors import ConfigError, EvidenceError

MAX_METRICS = 10_000
MAX_NAME = 200  # letters
INT64, UINT64, FLOAT, DOUBLE, BOOLEAN, BYTES = 4, 8, 9, 10, 11, 17
_BITS = {1: 8, 2: 16, 3: 32, INT64: 64, 5: 8, 6: 16, 7: 32, UINT64: 64}  # of whole numbers; 1 to 4 are signed
_TEXTS = (12, 14, 15)
_WORDS = """Unknown Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float Double Boolean String DateTime Text UUID
DataSet Bytes File Template"""
NAMES = dict(enumerate(_WORDS.split()))
# Number and type of each field, by the names of protobuf's own types.
_METRIC = {
    "name": (1, "BYTES"),
    "alias": (2, "UINT64"),
    "timestamp": (3, "UINT64"),
    "datatype": (4, "UINT32"),
    "is_historical": (5, "BOOL"),
    "is_null": (7, "BOOL"),
    "int_value": (10, "UINT32"),
    "long_value": (11, "UINT64"),
    "float_value": (12, "FLOAT"),
    "double_value": (13, "DOUBLE"),
    "boolean_value": (14, "BOOL"),
    "string_value": (15, "BYTES"),
    "bytes_value": (16, "BYTES"),
    "dataset_value": (17, "BYTES"),
    "template_value": (18, "BYTES"),
}
_VALUES = tuple(name for name in _METRIC if name.endswith("_value"))
_PAYLOAD = {"timestamp": (1, "UINT64"), "seq": (3, "UINT64")}


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name; "" where it has none.
        alias: Its number; None where it has none.
        datatype: As the specification numbers it; 0 where it is not said: as in the birth, then.
        value: A number, a truth, text or bytes; None for null, or for one of another kind. Whole numbers as they were
            sent: `typed` gives them their sign.
        historical: Whether it was measured before, and kept.
    """

    name: str
    alias: int | None
    datatype: int
    value: int | float | bool | str | bytes | None
    historical: bool = False


@dataclass(frozen=True)
class Payload:
    """What one message says.

    Attributes:
        timestamp_ms: When it was sent, since 1970; None where it is not said.
        seq: Its number, 0 to 255; None where it has none.
        metrics: In order.
    """

    timestamp_ms: int | None
    seq: int | None
    metrics: tuple[Metric, ...]


def decode(data: bytes, where: str) -> Payload:
    """The payload in bytes that may be anything.

    Raises:
        EvidenceError: It is none, or has too many metrics, a name that is none, or a metric with two values.
        ConfigError: protobuf is not installed.
    """
    kind, error_type = _kinds()
    try:
        found = kind.FromString(data)
    except error_type as error:
        raise EvidenceError(f"{where}: expected a payload of Sparkplug B, got something else") from error
    if len(found.metrics) > MAX_METRICS:
        raise EvidenceError(f"{where}: expected at most {MAX_METRICS} metrics, got {len(found.metrics)}")
    seq = found.seq if found.HasField("seq") else None
    if seq is not None and seq > 255:
        raise EvidenceError(f"{where}: expected a sequence of 0 to 255, got {seq}")
    time = found.timestamp if found.HasField("timestamp") else None
    return Payload(time, seq, tuple(_metric(metric, where) for metric in found.metrics))


def encode(payload: Payload) -> bytes:
    """The bytes of a payload.

    Law: `decode(encode(payload), "") == payload` where values are of the datatypes that are written here.
    """
    message = _kinds()[0]()
    if payload.timestamp_ms is not None:
        message.timestamp = payload.timestamp_ms
    if payload.seq is not None:
        message.seq = payload.seq
    for metric in payload.metrics:
        one = message.metrics.add(datatype=metric.datatype) if metric.datatype else message.metrics.add()
        if metric.name:
            one.name = metric.name.encode()
        if metric.alias is not None:
            one.alias = metric.alias
        if metric.historical:
            one.is_historical = True
        if metric.value is None:
            one.is_null = True
        else:
            _write_value(one, metric)
    return bytes(message.SerializeToString())


def _write_value(one: Any, metric: Metric) -> None:
    value = metric.value
    if isinstance(value, bool):
        one.boolean_value = value
    elif isinstance(value, int):
        setattr(one, "long_value" if _BITS.get(metric.datatype, 64) == 64 else "int_value", value)
    elif isinstance(value, float):
        setattr(one, "float_value" if metric.datatype == FLOAT else "double_value", value)
    elif isinstance(value, str):
        one.string_value = value.encode()
    elif value is not None:
        one.bytes_value = value


def typed(value: object, datatype: int) -> int | float | bool | str | bytes | None:
    """A value as its datatype has it; None if it is of another one.

    >>> typed(0xFF, 1), typed(0xFFFFFFFF, 1), typed(300, 1), typed(1, DOUBLE), typed(1.5, DOUBLE)
    (-1, -1, None, None, 1.5)
    """
    if isinstance(value, bool):
        return value if datatype == BOOLEAN else None
    if isinstance(value, int):
        return _whole(value, datatype)
    if isinstance(value, float):
        return value if datatype in (FLOAT, DOUBLE) else None
    if isinstance(value, str):
        return value if datatype in _TEXTS else None
    return value if isinstance(value, bytes) and datatype == BYTES else None


def _whole(value: int, datatype: int) -> int | None:
    """Signed numbers are sent in two's complement, of their own width, or of 32 or 64 bits."""
    bits = _BITS.get(datatype)
    if bits is None:
        return None
    if datatype <= INT64:
        for width in (bits, 32, 64):
            number = value - (1 << width) if value >= 1 << (width - 1) else value
            if value < 1 << width and -(1 << (bits - 1)) <= number < 1 << (bits - 1):
                return number
        return None
    return value if value < 1 << bits else None


def _metric(metric: Any, where: str) -> Metric:
    name = _text(metric.name, where)
    if len(name) > MAX_NAME:
        raise EvidenceError(f"{where}: expected names of at most {MAX_NAME} letters, got {name[:40]!r}")
    given = [field for field in _VALUES if metric.HasField(field)]
    if len(given) > 1:
        raise EvidenceError(f"{where}: expected one value in the metric {name[:40]!r}, got {len(given)}")
    alias = metric.alias if metric.HasField("alias") else None
    if not name and alias is None:
        raise EvidenceError(f"{where}: expected a name or an alias in each metric, got none")
    value: Any = None
    if given and given[0] not in ("dataset_value", "template_value") and not metric.is_null:
        value = getattr(metric, given[0])
        if given[0] == "string_value":
            value = _text(value, where)
    return Metric(name, alias, metric.datatype, value, metric.is_historical)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{where}: expected text in UTF-8, got {data[:40]!r}") from error


@cache
def _kinds() -> tuple[Any, type[Exception]]:
    """The class of payloads, and what protobuf raises for bytes that are none."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory  # noqa: PLC0415
    except ModuleNotFoundError as error:
        remedy = "Install what the twin's service needs: python -m pip install 'twinseal[service]'"
        raise ConfigError("source: expected the package protobuf, got none", remedy=remedy) from error
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="twinseal/sparkplug_b", package="twinseal.sparkplug_b")
    for name, fields in (("Metric", _METRIC), ("Payload", _PAYLOAD)):
        kind = file.message_type.add(name=name)
        for key, (number, type_name) in fields.items():
            kind.field.add(name=key, number=number, type=f"TYPE_{type_name}", label=field.LABEL_OPTIONAL)
    metrics = file.message_type[1].field.add(name="metrics", number=2, type=field.TYPE_MESSAGE)
    metrics.label, metrics.type_name = field.LABEL_REPEATED, ".twinseal.sparkplug_b.Metric"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("twinseal.sparkplug_b.Payload")
    return message_factory.GetMessageClass(found), message.DecodeError
