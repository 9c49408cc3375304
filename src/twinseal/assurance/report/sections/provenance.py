"""Provenance: what the records are about, what everything was made from, and where it was trained."""

from __future__ import annotations

from typing import Any

from twinseal.assurance.case import Case
from twinseal.assurance.report.blocks import Caveat, Content, Folded, Pair, Table
from twinseal.assurance.report.section import Section
from twinseal.errors import EvidenceError
from twinseal.evidence import PROVENANCE, Statement, Subject, materials
from twinseal.measures.words import TESTS, name_words

PACKAGES = (
    "adversarial-robustness-toolbox",
    "great_expectations",
    "numpy",
    "pandas",
    "progpy",
    "safetensors",
    "scikit-learn",
    "torch",
)


def build(case: Case) -> Content:
    """Digests first, then environment and params, then the tests that ran."""
    pair = tuple(item for item in (environment(case), parameters(case)) if item is not None)
    below = (subjects(case), made_from(case), envelopes(case), counts_of_tests(case))
    folded = (Folded("Environment and params of the training", (Pair(pair),)),) if pair else ()
    return Content(below=(*(item for item in below if item is not None), *folded), caveats=caveats(case))


def subjects(case: Case) -> Table:
    """What each signed record is about, and the candidate's own files, by SHA-256."""
    rows = [("candidate", item.name, item.sha256) for item in case.model]
    for stage, statement in case.statements.items():
        rows += [(stage, item.name, item.sha256) for item in statement.subjects if not item.name.startswith("model/")]
    return Table("What the records are about, by SHA-256", ("record", "file", "sha256"), tuple(rows), prose=True)


def made_from(case: Case) -> Table:
    """Everything that was read to make the candidate (data, code, params, policy, locks), once each, by SHA-256."""
    users: dict[Subject, list[str]] = {}
    for stage, statement in case.statements.items():
        for item in _materials(statement):
            users.setdefault(item, []).append(stage)
    rows = tuple((item.name, ", ".join(stages), item.sha256) for item, stages in sorted(users.items()))
    judged = (("policy", "assess", case.policy.sha256),)
    headers = ("material", "read by", "sha256")
    return Table("What it was made from, and the policy that judged it", headers, rows + judged, prose=True)


def envelopes(case: Case) -> Table | None:
    """The signed envelopes that were read, by SHA-256."""
    rows = tuple((item.name, item.sha256) for item in case.inputs)
    caption = "The signed envelopes that this verdict was read from"
    return Table(caption, ("envelope", "sha256"), rows, prose=True) if rows else None


def counts_of_tests(case: Case) -> Table | None:
    """Which tests ran: how many, by stage and attack."""
    counts: dict[tuple[str, str], list[int]] = {}
    for stage, statement in case.statements.items():
        for column, key in enumerate(("passedTests", "warnedTests")):
            listed: Any = statement.predicate.get(key)
            for name in listed if isinstance(listed, list) else ():
                counts.setdefault((stage, _group(stage, str(name))), [0, 0])[column] += 1
    rows = tuple((stage, group, str(ran), str(warned)) for (stage, group), (ran, warned) in counts.items())
    headers = ("stage", "tests", "ran without a fault", "with a warning")
    return Table("Which tests ran", headers, rows, prose=True) if rows else None


def _group(stage: str, name: str) -> str:
    """The attack that a test belongs to; expectations of the contract are one group."""
    first = name.partition("/")[0]
    return "expectations of the contract" if stage == "validate" else TESTS.get(first) or name_words(first)


def environment(case: Case) -> Table | None:
    """Python, machine and the packages that matter, as training recorded them."""
    found = _build(case).get("internalParameters")
    if not isinstance(found, dict):
        return None
    packages = found.get("packages")
    rows = [(str(key), str(value)) for key, value in found.items() if isinstance(value, str)]
    if isinstance(packages, dict):
        rows += [(name, str(packages[name])) for name in PACKAGES if name in packages]
        rows.append(("packages in all", str(len(packages))))
    return Table("Where it was trained", ("what", "version"), tuple(rows), prose=True)


def parameters(case: Case) -> Table | None:
    """The params that training obeyed."""
    rows = tuple(_flat(_build(case).get("externalParameters")))
    return Table("The params of the training", ("param", "value"), rows, prose=True) if rows else None


def caveats(case: Case) -> tuple[Caveat, ...]:
    """Stages that ran with different code, policy or packages; and what digests cannot show."""
    texts = []
    for name in ("code", "policy", "requirements"):
        digests = {
            stage: item.sha256
            for stage, statement in case.statements.items()
            for item in _materials(statement)
            if item.name == name
        }
        if len(set(digests.values())) > 1:
            listed = ", ".join(f"{stage} {digest[:8]}" for stage, digest in digests.items())
            texts.append(f"The stages did not all run with the same {name}: {listed}.")
    texts.append(
        "Digests show that nothing changed between the stages. They do not show that the telemetry was true when it "
        "was read in."
    )
    return tuple(map(Caveat, texts))


def _build(case: Case) -> dict[str, Any]:
    train = case.statements.get("train")
    found = train.predicate.get("buildDefinition") if train else None
    return found if isinstance(found, dict) else {}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, str(value))] if prefix else []


def _materials(statement: Statement) -> tuple[Subject, ...]:
    try:
        return materials(statement) if statement.predicate_type == PROVENANCE else ()
    except EvidenceError:
        return ()


SECTION = Section("provenance", "Provenance", 900, build)
