"""Words: what a key of measures is called on a page. The one table of the names of attacks, aims and tests.

A signed record has keys (`pgd`, `eps-0.1`); people read words (PGD, 0.1 σ). Report, card and figures take their words
from here, and docs/robustness/method.md uses the same ones. Names of threats come from policy/threats.yaml: any text
is accepted.

>>> words("all-sensors/pgd/any/eps-0.1")
'all sensors, PGD, any error, 0.1 σ'
>>> sized("slow-drift", "rate-0.005")
'slow drift, 0.5 % of the allowed change per cycle'
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twinseal.measures.keys import Aim, Name, Size, number_of
from twinseal.measures.robustness import AttackName

ATTACKS: dict[AttackName, str] = {
    "fgm": "FGM",
    "bim": "BIM",
    "pgd": "PGD",
    "pgd-smoothed": "PGD on a smoothed surrogate",
    "strong": "PGD with several starts (APGD)",
    "square": "square attack (queries only)",
    "transfer": "transfer from a surrogate",
    "noise": "random noise",
}
AIMS: dict[Aim, str] = {"any": "any error", "healthy-washing": "healthy-washing"}
TESTS: dict[str, str] = {  # the fields of RobustnessMeasures in which attacks are
    "evasion": "evasion",
    "commissioned": "evasion, network that reads the signed baseline",
    "median_certificate": "controlled members of the median",
    "injection": "injection",
    "falsified_histories": "falsified histories",
    "guard_aware": "an attacker who knows the guard",
    "repair_abuse": "repair abuse",
    "spent_life": "lost, repeated and renamed rows",
    "held_sensors": "a few sensors held by who knows guard and ledger",
    "owned_sensors": "controlled sensors",
    "false_age": "a false age",
    "boosted_trees": "attacks on gradient boosting",
    "extraction": "extraction",
    "membership": "membership inference",
}
SPENT_LIFE: dict[str, str] = {  # what `robustness.attacks.spent_life` does, in the order of the report
    "clean": "honest",
    "lost": "of the last rows only the healthiest arrive",
    "lost-few": "the same, within the contract's share",
    "lost-all-along": "the same over the whole life",
    "withheld": "of the last rows only the newest arrives",
    "withheld-few": "the same, within the contract's share of a window",
    "renumbered": "first rows again, numbered as the newest",
    "reset": "first rows again, the twin lost its window",
    "reset-renumbered": "a window of first rows as the newest, the twin lost its window",
    "forgotten": "a window of first rows as the newest, the twin lost its ledger",
    "renamed": "first rows again, under an unknown name",
    "lost-worn": "of the last rows only the most worn arrive",
    "lost-few-worn": "the same within the contract's share, most worn",
}
SIGNATURES = {"biased": "constant bias", "random": "random bias", "down": "too low", "up": "too high"}
HYPHENATED = ("healthy-washing", "clean-label")  # terms of the glossary

_FIXED: dict[str, str] = {str(key): text for table in (ATTACKS, AIMS) for key, text in table.items()}
_NUMBERS: dict[str, Callable[[float], str]] = {
    "eps": lambda number: f"{number:g} σ",
    "size": lambda number: f"{number:g} σ",
    "rate": lambda number: f"{100 * number:g} % of the allowed change per cycle",
    "share": lambda number: f"{100 * number:g} % of the units",
}


def words(path: str) -> str:
    """Keys joined by slashes, as a list of words; what is no known key is a name."""
    return ", ".join(map(word, path.split("/")))


def word(key: str) -> str:
    """One key in words, a number with its unit."""
    kind = re.fullmatch(r"([a-z]+)-\d+(?:\.\d+)?", key, re.ASCII)
    if kind and kind[1] in _NUMBERS:
        return _NUMBERS[kind[1]](number_of(key))
    return _FIXED.get(key) or name_words(key)


def name_words(name: Name) -> str:
    """The name of a threat: `slow-drift` is slow drift. Terms that are written with a hyphen keep it."""
    spaced = re.sub(r"[-_]+", " ", name)
    for term in HYPHENATED:
        spaced = spaced.replace(term.replace("-", " "), term)
    return spaced


def signature_words(name: Name) -> str:
    """A signature of the injection: `biased-interim-up` is constant bias, interim, too high."""
    return ", ".join(SIGNATURES.get(part, part) for part in name.split("-"))


def sized(name: Name, size: Size) -> str:
    """A falsified history with its size; no size where the attack has none."""
    return f"{name_words(name)}, {word(size)}" if number_of(size) else name_words(name)
