"""The chain of evidence: which signed records there must be, and whether they are about the model in hand.

A statement that is signed and PASSED proves nothing about this model until its digests lead to it. Walked backwards
from the files in hand, each link by SHA-256:

    model files ← train ← prepare ← validate ← ingest
    model files ← evade, poison        (and the data they were run on, which the same chain must lead to)
    policy files ← every stage that obeyed one: a battery that ran under milder threats is no evidence

Rule: what is absent, of another type, not PASSED, or about something else is a broken link, and whatever hangs on a
broken link is broken too. Removing evidence can only break links, never mend one (a property test holds it).
"""

from __future__ import annotations

from collections.abc import Mapping

from twinseal.errors import EvidenceError
from twinseal.evidence import PROVENANCE, TEST_RESULT, Statement, Subject, materials, outcome

REQUIRED = {
    "ingest": PROVENANCE,
    "validate": TEST_RESULT,
    "prepare": PROVENANCE,
    "train": PROVENANCE,
    "evade": TEST_RESULT,
    "poison": TEST_RESULT,
}
RAW = "data/raw/telemetry.parquet"
ACCEPTED = "data/accepted/telemetry.parquet"
WINDOWS = ("data/windows/preparation.json", "data/windows/windows.safetensors")
MODEL = "model/"
HANGS = "it hangs on"
CONTRACT, KNOWN, THREATS = "policy/contract.yaml", "policy/reference.yaml", "policy/threats.yaml"
OBEYED = {
    "ingest": (CONTRACT,),
    "validate": (CONTRACT, KNOWN),
    "prepare": (CONTRACT,),
    "train": (CONTRACT,),
    "evade": (THREATS,),
    "poison": (CONTRACT, THREATS),
}


def broken_links(
    statements: Mapping[str, Statement], model: tuple[Subject, ...], policy: tuple[Subject, ...]
) -> dict[str, str]:
    """For each required stage, why its record is no evidence about `model`; "" where it is.

    The steps, numbered as in the body:

    1. each record is there, of the type required, and PASSED where its type has a result
    2. train made exactly the files in hand; evade and poison tested exactly those
    3. the windows that train read are those that prepare made; evade ran on them too
    4. the telemetry that prepare read is what validate accepted; poison ran on it too
    5. the telemetry that validate looked at is what ingest read in
    6. each stage obeyed the policy files in hand, those that the verdict will be by

    Args:
        statements: Verified statements by stage; how they were verified is not this module's business.
        model: The files in hand, named `model/…`, hashed by the caller from their bytes.
        policy: The policy files in hand, named `policy/…`, likewise.
    """
    reasons = {stage: _unfit(stage, statements.get(stage)) for stage in REQUIRED}  # 1

    def require(stage: str, link: str, *, needs: str = "") -> None:
        if not reasons[stage]:
            upstream = f"{HANGS} {needs}, which is no evidence" if needs and reasons[needs] else ""
            reasons[stage] = upstream or link

    get = statements.get
    require("train", _same("files of the model", model, _subjects(get("train"), "")))  # 2
    for stage in ("evade", "poison"):
        require(stage, _same("files of the model", model, _subjects(get(stage), MODEL)), needs="train")
    windows = _subjects(get("prepare"), *WINDOWS)
    link = _same("windows that train read", _materials(get("train"), *WINDOWS), windows, names=WINDOWS)
    require("prepare", link, needs="train")  # 3
    link = _same("windows it ran on", windows, _subjects(get("evade"), *WINDOWS), names=WINDOWS)
    require("evade", link, needs="prepare")
    accepted = _subjects(get("validate"), ACCEPTED)
    link = _same("telemetry that prepare read", _materials(get("prepare"), ACCEPTED), accepted)
    require("validate", link, needs="prepare")  # 4
    require("poison", _same("telemetry it ran on", accepted, _subjects(get("poison"), ACCEPTED)), needs="validate")
    link = _same("telemetry that validate read", _subjects(get("validate"), RAW), _subjects(get("ingest"), RAW))
    require("ingest", link, needs="validate")  # 5
    for stage, names in OBEYED.items():  # 6
        obeyed = (*_materials(get(stage), "policy/"), *_configuration(get(stage), "policy/"))
        wanted = tuple(subject for subject in policy if subject.name in names)
        require(stage, _same("policy files", wanted, obeyed, names=names))
    return reasons


def _unfit(stage: str, statement: Statement | None) -> str:
    if not isinstance(statement, Statement):
        return f"no record of {stage}"
    expected = REQUIRED[stage]
    if statement.predicate_type != expected:
        return f"expected a record of type {expected}, got {statement.predicate_type}"
    if expected == TEST_RESULT and outcome(statement) != "PASSED":
        return f"expected the result PASSED, got {outcome(statement) or 'none'}"
    return ""


def _same(what: str, expected: tuple[Subject, ...], got: tuple[Subject, ...], names: tuple[str, ...] = ()) -> str:
    """Why two lists are not one and the same list of digests, never empty and with all of `names`; "" if they are."""
    known = {subject.name for subject in got}
    if not expected or not got or not known.issuperset(names):
        return f"about something else: no {what} on record"
    odd = set(expected) ^ set(got)
    if odd or len(expected) != len(got):
        differing = sorted({subject.name for subject in odd})
        shown = ", ".join(differing[:3]) + (", …" if len(differing) > 3 else "")
        return f"about something else: the {what} differ ({shown})"
    return ""


def _subjects(statement: Statement | None, *prefixes: str) -> tuple[Subject, ...]:
    if not isinstance(statement, Statement):
        return ()
    return tuple(subject for subject in statement.subjects if subject.name.startswith(prefixes))


def _configuration(statement: Statement | None, *prefixes: str) -> tuple[Subject, ...]:
    listed = statement.predicate.get("configuration") if isinstance(statement, Statement) else None
    try:
        found = tuple(Subject.from_dict(item) for item in listed) if isinstance(listed, list) else ()
    except EvidenceError:
        return ()
    return tuple(subject for subject in found if subject.name.startswith(prefixes))


def _materials(statement: Statement | None, *prefixes: str) -> tuple[Subject, ...]:
    try:
        listed = materials(statement) if isinstance(statement, Statement) else ()
    except EvidenceError:
        return ()  # malformed is as good as absent: the link breaks
    return tuple(subject for subject in listed if subject.name.startswith(prefixes))
