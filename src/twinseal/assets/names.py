"""Channel names and units of measure, from what stands in a header.

>>> channel_name("Öl-Temp. [°C]"), unit_of_measure("Öl-Temp. [°C]")
('oel_temp', '°C')
>>> channel_name("P2 (kPa)"), unit_of_measure("P2 (kPa)"), unit_of_measure("H2")
('p2', 'kPa', '1')
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from twinseal.escaping import visible
from twinseal.telemetry.contract import KEYS

MAX_NAME = 40
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
_LETTERS = str.maketrans({"ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "å": "a", "Å": "A", "ł": "l", "Ł": "L", "đ": "d"})
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "delta", "η": "eta", "θ": "theta", "ϑ": "theta",
    "λ": "lambda", "μ": "mu", "µ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Ω": "omega",
}  # fmt: skip
# A unit of measure at the end of a header: in brackets, or after a slash.
_MEASURE = re.compile(r"\s*(?:\[(?P<a>[^\[\]]{1,20})\]|\((?P<b>[^()]{1,20})\)|\bin\s+(?P<c>\S{1,12}))\s*$")
# What stands in round brackets may be a remark instead: it is a unit only if it looks like one.
_LOOKS_LIKE_UNIT = re.compile(r"[°%‰µμΩ]|^[A-Za-zµμΩ]{1,5}([²³23]|\^-?\d)?([/·*.\- ][A-Za-z]{1,5}([²³23]|\^-?\d)?)*$")


def channel_name(header: str) -> str:
    """A plain name for a channel: ASCII, words joined by underscores; "channel" if nothing is left."""
    text = _MEASURE.sub("", header) if unit_of_measure(header) != "1" else header
    text = unicodedata.normalize("NFC", text).translate(_GERMAN).translate(_LETTERS)
    text = "".join(f" {_GREEK[letter]} " if letter in _GREEK else letter for letter in text)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", text).lower()  # OilTemp
    name = re.sub(r"[^a-z0-9]+", "_", text).strip("_")
    if not name or not name[0].isalpha():
        name = f"channel_{name}" if name else "channel"
    return name[:MAX_NAME].rstrip("_")


def channel_names(headers: Iterable[str]) -> dict[str, str]:
    """Header → channel, each once, none of the key columns of a fleet."""
    taken, found = set(KEYS), {}
    for header in headers:
        name, number = channel_name(header), 2
        while name in taken:
            end = f"_{number}"
            name, number = f"{channel_name(header)[: MAX_NAME - len(end)]}{end}", number + 1
        taken.add(name)
        found[header] = name
    return found


def unit_of_measure(header: str) -> str:
    """The unit of measure that a header names; "1" if it names none."""
    match = _MEASURE.search(header)
    if not match:
        return "1"
    text = next(part for part in match.groups() if part is not None).strip()
    if not text or (match["a"] is None and not _LOOKS_LIKE_UNIT.search(text)):
        return "1"
    return visible(text) if text not in ("-", "–") else "1"


def description(header: str) -> str:
    """What a header says beside its unit, on one line, of what can be seen; "" where the channel's name says it."""
    text = _MEASURE.sub("", header) if unit_of_measure(header) != "1" else header
    words = " ".join(visible(text).split())[:120]
    return "" if words.lower().replace(" ", "_") == channel_name(header) else words
