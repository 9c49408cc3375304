from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from twinseal.assurance.case import (
    Estimate,
    Life,
    named_digests,
    parse_estimates,
    parse_findings,
    parse_history,
    parse_lives,
    read_named,
)
from twinseal.digests import sha256
from twinseal.errors import DigestMismatchError, EvidenceError
from twinseal.evidence import Statement
from twinseal.prognostics.fitting import Epoch
from twinseal.robustness.example_life import LifeRow


def test_subjects_materials_and_configuration_are_all_named(statements: dict[str, Statement]) -> None:
    named = named_digests(statements)
    expected = {"model/config.json", "data/windows/preparation.json", "policy/threats.yaml#pump", "requirements"}
    assert expected <= set(named)


def test_a_file_that_a_statement_names_must_be_that_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"unit,true_rul,network\na,1,2\n")
    assert read_named(path, {path.as_posix(): {sha256(path.read_bytes())}}) == path.read_bytes()
    path.write_bytes(b"unit,true_rul,network\na,1,1\n")
    with pytest.raises(DigestMismatchError, match=r"predictions\.csv: expected sha256 0000.*as signed, got"):
        read_named(path, {path.as_posix(): {"0" * 64}})


def test_a_file_that_no_statement_names_is_read_and_an_absent_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    assert read_named(path, {}) is None
    path.write_bytes(b"epoch\n1\n")
    assert read_named(path, {}) == b"epoch\n1\n"


def test_estimates_are_read_and_other_columns_left_alone() -> None:
    head, rows = (
        "unit,cycle,true_rul,network,boosting,network_low,network_high",
        ("pump-1,9,30,28.5,,,", "pump-2,9,12,10,11,8,13"),
    )
    data = "\n".join([head, *rows]).encode()
    assert parse_estimates(data, "p.csv") == (
        Estimate("pump-1", 30.0, 28.5, None),
        Estimate("pump-2", 12.0, 10.0, 11.0, (8.0, 13.0)),
    )


HISTORY = b"epoch,loss,train_rmse_cycles,validation_rmse_cycles,validation_worst_rmse_cycles,more\n"


def test_history_is_read_by_epoch_and_other_columns_are_left_alone() -> None:
    assert parse_history(HISTORY + b"1,2.5,9,10,20,x\n", "h.csv") == (Epoch(1, 2.5, 9.0, 10.0, 20.0),)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"epoch,loss\n1,2.5\n", "missing train_rmse_cycles, validation_rmse_cycles, validation_worst_rmse_cycles"),
        (HISTORY + b"1,,9,10,20,x\n", "expected a number, got ''"),
        (HISTORY + b"1,nan,9,10,20,x\n", "expected a finite number, got nan"),
    ],
)
def test_a_history_that_lacks_a_number_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=r"h\.csv: ") as refusal:
        parse_history(data, "h.csv")
    assert message in str(refusal.value)


def test_lives_have_the_columns_that_evade_writes() -> None:
    """Assurance imports no robustness: here the two are held together."""
    row = LifeRow("a", "replay", 1, 9.0, 8.0, None)
    cells = ["" if value is None else str(value) for value in asdict(row).values()]
    data = ",".join(asdict(row)) + "\n" + ",".join(cells) + "\n"
    assert parse_lives(data.encode(), "l.csv") == (Life("a", "replay", (1.0,), (9.0,), (8.0,), (None,)),)


def test_lives_are_grouped_by_attack_and_sorted_by_cycle_and_an_abstention_is_no_number() -> None:
    head = b"unit,attack,cycle,true_rul,network,guarded\n"
    data = head + b"a,none,2,8,7,6\na,none,1,9,8,8\na,replay,1,5,90,\n"
    honest, false = Life("a", "none", (1, 2), (9, 8), (8, 7), (8, 6)), Life("a", "replay", (1,), (5,), (90,), (None,))
    assert parse_lives(data, "l.csv") == (honest, false)
    with pytest.raises(EvidenceError, match="l.csv: expected a finite number, got nan"):
        parse_lives(head + b"a,none,1,9,8,nan\n", "l.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"unit,true_rul\na,1\n", "missing network"),
        (b"", "missing network, true_rul, unit"),
        (b"unit,true_rul,network\na,1,nan\n", "expected a finite number, got nan"),
        (b"unit,true_rul,network\na,1,inf\n", "expected a finite number, got inf"),
        (b"unit,true_rul,network\na,1,ten\n", "expected a number, got 'ten'"),
        (b"unit,true_rul,network\na,1\n", "expected a number, got ''"),
        (b"unit,true_rul,network\n\xff,1,2\n", "expected CSV, got something else"),
        (b'unit,true_rul,network\n"a,1,2\n', "expected CSV, got something else"),
    ],
)
def test_a_file_that_is_no_table_of_estimates_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=r"p\.csv: ") as refusal:
        parse_estimates(data, "p.csv")
    assert message in str(refusal.value)


def test_findings_are_lines_or_objects() -> None:
    whole = {"unit": "pump-3", "first_cycle": 4, "last_cycle": 9, "channel": "flow", "rule": "range"}
    whole |= {"observed": 9.5, "bound": "at most 8 l/s", "rows": 6}
    listed = ["pump-1: range", {"unit": "pump-2", "rule": "range"}, whole]
    found = "pump-3, cycles 4–9, flow: range: expected at most 8 l/s, got 9.5"
    expected = ("pump-1: range", "unit pump-2, rule range", found)
    assert parse_findings(json.dumps(listed).encode(), "f.json") == expected
    assert parse_findings(json.dumps({"findings": listed}).encode(), "f.json") == expected


@pytest.mark.parametrize("data", [b"{}", b"3", b'"x"', b"[", b"[NaN]"])
def test_findings_that_are_no_list_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError, match=r"f\.json: expected"):
        parse_findings(data, "f.json")
