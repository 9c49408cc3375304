"""The chain of evidence: whether the signed records of the stages are about the model in hand.

A statement that is signed and PASSED proves nothing about this model until its digests lead to it. The chain is walked
backwards from the files in hand, each link by SHA-256:

    model files ← train ← prepare ← validate ← ingest
    model files ← evade, poison        (and the data they were run on, which the same chain must lead to)
    policy ← every stage that obeyed a part of it: a test under milder threats is no evidence. A record names the part
             that is about its asset (`policy/threats.yaml#pump`), so that entries of other assets may come and go
    code ← every stage that ran it: a test by other code is no evidence

It is walked in one place, here, for everybody: the assessor's gates ask `broken_links` for each stage, and whoever
verifies a bundle (builder, reviewer, twin) asks `first_broken_link`. A bundle carries no code, so step 7 is left out
there; the verdict in it was reached with that step.

Rule: a record that is absent, of another type, not PASSED, or about something else is a broken link, and what depends
on a broken link is broken too. Removing evidence can only break links, never mend one (a property test holds it).
"""

from __future__ import annotations

from collections.abc import Mapping

from twinseal.errors import EvidenceError
from twinseal.evidence import CODE, PROVENANCE, TEST_RESULT, Statement, Subject, materials, outcome

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
DEPENDS_ON = "depends on"  # how the reason begins where the fault is in an earlier record
WALK = ("train", "prepare", "validate", "ingest", "evade", "poison")  # from the model backwards; a test compares
CONTRACT, KNOWN, THREATS = "policy/contract.yaml", "policy/reference.yaml", "policy/threats.yaml"
EVALUATION = "policy/evaluation.yaml"
SALT = "data/accepted/split_salt.json"
OBEYED = {
    "ingest": (CONTRACT,),
    "validate": (CONTRACT, KNOWN),
    "prepare": (CONTRACT, EVALUATION),
    "train": (CONTRACT,),
    "evade": (THREATS,),
    "poison": (CONTRACT, EVALUATION, THREATS),
}


def broken_links(
    statements: Mapping[str, Statement],
    model: tuple[Subject, ...],
    policy: tuple[Subject, ...] | None,
    code: Mapping[str, Subject] | None = None,
    asset: str = "",
) -> dict[str, str]:
    """For each required stage, why its record is no evidence about `model`; "" where it is evidence.

    The steps, numbered as in the body:

    1. each record is there, of the type required, and PASSED where its type has a result
    2. train made exactly the files in hand; evade and poison tested exactly those
    3. the windows that train read are those that prepare made; evade ran on them too
    4. the telemetry that prepare read is what validate accepted, and the salt that it split by is the one that was
       drawn there; poison ran on this telemetry too
    5. the telemetry that validate looked at is what ingest read in
    6. each stage obeyed the policy in hand, by which the verdict will be reached, in its parts for one asset, the same
       for all; left out without any
    7. each stage ran the code in hand; left out without any

    Args:
        statements: Verified statements by stage; how they were verified is not this module's business.
        model: The files in hand, named `model/…`, hashed by the caller from their bytes.
        policy: The parts of the policy in hand (`policy_entries.part_subjects`); None where there is none.
        code: The code in hand of each stage, as one digest named `code`; None where there is none, as in a bundle.
        asset: The kind of machine; "": that whose contract train says that it obeyed.
    """
    reasons = {stage: _type_or_result_fault(stage, statements.get(stage)) for stage in REQUIRED}  # 1

    def require(stage: str, link: str, *, needs: str = "") -> None:
        if not reasons[stage]:
            upstream = f"{DEPENDS_ON} {needs}, which is no evidence" if needs and reasons[needs] else ""
            reasons[stage] = upstream or link

    get = statements.get
    require("train", _difference("files of the model", model, _subjects(get("train"), "")))  # 2
    for stage in ("evade", "poison"):
        require(stage, _difference("files of the model", model, _subjects(get(stage), MODEL)), needs="train")
    windows = _subjects(get("prepare"), *WINDOWS)
    link = _difference("windows that train read", _materials(get("train"), *WINDOWS), windows, names=WINDOWS)
    require("prepare", link, needs="train")  # 3
    link = _difference("windows it ran on", windows, _subjects(get("evade"), *WINDOWS), names=WINDOWS)
    require("evade", link, needs="prepare")
    accepted = _subjects(get("validate"), ACCEPTED)
    link = _difference("telemetry that prepare read", _materials(get("prepare"), ACCEPTED), accepted, (ACCEPTED,))
    require("validate", link, needs="prepare")  # 4
    link = _difference("salt", _materials(get("prepare"), SALT), _subjects(get("validate"), SALT), (SALT,))
    require("validate", link, needs="prepare")
    link = _difference("telemetry it ran on", accepted, _subjects(get("poison"), ACCEPTED), (ACCEPTED,))
    require("poison", link, needs="validate")
    read = _subjects(get("validate"), RAW)
    link = _difference("telemetry that validate read", read, _subjects(get("ingest"), RAW), (RAW,))
    require("ingest", link, needs="validate")  # 5
    asset = asset or _asset_of(get("train"))
    what = f"entries of policy for '{asset[:40]}'" if asset else "entries of policy"
    for stage, files in OBEYED.items() if policy is not None else ():  # 6
        obeyed = (*_materials(get(stage), "policy/"), *_configuration(get(stage), "policy/"))
        names = tuple(f"{file}#{asset}" for file in files)
        expected = tuple(subject for subject in policy or () if subject.name in names)
        require(stage, _difference(what, expected, obeyed, names=names))
    for stage, expected_code in (code or {}).items():  # 7
        ran = (*_materials(get(stage), CODE), *_configuration(get(stage), CODE))
        require(stage, _difference("files of its code", (expected_code,), ran, names=(CODE,)))
    return reasons


def first_broken_link(
    statements: Mapping[str, Statement], model: tuple[Subject, ...], policy: tuple[Subject, ...] | None = None
) -> str:
    """The first record, walking backwards, that is itself at fault, and why; "" when every link holds.

    Args:
        statements: As `broken_links`.
        model: As `broken_links`.
        policy: As `broken_links`.
    """
    reasons = broken_links(statements, model, policy)
    found = [f"{stage}: {reasons[stage]}" for stage in WALK if reasons[stage]]
    return next((line for line in found if f": {DEPENDS_ON} " not in line), found[0] if found else "")


def _asset_of(train: Statement | None) -> str:
    """The asset whose contract a record of train names; "" if it names none, or several."""
    named = {subject.name.partition("#")[2] for subject in _materials(train, f"{CONTRACT}#")}
    return named.pop() if len(named) == 1 else ""


def _type_or_result_fault(stage: str, statement: Statement | None) -> str:
    if not isinstance(statement, Statement):
        return f"no record of {stage}"
    expected = REQUIRED[stage]
    if statement.predicate_type != expected:
        return f"expected a record of type {expected}, got {statement.predicate_type}"
    if expected == TEST_RESULT and outcome(statement) != "PASSED":
        return f"expected the result PASSED, got {outcome(statement) or 'none'}"
    return ""


def _difference(what: str, expected: tuple[Subject, ...], got: tuple[Subject, ...], names: tuple[str, ...] = ()) -> str:
    """Why two lists do not have the same names and digests, each once; "" if they do. Empty lists never agree.

    Args:
        what: What the lists are of, for the reason.
        expected: One list.
        got: The other.
        names: Exactly the names that both must have, where they are known beforehand.
    """
    if not expected or not got or (names and not {subject.name for subject in got}.issuperset(names)):
        return f"about something else: no {what} on record"
    unexpected = {subject for subject in got if names and subject.name not in names}
    odd = {subject.name for subject in (set(expected) ^ set(got)) | unexpected}
    if odd or len(expected) != len(got):
        shown = ", ".join(sorted(odd)[:3]) + (", …" if len(odd) > 3 else "")
        return f"about something else: the {what} differ ({shown or 'one is there twice'})"
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
