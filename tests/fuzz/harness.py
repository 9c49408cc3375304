"""What a parser under test is, which there are, and what may become of the bytes that one is given.

The parsers themselves are in parsers.py: they take seconds to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinseal.errors import TwinsealError

NAMES = (
    "release",
    "statement",
    "seen",
    "envelope",
    "oms",
    "oms_said",
    "passkey",
    "passkey_signature",
    "root",
    "targets",
    "snapshot",
    "timestamp",
    "role",
    "root_of_trust",
    "config",
    "contract",
    "safetensors",
    "guard",
    "safetensors_header",
    "anchor",
    "anchor_said",
    "approval",
    "approval_said",
    "feed_lines",
    "feed_csv",
    "feed_parquet",
    "json_rows",
    "json_lines",
    "sparkplug",
    "frame",
    "frame_said",
    "frame_stream",
    "frame_memory",
    "devices_said",
    "lives_said",
    "alert_book",
    "alert_waits",
    "journal",
    "delivered",
    "units_image",
    "registry_answer",
    "registry_candidate",
    "registry_wire",
    "audit_entry",
    "audit_checkpoint",
    "audit_vkey",
)


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        name: What it parses; the fuzzer's target is called so.
        documents: Bytes that it takes, to start from.
        check: Parses and checks the law; raises a TwinsealError to refuse.
    """

    name: str
    documents: tuple[bytes, ...]
    check: Callable[[bytes], None]


class BrokenLawError(AssertionError):
    """A parser took bytes that it should not have, or gave something else back."""


def outcome(parser: Parser, data: bytes) -> str:
    """ "parsed" or "refused"; whatever else happens comes through as it is."""
    try:
        parser.check(data)
    except TwinsealError as error:
        f"{error}{error.remedy}".encode()  # a message that cannot be printed is no message
        return "refused"
    return "parsed"


def holds(law: bool, what: str) -> None:
    if not law:
        raise BrokenLawError(what)
