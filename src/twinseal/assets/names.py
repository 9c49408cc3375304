"""Channel names and descriptions, from what stands in a header beside its unit of measure.

>>> channel_name("Öl-Temp. [°C]"), channel_name("P2 (kPa)"), description("P2 (kPa)")
('oel_temp', 'p2', '')
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from twinseal.assets.units_of_measure import in_brackets
from twinseal.escaping import visible
from twinseal.telemetry.contract import KEYS

MAX_NAME = 40
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
_LETTERS = str.maketrans({"ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "å": "a", "Å": "A", "ł": "l", "Ł": "L", "đ": "d"})
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "Δ": "delta", "η": "eta", "θ": "theta", "ϑ": "theta",
    "λ": "lambda", "μ": "mu", "µ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ω": "omega", "Ω": "omega",
}  # fmt: skip


def channel_name(header: str) -> str:
    """A plain name for a channel: ASCII, words joined by underscores; "channel" if nothing is left."""
    text = _without_unit(header)
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


def description(header: str) -> str:
    """What a header says beside its unit, on one line, of what can be seen; "" where the channel's name says it."""
    text = _without_unit(header)
    words = " ".join(visible(text).split())[:120]
    return "" if words.lower().replace(" ", "_") == channel_name(header) else words


def _without_unit(header: str) -> str:
    text, _ = in_brackets(header)
    return header.rstrip().removesuffix(text) if text else header
