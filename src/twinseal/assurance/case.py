"""The assurance case: everything that the report and the model card are made from, read once and checked.

Signed statements carry the numbers that decide; they are read once, strictly, into the types of `twinseal.measures`.
Some figures need more points than a statement should hold (one estimate for every test window): those come from files.
A file that a statement names must be the file it names. One that no statement names is used and shown as unsigned, and
its numbers are compared with the signed ones where both exist.

Names of units, channels and attacks come from telemetry and settings: text from outside, to be escaped wherever it is
shown.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from twinseal.assurance.candidate_config import CandidateConfig
from twinseal.assurance.gates import Verdict
from twinseal.digests import parse_json, sha256
from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.escaping import csv_text
from twinseal.evidence import PROVENANCE, Statement, Subject, byproducts, materials
from twinseal.measures.stages import StageMeasures
from twinseal.prognostics.checkpoint import Model
from twinseal.prognostics.fitting import Epoch
from twinseal.reading import read_regular

PREDICTIONS, HISTORY = Path("reports/train/predictions.csv"), Path("reports/train/history.csv")
LIVES, FINDINGS = Path("reports/evade/lives.csv"), Path("data/quarantine/findings.json")
MAX_ROWS = 200_000
MAX_CYCLES = 1e9  # beyond this nothing is a count of cycles, and squares and axes overflow

MAX_NAMED_BYTES = 256 << 20  # predictions of some millions of windows


@dataclass(frozen=True)
class Estimate:
    """What was estimated for one test window, and what was true.

    Attributes:
        unit: The machine, as telemetry names it.
        true_rul: Cycles left, capped as in training.
        network: The network's estimate, in cycles.
        boosting: That of gradient boosting, in cycles; None where it was not kept.
        band: The lowest and highest that an attacker could make of the network's estimate, as certified; None where
            that was not kept.
    """

    unit: str
    true_rul: float
    network: float
    boosting: float | None
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class Life:
    """The estimates over one machine's life, cycle by cycle, under one attack.

    Attributes:
        unit: The machine.
        attack: Its name and size; "no attack" for the truth.
        cycles: Cycles since its first, ascending.
        true_rul: Cycles left at each, capped as in training.
        network: The network's estimate at each without the guard, in cycles.
        guarded: The same with the guard; None where it abstains.
    """

    unit: str
    attack: str
    cycles: tuple[float, ...]
    true_rul: tuple[float, ...]
    network: tuple[float, ...]
    guarded: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not len(self.cycles) == len(self.true_rul) == len(self.network) == len(self.guarded):
            raise EvidenceError(f"life of {self.unit}: expected two estimates and one truth a cycle")


@dataclass(frozen=True)
class Case:
    """One candidate's assurance case.

    Attributes:
        model_name: The name under which it would be released.
        asset: The kind of machine.
        verdict: What the policy says.
        config: What kind of model it is.
        measures: What the stages measured, read from the statements.
        statements: Verified statements by stage, for where everything came from.
        model: Its files, named `model/…`.
        policy: All of policy/, as one digest.
        inputs: The evidence read, by the digest of each envelope.
        time_verified: When it was judged, RFC 3339, UTC.
        estimates: One for each test window; empty when none were kept.
        history: Training history of the first network, one entry an epoch.
        lives: One machine's whole life, without an attack and under each.
        findings: What validation found, one line each, as it was written.
        unsigned: Files above that no signed statement names.
    """

    model_name: str
    asset: str
    verdict: Verdict
    config: CandidateConfig
    measures: StageMeasures
    statements: Mapping[str, Statement]
    model: tuple[Subject, ...]
    policy: Subject
    inputs: tuple[Subject, ...]
    time_verified: str
    estimates: tuple[Estimate, ...] = ()
    history: tuple[Epoch, ...] = ()
    lives: tuple[Life, ...] = ()
    findings: tuple[str, ...] = ()
    unsigned: tuple[str, ...] = ()


def assemble(
    verdict: Verdict,
    statements: Mapping[str, Statement],
    model: Model,
    files: tuple[Subject, ...],
    *,
    policy: Subject,
    inputs: tuple[Subject, ...],
    time_verified: str,
) -> Case:
    """The case of a candidate, with what validate, train and evade left in the working directory to draw.

    Args:
        verdict: What the policy says.
        statements: Verified statements by stage; optional ones too.
        model: The candidate.
        files: Its files, named `model/…`.
        policy: All of policy/, as one digest.
        inputs: The evidence that the verdict was read from.
        time_verified: RFC 3339, UTC.

    Raises:
        DigestMismatchError: A file is not the one that a statement names.
        EvidenceError: A file is not what it should be.
    """
    named = named_digests(statements)
    kept = {path: read_named(path, named) for path in (PREDICTIONS, HISTORY, LIVES, FINDINGS)}
    predictions, history, lives, findings = kept.values()
    return Case(
        model_name=model.contract.model,
        asset=model.contract.asset,
        verdict=verdict,
        config=CandidateConfig.of(model, statements.get("train")),
        measures=StageMeasures.read(statements),
        statements=statements,
        model=files,
        policy=policy,
        inputs=inputs,
        time_verified=time_verified,
        estimates=parse_estimates(predictions, str(PREDICTIONS)) if predictions else (),
        history=parse_history(history, str(HISTORY)) if history else (),
        lives=parse_lives(lives, str(LIVES)) if lives else (),
        findings=parse_findings(findings, str(FINDINGS)) if findings else (),
        unsigned=tuple(path.as_posix() for path, data in kept.items() if data and path.as_posix() not in named),
    )


def named_digests(statements: Mapping[str, Statement]) -> dict[str, set[str]]:
    """Every file that the statements name, as subject, material, configuration or byproduct, with its digests."""
    named: dict[str, set[str]] = {}
    for statement in statements.values():
        made = statement.predicate_type == PROVENANCE
        made_from = (*materials(statement), *byproducts(statement)) if made else ()
        configuration = statement.predicate.get("configuration")
        listed = [Subject.from_dict(item) for item in configuration] if isinstance(configuration, list) else []
        for item in (*statement.subjects, *made_from, *listed):
            named.setdefault(item.name, set()).add(item.sha256)
    return named


def read_named(path: Path, named: Mapping[str, set[str]]) -> bytes | None:
    """The bytes of a file that a figure needs; None when there is no such file.

    Raises:
        DigestMismatchError: A statement names the file, and these are not its bytes.
        EvidenceError: It is no regular file, or too long.
    """
    try:
        data = read_regular(path, MAX_NAMED_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvidenceError(f"{path}: expected what its stage wrote, got none ({error.strerror})") from error
    if len(data) > MAX_NAMED_BYTES:
        raise EvidenceError(f"{path}: expected at most {MAX_NAMED_BYTES} bytes, got more")
    expected = named.get(path.as_posix())
    if expected and sha256(data) not in expected:
        raise DigestMismatchError(
            f"{path}: expected sha256 {min(expected)[:12]}… as signed, got {sha256(data)[:12]}…",
            remedy=(
                "Someone changed the file after its stage ran. Find out who, then run that stage again "
                "with dvc repro --force."
            ),
        )
    return data


def parse_estimates(data: bytes, where: str) -> tuple[Estimate, ...]:
    """The rows of predictions.csv: unit, true_rul, network; boosting, network_low, network_high where they are kept.

    Raises:
        EvidenceError: A column is missing, or a number is none or not finite.
    """
    rows = _rows(data, where, ("unit", "true_rul", "network"))
    return tuple(
        Estimate(
            csv_text(row["unit"]),
            _number(row["true_rul"], where),
            _number(row["network"], where),
            _number(row["boosting"], where) if row.get("boosting") else None,
            _band(row, where),
        )
        for row in rows
    )


def parse_history(data: bytes, where: str) -> tuple[Epoch, ...]:
    """The rows of history.csv: one for each epoch, with a column for each field of `Epoch`.

    Raises:
        EvidenceError: A column is missing, or a cell is no finite number.
    """
    names = tuple(field.name for field in fields(Epoch))
    rows = _rows(data, where, names)
    return tuple(Epoch(int(_number(row["epoch"], where)), *(_number(row[n], where) for n in names[1:])) for row in rows)


def parse_lives(data: bytes, where: str) -> tuple[Life, ...]:
    """The rows of lives.csv (unit, attack, cycle, true_rul, network, guarded), by unit and attack as they appear.

    Raises:
        EvidenceError: A column is missing, or a number is none or not finite; only `guarded` may be empty.
    """
    groups: dict[tuple[str, str], list[tuple[float, float, float, float | None]]] = {}
    for row in _rows(data, where, ("unit", "attack", "cycle", "true_rul", "network", "guarded")):
        cycle, truth, network = (_number(row[key], where) for key in ("cycle", "true_rul", "network"))
        guarded = _number(row["guarded"], where) if row["guarded"] else None
        groups.setdefault((csv_text(row["unit"]), csv_text(row["attack"])), []).append((cycle, truth, network, guarded))
    ordered = {key: sorted(points, key=lambda point: point[0]) for key, points in groups.items()}
    return tuple(Life(*key, *zip(*points, strict=True)) for key, points in ordered.items())


def parse_findings(data: bytes, where: str) -> tuple[str, ...]:
    """What validation found: a JSON list of lines, or of objects that are shown as `key value` pairs.

    Raises:
        EvidenceError: Not a JSON list.
    """
    value = parse_json(data, where, limit=64 << 20)
    if isinstance(value, dict):
        value = value.get("findings")
    if not isinstance(value, list):
        raise EvidenceError(f"{where}: expected a list of findings, got {type(value).__name__}")
    return tuple(_line(item) for item in value)


def _band(row: dict[str, str], where: str) -> tuple[float, float] | None:
    low, high = row.get("network_low"), row.get("network_high")
    return (_number(low, where), _number(high, where)) if low and high else None


def _line(item: Any) -> str:
    """A finding as `telemetry.screening` writes it for people; anything else as its keys and values."""
    if not isinstance(item, dict):
        return str(item)
    if not {"unit", "first_cycle", "last_cycle", "channel", "rule", "observed", "bound"} <= set(item):
        return ", ".join(f"{key} {value}" for key, value in item.items())
    place = f"{item['unit']}, cycles {item['first_cycle']}–{item['last_cycle']}" if item["unit"] else "fleet"
    got = "none" if item["observed"] is None else item["observed"]
    return f"{place}, {item['channel']}: {item['rule']}: expected {item['bound']}, got {got}"


def _rows(data: bytes, where: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), restkey="", restval="", strict=True)
        missing = sorted(set(columns) - set(reader.fieldnames or ()))
        if missing:
            raise EvidenceError(f"{where}: expected columns {', '.join(columns)}, missing {', '.join(missing)}")
        rows = [row for row, _ in zip(reader, range(MAX_ROWS + 1), strict=False)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvidenceError(f"{where}: expected CSV, got something else ({error})") from error
    if len(rows) > MAX_ROWS:
        raise EvidenceError(f"{where}: expected at most {MAX_ROWS} rows, got more")
    return rows


def _number(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except (TypeError, ValueError) as error:
        raise EvidenceError(f"{where}: expected a number, got {str(cell)[:40]!r}") from error
    if not math.isfinite(number):
        raise EvidenceError(f"{where}: expected a finite number, got {number}")
    if abs(number) > MAX_CYCLES:
        raise EvidenceError(f"{where}: expected cycles, got {number:g}")
    return number
